"""The columns of a deformable convolution, and the convolution itself, over numpy arrays."""

import ctypes
from collections.abc import Iterator, Sequence

import numpy as np

from lpsnet.native.library import FLOAT32, FLOAT64, call

# What exists of the columns and of their products at a time. In each tile all threads meet a few times, which is dear
# where other processes share the cores: so tiles are large.
TILE_BYTES = 48 << 20


class DeformColumnsParams(ctypes.Structure):
    _fields_ = [
        ("dtype", ctypes.c_int32),
        ("channels", ctypes.c_int32),
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
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
        ("begin", ctypes.c_int64),
        ("end", ctypes.c_int64),
    ]


def check_shapes(
    input: Sequence[int],
    offset: Sequence[int],
    weight: Sequence[int],
    bias: Sequence[int] | None,
    mask: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    offset_groups: int,
) -> tuple[int, int]:
    """Checks the shapes of a deformable convolution and returns the height and the width of its output.

    Raises:
        ValueError: names the argument that does not fit.
    """
    for name, pair, least in (("stride", stride, 1), ("padding", padding, 0), ("dilation", dilation, 1)):
        if len(pair) != 2 or min(pair) < least:
            raise ValueError(f"{name}: expected two integers of at least {least}, got {list(pair)}")
    if len(input) != 4 or input[1] < 1:
        raise ValueError(f"input: expected [N, C, H, W] with C at least 1, got {list(input)}")
    batch, channels, height, width = input
    if len(weight) != 4 or weight[0] < 1 or weight[1] < 1 or channels % weight[1] != 0:
        raise ValueError(
            f"weight: expected [O, C / groups, kh, kw] with O at least 1 and C = {channels}, got {list(weight)}"
        )
    groups = channels // weight[1]
    if weight[0] % groups != 0:
        raise ValueError(f"weight: expected O divisible by the {groups} groups, got {list(weight)}")
    if offset_groups < 1 or channels % offset_groups != 0:
        raise ValueError(f"offset_groups: expected a divisor of {channels} channels, got {offset_groups}")
    kernel = weight[2], weight[3]
    out_height, out_width = (
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, s, p, d in zip((height, width), kernel, stride, padding, dilation, strict=True)
    )
    if min(height, width, *kernel, out_height, out_width) < 1:
        raise ValueError(
            f"input: expected an output of at least 1 x 1, got {out_height} x {out_width} from {list(input)}, kernel "
            f"{list(kernel)}, stride {list(stride)}, padding {list(padding)}, dilation {list(dilation)}"
        )
    taps = offset_groups * kernel[0] * kernel[1]
    shapes = (
        ("offset", offset, (batch, 2 * taps, out_height, out_width)),
        ("mask", mask, (batch, taps, out_height, out_width)),
        ("bias", bias, (weight[0],)),
    )
    for name, shape, expected in shapes:
        if shape is not None and tuple(shape) != expected:
            raise ValueError(f"{name}: expected {list(expected)}, got {list(shape)}")
    return out_height, out_width


def tiles(params: DeformColumnsParams, weight: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Sets ``params.begin`` and ``params.end`` to one tile of output positions after the other and yields them.

    What a tile needs takes at most ``TILE_BYTES``, or is that of one position; see `tile_positions`.
    """
    positions = params.out_height * params.out_width
    step = tile_positions(params, weight)
    for begin in range(0, positions, step):
        params.begin, params.end = begin, min(begin + step, positions)
        yield params.begin, params.end


def tile_positions(params: DeformColumnsParams, weight: Sequence[int]) -> int:
    """Output positions in a whole tile, for a weight [O, C / groups, kh, kw].

    A position has kh * kw * C numbers of columns, those of one group a second time where there are several groups, and
    O / groups numbers of their product with the weight.
    """
    groups = params.channels // weight[1]
    taps = params.kernel_h * params.kernel_w
    numbers = taps * params.channels + (taps * weight[1] if groups > 1 else 0) + weight[0] // groups
    itemsize = 8 if params.dtype == FLOAT64 else 4
    return min(params.out_height * params.out_width, max(1, TILE_BYTES // (numbers * itemsize)))


def deform_conv2d(
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
    """Deformable convolution, v1 (no mask) or v2, as ``lpsnet.ops.deform_conv2d`` describes it; forward only.

    Args:
        input: float32 or float64 [N, C, H, W]; the other arrays are converted to its dtype.
        offset: [N, offset_groups * kh * kw * 2 (dy, dx), Ho, Wo], pixels.
        weight: [O, C / groups, kh, kw].
        bias: [O] or None.
        stride, padding, dilation: one integer or (vertical, horizontal).
        mask: [N, offset_groups * kh * kw, Ho, Wo] or None.
        offset_groups: each group of channels has offsets of its own.

    Returns:
        [N, O, Ho, Wo] of the input's dtype.

    Raises:
        ValueError: a shape or a dtype that does not fit.
    """
    if input.dtype not in (np.float32, np.float64):
        raise ValueError(f"input: expected float32 or float64, got {input.dtype}")
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
    dtype = input.dtype
    offset = np.ascontiguousarray(offset, dtype)
    mask = None if mask is None else np.ascontiguousarray(mask, dtype)
    params = DeformColumnsParams(
        FLOAT64 if dtype == np.float64 else FLOAT32,
        *input.shape[1:],
        *out_size,
        *weight.shape[2:],
        *stride,
        *padding,
        *dilation,
        offset_groups,
    )
    out_channels, channels = weight.shape[0], input.shape[1]
    groups = channels // weight.shape[1]
    matrices = weight.astype(dtype).transpose(0, 2, 3, 1).reshape(groups, out_channels // groups, -1)
    out = np.empty((len(input), groups, out_channels // groups, out_size[0] * out_size[1]), dtype)
    columns = np.empty((tile_positions(params, weight.shape), *weight.shape[2:], groups, channels // groups), dtype)
    for n in range(len(input)):
        image = np.ascontiguousarray(input[n].transpose(1, 2, 0))
        pointers = image.ctypes.data, offset[n].ctypes.data, None if mask is None else mask[n].ctypes.data
        for begin, end in tiles(params, weight.shape):
            call("deform_columns", params, *pointers, columns.ctypes.data)
            for group in range(groups):
                tile = columns[: end - begin, ..., group, :].reshape(end - begin, -1)
                out[n, group, :, begin:end] = matrices[group] @ tile.T
    out = out.reshape(len(input), out_channels, *out_size)
    if bias is not None:
        out += bias.astype(dtype)[:, None, None]
    return out


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """(value, value) of one integer; two are returned as they are, for `check_shapes` to check."""
    return (value, value) if isinstance(value, int) else tuple(value)  # type: ignore[return-value]
