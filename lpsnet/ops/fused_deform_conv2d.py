"""The forward of a deformable convolution in one kernel that never writes the columns: what 16 bits and GPUs take."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lpsnet.native.fused_deform_conv2d import params_of
from lpsnet.ops.device import DTYPES, call


def can_fuse(input: Tensor, weight: Tensor) -> bool:
    """Whether `fuse` computes this convolution. In float32 on a CPU columns and a product of matrices are faster."""
    if input.dtype not in DTYPES or weight.shape[1] != input.shape[1]:
        return False
    return input.is_cuda or input.dtype != torch.float32


def fuse(
    out: Tensor,
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    mask: Tensor | None,
    offset_groups: int,
) -> None:
    """Writes the convolution into ``out``, [N, O, Ho, Wo] with the input's dtype.

    The other arguments are those of `lpsnet.ops.deform_conv2d`, checked. Nothing is copied where input, weight and out
    lie channels last in memory, the weight has the input's dtype, and the rest is float32 and contiguous.
    """
    params = params_of(
        DTYPES[input.dtype],
        input.shape,
        weight.shape,
        out.shape[2:],
        stride,
        padding,
        dilation,
        offset_groups,
        mask is not None,
    )
    rows = out.permute(0, 2, 3, 1)
    target = rows if rows.is_contiguous() else torch.empty_like(rows, memory_format=torch.contiguous_format)
    call(
        "deform_conv2d",
        params,
        input.permute(0, 2, 3, 1),
        offset.float(),
        None if mask is None else mask.float(),
        weight.to(input.dtype).permute(0, 2, 3, 1),
        None if bias is None else bias.float(),
        target,
    )
    if target is not rows:
        rows.copy_(target)
