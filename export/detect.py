"""Boxes from the dense outputs, and their suppression, in the graph: `csrc/core/decode.h`, `softmax.h` and `box.h`."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from onnxscript import OpBuilder

from lpsnet.config import BOX_STRIDES, SEMANTIC_STRIDE

from .graph import (
    FLOAT,
    INT32,
    INT64,
    Value,
    cast,
    constant,
    element,
    lerp,
    linear_taps,
    pixel_centres,
    scope,
    vector,
)
from .preprocess import Sizes

_LOWEST = float(np.finfo(np.float32).min)


class Boxes(NamedTuple):
    """Boxes in pixels of the network's input: float32[n, 4] xyxy, float32[n], int64[n] classes, int64[n] levels."""

    boxes: Value
    scores: Value
    labels: Value
    levels: Value

    def take(self, op: OpBuilder, indices: Value) -> "Boxes":
        """Those at int64[m] indices."""
        return Boxes(*(op.Gather(v, indices, axis=0) for v in self))

    def where(self, op: OpBuilder, condition: Value) -> "Boxes":
        """Those for which bool[n] holds."""
        return Boxes(*(op.Compress(v, condition, axis=0) for v in self))


class _Level(NamedTuple):
    """The n locations of a level, row by row: logits float32[n, C], points float32[n] twice, bool[n]."""

    logits: Value
    x: Value
    y: Value
    inside: Value


def decode(
    op: OpBuilder,
    logits: Value,
    ltrb: Sequence[Value],
    borderness: Sequence[Value],
    sizes: Sizes,
    is_thing: np.ndarray,
    score_fusion: str,
    score_threshold: Value,
    topk: Value,
) -> Boxes:
    """The candidates of all levels, each level's best first.

    Args:
        op: of the main graph.
        logits: float32[h, w, C].
        ltrb: per level float32[1, 4, h, w].
        borderness: per level float32[1, h, w].
        sizes: of the image.
        is_thing: bool[C].
        score_fusion: see `PostprocessConfig`.
        score_threshold: float32[].
        topk: int64[].
    """
    things = np.flatnonzero(is_thing)
    thing_labels = constant(op, "thing_labels", things.astype(np.int64))
    image = [cast(op, side, FLOAT) for side in (sizes.image_height, sizes.image_width)]
    found: list[Boxes] = []
    for index, stride in enumerate(BOX_STRIDES):
        with scope(op, f"decode_p{index + 3}"):
            level = _read_level(op, logits, borderness[index], stride, image)
            probability = op.Gather(_probabilities(op, level.logits), thing_labels, axis=1)  # [n, things]
            border = op.Reshape(borderness[index], [-1, 1])
            distances = op.Transpose(op.Reshape(ltrb[index], [4, -1]))  # [n, 4]
            score = op.Mul(probability, border)
            if score_fusion == "sqrt":
                score = op.Sqrt(score)
            usable = op.And(level.inside, _all(op, _finite(op, distances), axis=1))
            passes = op.And(op.Greater(probability, score_threshold), op.Unsqueeze(usable, [1]))
            passes = op.And(passes, _finite(op, score))
            flat = op.Reshape(op.Where(passes, score, float("-inf")), [-1])
            most = op.Min(topk, op.Squeeze(op.Shape(flat), [0]))
            scores, place = op.TopK(flat, op.Reshape(most, [1]), _outputs=2)
            real = op.Greater(scores, float("-inf"))
            scores, place = op.Compress(scores, real, axis=0), op.Compress(place, real, axis=0)
            location = op.Div(place, len(things))
            found.append(
                Boxes(
                    _boxes_around(op, level, op.Gather(distances, location, axis=0), location, image),
                    scores,
                    op.Gather(thing_labels, op.Sub(place, op.Mul(location, len(things))), axis=0),
                    op.Add(op.Mul(place, 0), index),
                )
            )
    return Boxes(*(op.Concat(*parts, axis=0) for parts in zip(*found, strict=True)))


def suppress(
    op: OpBuilder, candidates: Boxes, is_thing: np.ndarray, iou_threshold: Value, max_detections: Value
) -> Boxes:
    """Greedy suppression within each class; the boxes that are left by descending score, ties in their order."""
    # A candidate that cannot win, so that there is one.
    nothing = Boxes(
        constant(op, "no_box", np.zeros((1, 4), np.float32)),
        constant(op, "no_score", np.full(1, -np.inf, np.float32)),
        constant(op, "no_label", np.zeros(1, np.int64)),
        constant(op, "no_level", np.zeros(1, np.int64)),
    )
    padded = Boxes(*(op.Concat(a, b, axis=0) for a, b in zip(candidates, nothing, strict=True)))
    classes = constant(op, "thing_column", np.flatnonzero(is_thing)[:, None])
    by_class = op.Where(op.Equal(op.Unsqueeze(padded.labels, [0]), classes), padded.scores, float("-inf"))
    # A class that loses its best boxes to the limit loses no box that the limit over all classes would leave.
    selected = op.NonMaxSuppression(
        op.Unsqueeze(padded.boxes, [0]),
        op.Unsqueeze(by_class, [0]),
        op.Reshape(max_detections, [1]),
        op.Reshape(iou_threshold, [1]),
        constant(op, "lowest_score", np.array([_LOWEST], np.float32)),
    )
    winners = op.Gather(selected, constant(op, "box_of_selected", np.array([2])), axis=1)  # [m, 1]
    losing = op.Expand(float("-inf"), op.Shape(padded.scores))
    scores = op.ScatterND(losing, winners, op.Gather(padded.scores, op.Squeeze(winners, [1]), axis=0))
    count = op.Min(max_detections, op.Squeeze(op.Slice(op.Shape(selected), [0], [1]), [0]))
    _, order = op.TopK(scores, op.Reshape(count, [1]), _outputs=2)
    return padded.take(op, order)


def _read_level(op: OpBuilder, logits: Value, borderness: Value, stride: int, image: Sequence[Value]) -> _Level:
    shape, logits_shape = op.Shape(borderness), op.Shape(logits)
    height, width = element(op, shape, 1), element(op, shape, 2)
    y, x = (pixel_centres(op, size, float(stride)) for size in (height, width))
    rows = linear_taps(op, op.Div(y, float(SEMANTIC_STRIDE)), element(op, logits_shape, 0))
    columns = linear_taps(op, op.Div(x, float(SEMANTIC_STRIDE)), element(op, logits_shape, 1))

    def read_row(which: Value) -> Value:
        row = op.Gather(logits, which, axis=0)
        low, high = op.Gather(row, columns.low, axis=1), op.Gather(row, columns.high, axis=1)
        return lerp(op, low, high, op.Unsqueeze(columns.weight, [1]))

    read = lerp(op, read_row(rows.low), read_row(rows.high), op.Unsqueeze(rows.weight, [1, 2]))  # [h, w, C]
    classes = element(op, logits_shape, 2)
    size = vector(op, height, width)
    ys, xs = op.Expand(op.Unsqueeze(y, [1]), size), op.Expand(op.Unsqueeze(x, [0]), size)
    inside = op.And(op.Less(ys, image[0]), op.Less(xs, image[1]))
    flat = [op.Reshape(v, [-1]) for v in (xs, ys, inside)]
    return _Level(op.Reshape(read, vector(op, -1, classes)), *flat)


def _probabilities(op: OpBuilder, logits: Value) -> Value:
    """softmax of float32[n, C] over C: `csrc/core/softmax.h`, summed in the order of the classes."""
    shifted = op.Sub(logits, op.ReduceMax(logits, [1], keepdims=1))
    power = op.Round(op.Mul(shifted, float(np.float32(1.44269504))))
    # ln 2 in two parts, as there.
    r = op.Sub(op.Sub(shifted, op.Mul(power, 0.693359375)), op.Mul(power, float(np.float32(-2.12194440e-4))))
    p: Value | float = float(np.float32(1) / np.float32(720))
    for term in (120, 24, 6):
        p = op.Add(op.Mul(p, r), float(np.float32(1) / np.float32(term)))
    p = op.Add(op.Mul(p, r), 0.5)
    p = op.Add(op.Add(op.Mul(p, op.Mul(r, r)), r), 1.0)
    powers = constant(op, f"{logits.name}.powers", (2.0 ** np.arange(-127, 1)).astype(np.float32))
    exponent = cast(op, op.Clip(op.Where(op.IsNaN(power), 0.0, power), -127.0, 0.0), INT64)
    exponentials = op.Mul(p, op.Gather(powers, op.Add(exponent, 127), axis=0))
    exponentials = op.Where(op.Less(shifted, -87.0), 0.0, exponentials)
    # CumSum adds one class after the other; a sum may not.
    sums = op.CumSum(op.Transpose(exponentials), 0)
    total = op.Gather(sums, constant(op, f"{logits.name}.last", np.array([-1])), axis=0)
    return op.Div(exponentials, op.Transpose(total))


def _boxes_around(op: OpBuilder, level: _Level, ltrb: Value, location: Value, image: Sequence[Value]) -> Value:
    x, y = op.Gather(level.x, location, axis=0), op.Gather(level.y, location, axis=0)
    left, top, right, bottom = (op.Squeeze(v, [1]) for v in op.Split(ltrb, num_outputs=4, axis=1, _outputs=4))
    sides = [
        op.Clip(op.Sub(x, left), 0.0, image[1]),
        op.Clip(op.Sub(y, top), 0.0, image[0]),
        op.Clip(op.Add(x, right), 0.0, image[1]),
        op.Clip(op.Add(y, bottom), 0.0, image[0]),
    ]
    return op.Concat(*(op.Unsqueeze(s, [1]) for s in sides), axis=1)


def _finite(op: OpBuilder, values: Value) -> Value:
    return op.LessOrEqual(op.Abs(values), float(np.finfo(np.float32).max))


def _all(op: OpBuilder, values: Value, axis: int) -> Value:
    return op.Equal(op.ReduceMin(cast(op, values, INT32), [axis], keepdims=0), 1)
