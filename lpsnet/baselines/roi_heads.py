"""Mask R-CNN's heads over boxes (He et al., ICCV 2017) in FPN's form (Lin et al., CVPR 2017)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpsnet.baselines.boxes import decode, suppress_to
from lpsnet.baselines.config import TwoStageConfig

_WEIGHTS = (10.0, 5.0)
"""Fast R-CNN normalises the deltas by standard deviations of 0.1 (shifts) and 0.2 (sides)."""


@dataclass(frozen=True)
class Instances:
    """Boxes by descending score.

    Attributes:
        boxes: float32[K, 4], xyxy in pixels of the network's input.
        scores: float32[K].
        labels: int64[K], index among the thing classes.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class BoxHead(nn.Module):
    """Two fully connected layers, then the classes with the background, and deltas for each class.

    The two output layers of the paper are one with the outputs of both.
    """

    def __init__(self, channels: int, num_things: int, config: TwoStageConfig) -> None:
        super().__init__()
        self.num_things = num_things
        self.fc1 = nn.Linear(channels * config.box_bins**2, config.box_channels)
        self.fc2 = nn.Linear(config.box_channels, config.box_channels)
        self.output = nn.Linear(config.box_channels, 1 + num_things * 5)
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.zeros_(self.output.bias)

    def forward(self, rois: Tensor) -> tuple[Tensor, Tensor]:
        """[K, C, bins, bins], channels last in memory, to logits [K, things + 1] and deltas [K, things, 4].

        The last logit is that of the background.
        """
        x = rois.permute(0, 2, 3, 1).flatten(1)  # in the order of the memory: no copy
        x = functional.relu(self.fc1(x), inplace=True)
        x = functional.relu(self.fc2(x), inplace=True)
        logits, deltas = self.output(x).split([self.num_things + 1, 4 * self.num_things], dim=1)
        return logits.float(), deltas.float().unflatten(1, (self.num_things, 4))


def detect(
    logits: Tensor, deltas: Tensor, proposals: Tensor, image_size: Sequence[int], config: TwoStageConfig
) -> Instances:
    """The best `config.detections` boxes; fewer where there are fewer pairs of a proposal and a class.

    Only the `config.detection_candidates` best pairs are decoded.

    Args:
        logits, deltas: of `BoxHead`.
        proposals: float32[K, 4].
        image_size: (height, width); boxes are clipped to it.
    """
    probabilities = logits.softmax(1)[:, :-1]
    num_things = probabilities.shape[1]
    scores, pairs = probabilities.flatten().topk(min(config.detection_candidates, probabilities.numel()))
    rows = pairs.div(num_things, rounding_mode="floor")
    labels = pairs % num_things
    boxes = decode(proposals[rows], deltas[rows, labels], _WEIGHTS, image_size)
    best = suppress_to(config.detections, boxes, scores, labels.int(), config.detection_iou)
    best = best.sort().values  # by descending score, as the pairs are: boxes that fill up come last else
    return Instances(boxes[best], scores[best], labels[best])


class MaskHead(nn.Module):
    """Convolutions, a transposed one that doubles the size, and per class a mask, of which only one is computed.

    A transposed 2x2 convolution of stride 2 is a 1x1 convolution with four times the channels, whose outputs lie in the
    four corners. ReLU and the mask of a class look at one pixel alone, so they come before the pixels are put in place,
    and the filter is that of the box's class: a mask for each of the other classes would be thrown away.
    """

    def __init__(self, channels: int, num_things: int, config: TwoStageConfig) -> None:
        super().__init__()
        width = config.mask_channels
        self.convs = nn.ModuleList(
            nn.Conv2d(channels if i == 0 else width, width, 3, padding=1) for i in range(config.mask_layers)
        )
        self.widen = nn.Conv2d(width, 4 * width, 1)
        self.filters = nn.Parameter(torch.empty(num_things, width))
        self.biases = nn.Parameter(torch.zeros(num_things))
        for layer in (*self.convs, self.widen):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.filters, std=0.001)

    def forward(self, rois: Tensor, labels: Tensor) -> Tensor:
        """[K, C, bins, bins] and classes int64[K] to logits float32[K, 2 * bins, 2 * bins]."""
        x = rois
        for conv in self.convs:
            x = functional.relu(conv(x), inplace=True)
        x = functional.relu(self.widen(x), inplace=True)
        k, channels, height, width = x.shape
        cells = x.permute(0, 2, 3, 1).reshape(k, height * width * 4, channels // 4)
        masks = torch.baddbmm(self.biases[labels][:, None, None], cells, self.filters[labels][:, :, None])
        return masks.float().view(k, height, width, 2, 2).transpose(2, 3).reshape(k, 2 * height, 2 * width)
