"""The best class of every output pixel (`csrc/core/argmax.h`), in the graph and bit for bit."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from onnxscript import OpBuilder

from .graph import FLOAT, INT64, UINT8, Taps, Value, cast, choose, constant, lerp, scope

_LARGEST_FINITE_READ = float(np.float32(2.0**120))
"""Below it no difference of logits overflows, so what is read is finite where the logits are."""
_VOID = 255
_BLOCK_VALUES = 128
"""Rows times classes of what is evaluated at once: enough that the work outweighs the calls, and fits into a cache."""


def semantic_labels(
    op: OpBuilder, name: str, logits: Value, classes: int, rows: Taps, columns: Taps, allowed: np.ndarray | None = None
) -> Value:
    """uint8[H, W], the class of each pixel; 255 where every class reads NaN or -infinity.

    The logits are read along the columns first and then, a few rows of pixels at a time, along the rows: the volume of
    all classes at output size never exists.

    Args:
        op: of the main graph.
        name: unique in the model.
        logits: float32[h, w, C].
        classes: C.
        rows: of the H output rows. columns: of the W output columns.
        allowed: bool[C], the classes that may win; None allows all.
    """
    if allowed is not None:
        refused = constant(op, f"{name}.refused", np.where(allowed, 0, -np.inf).astype(np.float32))
        logits = op.Add(logits, refused)
    across = lerp(
        op,
        op.Gather(logits, columns.low, axis=1),
        op.Gather(logits, columns.high, axis=1),
        op.Unsqueeze(columns.weight, [1]),
    )
    # NaN is below nothing.
    tame = op.Equal(op.ReduceMin(cast(op, op.Less(op.Abs(logits), _LARGEST_FINITE_READ), INT64), keepdims=0), 1)

    block = max(1, _BLOCK_VALUES // classes)
    height = op.Squeeze(op.Shape(rows.low), [0])
    blocks = op.Div(op.Add(height, block - 1), block)
    # The last block is filled up with the last row.
    places = op.Min(op.Range(0, op.Mul(blocks, block), 1), op.Sub(height, 1))
    low, high, weight = (op.Reshape(op.Gather(tap, places, axis=0), [-1, block]) for tap in rows)

    def scan(outer: OpBuilder, part: str, winner: Callable[[OpBuilder, Value], Value]) -> Value:
        def rows_of_block(inner: OpBuilder, low: Value, high: Value, weight: Value) -> Value:
            above, below = inner.Gather(across, low, axis=0), inner.Gather(across, high, axis=0)
            return winner(inner, lerp(inner, above, below, inner.Unsqueeze(weight, [1, 2])))

        inputs = (("low", INT64), ("high", INT64), ("weight", FLOAT))
        with scope(outer, f"{name}.{part}"):
            body = outer.builder.subgraph(
                rows_of_block,
                [ir.val(f"{name}.{part}.{k}", dtype, [block]) for k, dtype in inputs],
                [ir.val(f"{name}.{part}.labels", UINT8, [block, None])],
                name=f"{name}.{part}",
            )
        labels = outer.Scan(low, high, weight, body=body, num_scan_inputs=3)
        width = outer.Shape(columns.low)
        merged = outer.Reshape(labels, outer.Concat([-1], width, axis=0))
        return outer.Slice(merged, [0], outer.Reshape(height, [1]))

    def best(inner: OpBuilder, values: Value) -> Value:
        return cast(inner, inner.ArgMax(values, axis=-1, keepdims=0), UINT8)

    def best_of_any(inner: OpBuilder, values: Value) -> Value:
        real = inner.Where(inner.IsNaN(values), float("-inf"), values)
        void = inner.Equal(inner.ReduceMax(real, [-1], keepdims=0), float("-inf"))
        return inner.Where(void, cast(inner, inner.Identity(_VOID), UINT8), best(inner, real))

    (labels,) = choose(
        op,
        f"{name}.if",
        tame,
        lambda inner: [scan(inner, "tame", best)],
        lambda inner: [scan(inner, "wild", best_of_any)],
        [(UINT8, 2)],
    )
    return labels
