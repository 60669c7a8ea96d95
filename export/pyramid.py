"""Scene context for exported graphs: pooling over the cells of a map of any size.

`PyramidPooling` makes its matrices from the size of C5 when it sees one. A graph that takes images of any size
makes them itself: here the two products are operators, which torch traces as one node each and which become ONNX.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from onnxscript import opset20
from torch import Tensor, nn
from torch.nn import functional

from lpsnet.models.context import GlobalPooling, PyramidPooling, Size
from lpsnet.models.lpsnet import LPSNet

op: Any = opset20
_FLOAT, _DOUBLE = 1, 11


@torch.library.custom_op("lpsnet_export::pool_pyramid", mutates_args=())
def pool_pyramid(c5: Tensor, bins: Sequence[int]) -> Tensor:
    """[N, C, h, w] to [N, C, sum of bins^2], the means of all bins, row by row."""
    return torch.cat([functional.adaptive_avg_pool2d(c5, b).flatten(2) for b in bins], dim=2)


@pool_pyramid.register_fake
def _(c5: Tensor, bins: Sequence[int]) -> Tensor:
    return c5.new_empty(c5.shape[0], c5.shape[1], sum(b * b for b in bins))


@torch.library.custom_op("lpsnet_export::spread_pyramid", mutates_args=())
def spread_pyramid(pooled: Tensor, c5: Tensor, bins: int) -> Tensor:
    """[N, C, bins^2] to [N, C, h, w], bilinearly, with the height and the width of c5."""
    grid = pooled.unflatten(2, (bins, bins))
    return functional.interpolate(grid, c5.shape[2:], mode="bilinear", align_corners=False)


@spread_pyramid.register_fake
def _(pooled: Tensor, c5: Tensor, bins: int) -> Tensor:
    return pooled.new_empty(*pooled.shape[:2], *c5.shape[2:])


def pool_pyramid_onnx(c5, bins: Sequence[int]):
    """The product with `lpsnet.models.context.pooling_weights`, made in the graph."""
    shape = op.Shape(c5)
    cells = op.Reshape(c5, op.Constant(value_ints=[0, 0, -1]))
    pooled = []
    for b in bins:
        down, across = (_pooling_weights(op.Gather(shape, op.Constant(value_int=axis)), b) for axis in (2, 3))
        # [b, 1, h, 1] x [1, b, 1, w]: a Kronecker product.
        weights = op.Mul(_unsqueezed(down, 1, 3), _unsqueezed(across, 0, 2))
        weights = op.Reshape(weights, op.Constant(value_ints=[b * b, -1]))
        pooled.append(op.MatMul(cells, op.CastLike(op.Transpose(weights, perm=[1, 0]), c5)))
    return op.Concat(*pooled, axis=2)


def spread_pyramid_onnx(pooled, c5, bins: int):
    """The product with `lpsnet.models.context.upsampling_weights`, made in the graph."""
    shape = op.Shape(c5)
    down, across = (_upsampling_weights(op.Gather(shape, op.Constant(value_int=axis)), bins) for axis in (2, 3))
    weights = op.Mul(_unsqueezed(down, 1, 3), _unsqueezed(across, 0, 2))  # [h, 1, b, 1] x [1, w, 1, b]
    weights = op.Reshape(weights, op.Constant(value_ints=[-1, bins * bins]))
    cells = op.MatMul(pooled, op.CastLike(op.Transpose(weights, perm=[1, 0]), pooled))
    size = op.Slice(shape, op.Constant(value_ints=[2]), op.Constant(value_ints=[4]))
    return op.Reshape(cells, op.Concat(op.Constant(value_ints=[0, 0]), size, axis=0))


TRANSLATIONS: dict[Callable, Callable] = {
    torch.ops.lpsnet_export.pool_pyramid.default: pool_pyramid_onnx,
    torch.ops.lpsnet_export.spread_pyramid.default: spread_pyramid_onnx,
}


def prepare_context(model: LPSNet) -> None:
    """Puts the context of a network, in place, into the form for export. The input is taken to be all image but for
    less than one cell of C5 at the bottom and at the right, which is how `InputConfig` pads."""
    context = model.fpn.context
    if isinstance(context, PyramidPooling):
        model.fpn.context = _SizelessPyramid(context)  # type: ignore[assignment]
    elif isinstance(context, GlobalPooling):
        model.fpn.context = _SizelessMean(context)  # type: ignore[assignment]


class _SizelessPyramid(nn.Module):
    def __init__(self, pyramid: PyramidPooling) -> None:
        super().__init__()
        self.pyramid = pyramid

    def forward(self, c5: Tensor, valid: Size) -> Tensor:
        p = self.pyramid
        pooled = pool_pyramid(c5, p.bins).split([b * b for b in p.bins], dim=2)
        branches = []
        for b, part, reduce in zip(p.bins, pooled, p.reduce, strict=True):
            linear = cast(nn.Linear, reduce)
            reduced = functional.relu(linear.weight @ part + linear.bias[:, None])
            branches.append(spread_pyramid(reduced, c5, b))
        return functional.relu(p.norm(p.fuse(torch.cat([c5, *branches], dim=1))))


class _SizelessMean(nn.Module):
    def __init__(self, pooling: GlobalPooling) -> None:
        super().__init__()
        self.reduce = pooling.reduce

    def forward(self, c5: Tensor, valid: Size) -> Tensor:
        return self.reduce(c5.mean((2, 3)))[:, :, None, None]


def _pooling_weights(size, bins: int):
    """float32[bins, size] for int64[] size."""
    cells = op.Unsqueeze(_range(size), op.Constant(value_ints=[0]))
    index = op.Constant(value_ints=list(range(bins)))
    count = op.Constant(value_int=bins)
    start = op.Unsqueeze(op.Div(op.Mul(index, size), count), op.Constant(value_ints=[1]))
    ends = op.Mul(op.Constant(value_ints=list(range(1, bins + 1))), size)
    stop = op.Div(op.Add(ends, op.Constant(value_int=bins - 1)), count)
    stop = op.Unsqueeze(stop, op.Constant(value_ints=[1]))
    inside = op.And(op.GreaterOrEqual(cells, start), op.Less(cells, stop))
    return op.Div(op.Cast(inside, to=_FLOAT), op.Cast(op.Sub(stop, start), to=_FLOAT))


def _upsampling_weights(size, bins: int):
    """float32[size, bins] for int64[] size: triangles around the centres of the bins, the outer ones clamped."""
    cells = op.Cast(_range(size), to=_DOUBLE)
    step = op.Div(_double(bins), op.Cast(size, to=_DOUBLE))
    position = op.Sub(op.Mul(op.Add(cells, _double(0.5)), step), _double(0.5))
    position = op.Unsqueeze(op.Clip(position, _double(0), _double(bins - 1)), op.Constant(value_ints=[1]))
    index = op.Cast(op.Constant(value_ints=list(range(bins))), to=_DOUBLE)
    weight = op.Sub(_double(1), op.Abs(op.Sub(position, index)))
    return op.Cast(op.Max(weight, _double(0)), to=_FLOAT)


def _range(size):
    return op.Range(op.Constant(value_int=0), size, op.Constant(value_int=1))


def _double(value: float):
    return op.Cast(op.Constant(value_float=float(value)), to=_DOUBLE)


def _unsqueezed(value, *axes: int):
    return op.Unsqueeze(value, op.Constant(value_ints=list(axes)))
