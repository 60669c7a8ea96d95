"""The fused deformable convolution over numpy arrays: no columns, 16-bit numbers too, forward only."""

import ctypes
from collections.abc import Sequence

import numpy as np

from lpsnet.native.deform_columns import check_shapes, pair
from lpsnet.native.library import FLOAT16, FLOAT32, call


class DeformConv2dParams(ctypes.Structure):
    _fields_ = [
        ("dtype", ctypes.c_int32),
        ("batch", ctypes.c_int32),
        ("channels", ctypes.c_int32),
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("out_channels", ctypes.c_int32),
        ("out_height", ctypes.c_int32),
        ("out_width", ctypes.c_int32),
        ("kernel_h", ctypes.c_int32),
        ("kernel_w", ctypes.c_int32),
        ("stride_h", ctypes.c_int32),
        ("stride_w", ctypes.c_int32),
        ("padding_h", ctypes.c_int32),
        ("padding_w", ctypes.c_int32),
        ("dilation_h", ctypes.c_int32),
        ("dilation_w", ctypes.c_int32),
        ("offset_groups", ctypes.c_int32),
        ("modulated", ctypes.c_int32),
    ]


def fused_deform_conv2d(
    input: np.ndarray,
    offset: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    mask: np.ndarray | None = None,
    offset_groups: int = 1,
) -> np.ndarray:
    """Deformable convolution, v1 (no mask) or v2, as ``lpsnet.ops.deform_conv2d`` describes it, in one kernel.

    A sample is made in float32 and rounded to the input's dtype, the sum of products is made in float32, and with the
    bias it is rounded to the input's dtype.

    Args:
        input: float32 or float16 [N, C, H, W]; read without a copy where channels are last in memory.
        offset: [N, offset_groups * kh * kw * 2 (dy, dx), Ho, Wo], pixels; converted to float32.
        weight: [O, C, kh, kw]; converted to the input's dtype. There are no groups.
        bias: [O] or None; converted to float32.
        stride, padding, dilation: one integer or (vertical, horizontal).
        mask: [N, offset_groups * kh * kw, Ho, Wo] or None; converted to float32.
        offset_groups: each group of channels has offsets of its own.

    Returns:
        [N, O, Ho, Wo] of the input's dtype, channels last in memory.

    Raises:
        ValueError: a shape or a dtype that does not fit.
    """
    if input.dtype not in (np.float32, np.float16):
        raise ValueError(f"input: expected float32 or float16, got {input.dtype}")
    stride, padding, dilation = (pair(value) for value in (stride, padding, dilation))
    out_size = check_shapes(
        input.shape,
        offset.shape,
        weight.shape,
        None if bias is None else bias.shape,
        None if mask is None else mask.shape,
        stride,
        padding,
        dilation,
        offset_groups,
    )
    check_groups(input.shape, weight.shape)
    params = params_of(
        FLOAT16 if input.dtype == np.float16 else FLOAT32,
        input.shape,
        weight.shape,
        out_size,
        stride,
        padding,
        dilation,
        offset_groups,
        mask is not None,
    )
    out = np.empty((len(input), *out_size, len(weight)), input.dtype)
    arrays = [
        np.ascontiguousarray(input.transpose(0, 2, 3, 1)),
        np.ascontiguousarray(offset, np.float32),
        None if mask is None else np.ascontiguousarray(mask, np.float32),
        np.ascontiguousarray(weight.transpose(0, 2, 3, 1), input.dtype),
        None if bias is None else np.ascontiguousarray(bias, np.float32),
        out,
    ]
    call("deform_conv2d", params, *(None if array is None else array.ctypes.data for array in arrays))
    return out.transpose(0, 3, 1, 2)


def check_groups(input: Sequence[int], weight: Sequence[int]) -> None:
    """Raises ValueError where the channels of the convolution are in groups."""
    if weight[1] != input[1]:
        raise ValueError(f"weight: expected [O, {input[1]}, kh, kw] without groups, got {list(weight)}")


def params_of(
    dtype: int,
    input: Sequence[int],
    weight: Sequence[int],
    out_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    offset_groups: int,
    modulated: bool,
) -> DeformConv2dParams:
    """From an LpsDtype, the shapes of input, weight and output, and the geometry, each (vertical, horizontal)."""
    batch, channels, height, width = input
    return DeformConv2dParams(
        dtype, batch, channels, height, width, weight[0], *out_size, *weight[2:], *stride, *padding, *dilation,
        offset_groups, modulated,
    )  # fmt: skip
