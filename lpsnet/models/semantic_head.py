"""The semantic head: class logits at 1/4 of the input from P2..P5."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpsnet.config import ModelConfig
from lpsnet.models.deform import DeformConv2d
from lpsnet.models.norm import LevelNormReLU, through_layers

NUM_LEVELS = 4


class SemanticHead(nn.Module):
    """A subnet shared by P2..P5, upsampled to P2, concatenated and classified (paper, section 3.3; UPSNet).

    The 1x1 convolution over the concatenation is written as one 1x1 convolution per level before the upsampling, and
    a sum after it: the same function, as both are linear and bilinear weights add up to 1, for a third of the work.

    Attributes:
        logits_dtype: of the logits. float32, as the losses want it, whatever the parameters are.
    """

    logits_dtype = torch.float32

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        super().__init__()
        widths = (config.fpn_channels, *config.semantic_channels)
        self.layers = nn.ModuleList(_convolution(config, i, o) for i, o in pairwise(widths))
        self.norms = nn.ModuleList(LevelNormReLU(config, width) for width in widths[1:])
        self.classifiers = nn.ModuleList(_classifier(widths[-1], num_classes, bias=i == 0) for i in range(NUM_LEVELS))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """P2..P5, [N, fpn_channels, h, w] each, to logits [N, num_classes, H / 4, W / 4] of `logits_dtype`."""
        x = through_layers(self.layers, self.norms, levels)
        # The finest last: ONNX Runtime evaluates the last operand of a sum first, so the largest maps come while there
        # are no others of that size in memory.
        logits = self._upsampled(x, NUM_LEVELS - 1)
        for level in reversed(range(NUM_LEVELS - 1)):
            logits += self._upsampled(x, level)
        return logits

    def _upsampled(self, x: Sequence[Tensor], level: int) -> Tensor:
        """The part of a level in the logits, at the size of P2."""
        logits = self.classifiers[level](x[level]).to(self.logits_dtype)
        if level == 0:
            return logits
        # By whole factors, so that exported graphs hold no size.
        return functional.interpolate(logits, scale_factor=2.0**level, mode="bilinear", align_corners=False)


def _convolution(config: ModelConfig, in_channels: int, out_channels: int) -> nn.Module:
    if config.deform == "off":
        conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        return conv
    if config.deform in ("v1", "v2"):
        return DeformConv2d(in_channels, out_channels, modulated=config.deform == "v2")
    raise ValueError(f"deform: expected 'v1', 'v2' or 'off', got {config.deform!r}")


def _classifier(in_channels: int, num_classes: int, bias: bool) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, num_classes, 1, bias=bias)
    nn.init.normal_(conv.weight, std=0.01)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
