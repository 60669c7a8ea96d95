"""The region proposal network (Ren et al., NIPS 2015) on a feature pyramid (Lin et al., CVPR 2017)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpsnet.baselines.boxes import anchors_at, decode, suppress_to
from lpsnet.baselines.config import TwoStageConfig

STRIDES = (4, 8, 16, 32, 64)
"""P2..P6."""
_WEIGHTS = (1.0, 1.0)


class RPNHead(nn.Module):
    """A 3x3 convolution shared by P2..P6, then per anchor an objectness and four deltas.

    The two 1x1 convolutions of the paper are one with the outputs of both.

    Attributes:
        roots: float32[R], square roots of the anchors' height / width.
    """

    roots: Tensor

    def __init__(self, channels: int, ratios: Sequence[float]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.output = nn.Conv2d(channels, len(ratios) * 5, 1)
        self.register_buffer("roots", torch.tensor(ratios).sqrt(), persistent=False)
        for layer in (self.conv, self.output):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """P2..P6, [1, C, h, w] each, to float32[h * w * anchors, 5]: a logit of objectness, then the deltas."""
        outputs = [self.output(functional.relu(self.conv(x), inplace=True)).float() for x in levels]
        return [y[0].permute(1, 2, 0).reshape(-1, 5) for y in outputs]


def propose(
    outputs: Sequence[Tensor],
    widths: Sequence[int],
    roots: Tensor,
    image_size: Sequence[int],
    config: TwoStageConfig,
) -> Tensor:
    """The proposals, float32[config.proposals, 4], best first; fewer where the image has fewer anchors.

    From each level the best `config.level_candidates`, suppressed among themselves, all levels in one call.

    Args:
        outputs: of `RPNHead`, per level.
        widths: of the levels, in feature pixels.
        roots: `RPNHead.roots`.
        image_size: (height, width) of the image in the padded input; boxes are clipped to it.
    """
    boxes, scores, labels = [], [], []
    for i, (output, width, stride) in enumerate(zip(outputs, widths, STRIDES, strict=True)):
        best, indices = output[:, 0].topk(min(config.level_candidates, len(output)))
        anchors = anchors_at(indices, width, stride, config.anchor_scale, roots)
        boxes.append(decode(anchors, output[indices, 1:], _WEIGHTS, image_size))
        scores.append(best)
        labels.append(torch.full_like(indices, i, dtype=torch.int32))
    box, score = torch.cat(boxes), torch.cat(scores)
    empty = (box[:, 2:] <= box[:, :2]).any(1)
    score = score.masked_fill(empty, -torch.inf)  # those of the padding come last
    return box[suppress_to(config.proposals, box, score, torch.cat(labels), config.proposal_iou)]
