"""The best class of every output pixel (`csrc/core/argmax.h`), in the graph and bit for bit."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from onnxscript import OpBuilder

from .graph import FLOAT, INT64, UINT8, Taps, Value, cast, choose, constant, lerp, scope

_LARGEST_FINITE_READ = float(np.float32(2.0**120))
"""Below it no difference of logits overflows, so what is read is finite where the logits are."""
_VOID = 255


def semantic_labels(
    op: OpBuilder, name: str, logits: Value, rows: Taps, columns: Taps, allowed: np.ndarray | None = None
) -> Value:
    """uint8[H, W], the class of each pixel; 255 where every class reads NaN or -infinity.

    The logits are read along the columns first and then, a row of pixels at a time, along the rows: the volume of all
    classes at output size never exists.

    Args:
        op: of the main graph.
        name: unique in the model.
        logits: float32[h, w, C].
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

    def scan(outer: OpBuilder, part: str, winner: Callable[[OpBuilder, Value], Value]) -> Value:
        def row(inner: OpBuilder, low: Value, high: Value, weight: Value) -> Value:
            above, below = inner.Gather(across, low, axis=0), inner.Gather(across, high, axis=0)
            return winner(inner, lerp(inner, above, below, weight))

        with scope(outer, f"{name}.{part}"):
            body = outer.builder.subgraph(
                row,
                [ir.val(f"{name}.{part}.{k}", d, []) for k, d in (("low", INT64), ("high", INT64), ("weight", FLOAT))],
                [ir.val(f"{name}.{part}.labels", UINT8, [None])],
                name=f"{name}.{part}",
            )
        return outer.Scan(rows.low, rows.high, rows.weight, body=body, num_scan_inputs=3)

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
