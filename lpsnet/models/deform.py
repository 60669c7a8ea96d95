"""Deformable convolution that finds its own offsets, and for v2 its own masks."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from lpsnet.ops.deform_conv2d import deform_conv2d

KERNEL = 3
TAPS = KERNEL * KERNEL


class DeformConv2d(nn.Module):
    """A 3x3 deformable convolution: v1 (Dai et al., ICCV 2017) or, modulated, v2 (Zhu et al., CVPR 2019).

    A plain 3x3 convolution of the same input gives offsets and masks. It starts at zero: the layer starts as the plain
    convolution with the same weight, and as half of it where it is modulated (the masks start at sigmoid(0)).
    It has no bias until a norm is folded into it.

    Args:
        in_channels, out_channels: of the input and of the result.
        modulated: with masks (v2).
    """

    def __init__(self, in_channels: int, out_channels: int, modulated: bool) -> None:
        super().__init__()
        self.modulated = modulated
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, KERNEL, KERNEL))
        self.bias: nn.Parameter | None
        self.register_parameter("bias", None)
        self.offset = nn.Conv2d(in_channels, TAPS * (3 if modulated else 2), KERNEL, padding=1)
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] to [N, out_channels, H, W] of the same dtype. Offsets and masks are float32."""
        with _no_autocast(x.device.type):
            predicted = self.offset(x.to(self.offset.weight.dtype)).float()
        offset, mask = predicted, None
        if self.modulated:
            offset, mask = predicted.split([2 * TAPS, TAPS], dim=1)
            mask = torch.sigmoid(mask)
        return deform_conv2d(x, offset, self.weight, self.bias, padding=1, mask=mask)


def _no_autocast(device: str) -> AbstractContextManager:
    """Offsets of 8 pixels and more would come in steps of 1/16 in bfloat16. No context where none is needed: it would
    stand in exported graphs."""
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()
