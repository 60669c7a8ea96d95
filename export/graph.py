"""What the graph builders have in common: constants, casts, taps of bilinear reads, and control flow."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from onnxscript import OpBuilder

OPSET = 20
"""The oldest in which GridSample and all else that is used here is as ONNX Runtime and TensorRT have it."""

Value = ir.Value
Round = tuple[Sequence[Value], Sequence[Value]]
"""What a round of a loop gives: the values for the next one, and scalars that are collected."""
BOOL, FLOAT, DOUBLE = ir.DataType.BOOL, ir.DataType.FLOAT, ir.DataType.DOUBLE
INT32, INT64, UINT8 = ir.DataType.INT32, ir.DataType.INT64, ir.DataType.UINT8


def constant(op: OpBuilder, name: str, array: np.ndarray) -> Value:
    """An initializer; `name` is unique in the model."""
    return op.builder.initializer(ir.tensor(array, name=name), name, qualify=False)


def cast(op: OpBuilder, value: Value, dtype: ir.DataType) -> Value:
    """The value in another type."""
    return op.Cast(value, to=int(dtype))


@contextmanager
def scope(op: OpBuilder, name: str) -> Iterator[None]:
    """Names of the nodes and values made inside start with `name`: a subgraph must not reuse those of its parent."""
    op.builder.push_module(name)
    yield
    op.builder.pop_module()


class Carried(NamedTuple):
    """A value that a loop hands from one round to the next."""

    start: Value
    dtype: ir.DataType
    rank: int


def loop(
    op: OpBuilder,
    name: str,
    count: Value,
    carried: Sequence[Carried],
    body: Callable[..., Round],
    scanned: Sequence[ir.DataType] = (),
) -> list[Value]:
    """`count` rounds of ``body(op, i, *carried) -> (carried, scanned)``.

    Returns:
        What is carried after the last round, then each scanned scalar of all rounds, [count].
    """

    def trace(inner: OpBuilder, i: Value, condition: Value, *values: Value) -> list[Value]:
        after, scalars = body(inner, i, *values)
        # An output of a body must be made in it, and none twice.
        return [inner.Identity(condition), *(inner.Identity(v) for v in after), *(inner.Identity(v) for v in scalars)]

    with scope(op, name):
        inputs = [
            ir.val(f"{name}.i", INT64, []),
            ir.val(f"{name}.condition", BOOL, []),
            *(ir.val(f"{name}.in{k}", c.dtype, [None] * c.rank) for k, c in enumerate(carried)),
        ]
        outputs = [
            ir.val(f"{name}.go", BOOL, []),
            *(ir.val(f"{name}.out{k}", c.dtype, [None] * c.rank) for k, c in enumerate(carried)),
            *(ir.val(f"{name}.scan{k}", dtype, []) for k, dtype in enumerate(scanned)),
        ]
        graph = op.builder.subgraph(trace, inputs, outputs, name=name)
    results = op.Loop(count, None, *(c.start for c in carried), body=graph, _outputs=len(carried) + len(scanned))
    results = list(results) if len(outputs) > 2 else [results]
    types = [(c.dtype, c.rank) for c in carried] + [(dtype, 1) for dtype in scanned]
    return [typed(v, dtype, rank) for v, (dtype, rank) in zip(results, types, strict=True)]


def choose(
    op: OpBuilder,
    name: str,
    condition: Value,
    then: Callable[[OpBuilder], Sequence[Value]],
    otherwise: Callable[[OpBuilder], Sequence[Value]],
    types: Sequence[tuple[ir.DataType, int]],
) -> list[Value]:
    """If: what one of two branches gives, values of these types and ranks."""

    def branch(label: str, build: Callable[[OpBuilder], Sequence[Value]]) -> ir.Graph:
        with scope(op, f"{name}.{label}"):
            outputs = [ir.val(f"{name}.{label}{k}", dtype, [None] * rank) for k, (dtype, rank) in enumerate(types)]
            return op.builder.subgraph(
                lambda inner: [inner.Identity(v) for v in build(inner)], [], outputs, name=f"{name}.{label}"
            )

    results = op.If(
        condition,
        then_branch=branch("then", then),
        else_branch=branch("else", otherwise),
        _outputs=len(types),
    )
    results = list(results) if len(types) > 1 else [results]
    return [typed(v, dtype, rank) for v, (dtype, rank) in zip(results, types, strict=True)]


def typed(value: Value, dtype: ir.DataType, rank: int) -> Value:
    """The value, said to be of this type and rank where inference could not tell."""
    value.type = ir.TensorType(dtype)
    if value.shape is None:
        value.shape = ir.Shape([None] * rank)
    return value


class Taps(NamedTuple):
    """A bilinear read along one axis, as `csrc/core/bilinear.h` defines it: int64[n], int64[n], float32[n]."""

    low: Value
    high: Value
    weight: Value


def linear_taps(op: OpBuilder, coordinates: Value, size: Value) -> Taps:
    """The taps at continuous coordinates, float32[n], of an axis of int64[] `size` pixels."""
    last = op.Sub(size, 1)
    index = op.Clip(op.Sub(coordinates, 0.5), 0.0, cast(op, last, FLOAT))
    low = cast(op, index, INT64)
    return Taps(low, op.Min(op.Add(low, 1), last), op.Sub(index, op.Floor(index)))


def lerp(op: OpBuilder, low: Value, high: Value, weight: Value) -> Value:
    """``low + (high - low) * weight``, in this order."""
    return op.Add(low, op.Mul(op.Sub(high, low), weight))


def pixel_centres(op: OpBuilder, size: Value, scale: Value | float) -> Value:
    """float32[size]: ``(i + 0.5) * scale``."""
    return op.Mul(op.Add(cast(op, op.Range(0, size, 1), FLOAT), 0.5), scale)


def vector(op: OpBuilder, *scalars: Value | int) -> Value:
    """int64[n] of int64[] scalars."""
    return op.Concat(*(op.Reshape(s, [1]) if isinstance(s, Value) else op.Identity([s]) for s in scalars), axis=0)


def element(op: OpBuilder, values: Value, index: int) -> Value:
    """Scalar `values[index]`."""
    return op.Gather(values, index, axis=0)
