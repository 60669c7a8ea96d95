"""`lpsnet::deform_conv2d` in ONNX: the standard operator, or samplings and products for runtimes without it."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from onnxscript import opset20

DeformForm = Literal["standard", "gridsample"]

op: Any = opset20
_FLOAT = 1


def translation(form: DeformForm) -> Callable:
    """What torch's exporter replaces the operator by."""
    return {"standard": _standard, "gridsample": _gridsample}[form]


def _standard(
    input,
    offset,
    weight,
    bias,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    mask,
    offset_groups: int,
):
    # Offsets are float32 whatever the precision; the operator wants one type. Runtimes differ in whether they take a
    # missing bias before a mask, so there always is one.
    if bias is None:
        bias = op.CastLike(op.ConstantOfShape(op.Constant(value_ints=[weight.shape[0]])), input)
    arguments = [input, weight, op.CastLike(offset, input), bias]
    if mask is not None:
        arguments.append(op.CastLike(mask, input))
    return op.DeformConv(
        *arguments,
        kernel_shape=list(weight.shape[2:]),
        strides=list(stride),
        pads=[*padding, *padding],
        dilations=list(dilation),
        group=1,
        offset_group=offset_groups,
    )


def _gridsample(
    input,
    offset,
    weight,
    bias,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    mask,
    offset_groups: int,
):
    """A bilinear sampling of the whole map per tap of the kernel, and the sum of their products with its weights."""
    if offset_groups != 1:
        raise ValueError(f"deform_conv: the gridsample form takes 1 offset group, got {offset_groups}")
    kernel = weight.shape[2:]
    taps = kernel[0] * kernel[1]
    size = op.Slice(op.Shape(offset), _ints(2), _ints(4))
    offsets = op.Reshape(offset, op.Concat(_ints(0, taps, 2), size, axis=0))  # [N, taps, (y, x), h, w]
    grid = [
        _grid_coordinates(input, offsets, axis, kernel, stride[axis], padding[axis], dilation[axis]) for axis in (1, 0)
    ]
    grids = op.CastLike(op.Concat(*grid, axis=4), input)  # [N, taps, h, w, (x, y)]
    result = None
    for tap in range(taps):
        place = op.Gather(grids, op.Constant(value_int=tap), axis=1)
        sample = op.GridSample(input, place, mode="linear", padding_mode="zeros", align_corners=0)
        if mask is not None:
            sample = op.Mul(sample, op.CastLike(op.Slice(mask, _ints(tap), _ints(tap + 1), _ints(1)), input))
        i, j = divmod(tap, kernel[1])
        part = op.Slice(weight, _ints(i, j), _ints(i + 1, j + 1), _ints(2, 3))
        product = op.Conv(sample, part, kernel_shape=[1, 1])
        # ONNX Runtime evaluates the last operand first: the sum so far, before the next sampling takes memory.
        result = product if result is None else op.Add(product, result)
    return result if bias is None else op.Add(result, op.Reshape(bias, _ints(1, -1, 1, 1)))


def _grid_coordinates(input, offsets, axis: int, kernel, stride: int, padding: int, dilation: int):
    """[N, taps, h, w, 1]: where the taps read along an axis, -1 and 1 being the outer edges of the first and the last
    pixel of the input."""
    count = op.Gather(op.Shape(offsets), op.Constant(value_int=3 + axis))
    outputs = op.Cast(op.Range(op.Constant(value_int=0), count, op.Constant(value_int=1)), to=_FLOAT)
    outputs = op.Mul(outputs, op.Constant(value_float=float(stride)))
    outputs = op.Unsqueeze(outputs, _ints(1 - axis))  # [h, 1] or [1, w]
    of_tap = np.indices(kernel)[axis].ravel() * dilation - padding
    of_tap = op.Reshape(op.Constant(value_floats=[float(v) for v in of_tap]), _ints(-1, 1, 1))
    offset = op.Gather(offsets, op.Constant(value_int=axis), axis=2)
    position = op.Add(offset, op.Add(of_tap, outputs))
    size = op.Cast(op.Gather(op.Shape(input), op.Constant(value_int=2 + axis)), to=_FLOAT)
    doubled = op.Add(op.Mul(position, op.Constant(value_float=2.0)), op.Constant(value_float=1.0))
    return op.Unsqueeze(op.Sub(op.Div(doubled, size), op.Constant(value_float=1.0)), _ints(4))


def _ints(*values: int):
    return op.Constant(value_ints=list(values))
