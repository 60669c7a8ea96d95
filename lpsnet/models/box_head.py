"""The box head: at every point of P3..P7 the distances to the sides of a box, and border-ness."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpsnet.config import BOX_STRIDES, ModelConfig
from lpsnet.models.norm import LevelNormReLU, through_layers

INITIAL_DISTANCE = 2.0
"""Distances start at about two strides: inside the range that each level learns, and where ReLU has a gradient."""


class BoxHead(nn.Module):
    """A tower of 3x3 convolutions shared by all levels, then 5 outputs per point (paper, section 3.2; FCOS)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = [config.fpn_channels] + [config.box_channels] * config.box_layers
        self.tower = nn.ModuleList(_tower_convolution(i, o) for i, o in pairwise(widths))
        self.norms = nn.ModuleList(LevelNormReLU(config, width) for width in widths[1:])
        self.output = nn.Conv2d(widths[-1], 5, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(len(BOX_STRIDES)))
        nn.init.normal_(self.output.weight, std=0.01)
        self.output.bias = nn.Parameter(torch.tensor([INITIAL_DISTANCE] * 4 + [0.0]))

    def forward(self, levels: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """P3..P7, [N, fpn_channels, h, w] each, to boxes and border-ness.

        Returns:
            ltrb: per level float32[N, 4, h, w], in input pixels, at least 0.
            borderness: per level float32[N, h, w], logits.
        """
        x = through_layers(self.tower, self.norms, levels)
        outputs = [self.output(y).float() for y in x]
        ltrb = tuple(
            functional.relu(y[:, :4] * scale) * stride
            for y, scale, stride in zip(outputs, self.scales, BOX_STRIDES, strict=True)
        )
        return ltrb, tuple(y[:, 4] for y in outputs)


def _tower_convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return conv
