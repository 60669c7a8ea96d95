"""From the owners of the pixels to panoptic ids and the table of segments, in the graph."""

from typing import NamedTuple

import numpy as np
from onnxscript import OpBuilder

from .graph import INT32, INT64, Value, cast, constant
from .paste import Pasted


class Segments(NamedTuple):
    """int32[H, W] ids, and the segments, row i being id i + 1: int32[n], float32[n], int32[n], int32[n, 4]."""

    ids: Value
    labels: Value
    scores: Value
    areas: Value
    boxes: Value


def segments(
    op: OpBuilder,
    labels: Value,
    pasted: Pasted,
    is_thing: np.ndarray,
    stuff_area_limit: Value,
    stuff_labels: Value | None,
) -> Segments:
    """Numbers the segments, things by descending score, then stuff by class, and measures them.

    Args:
        op: of the main graph.
        labels: uint8[H, W], the class of each pixel.
        pasted: the boxes and their pixels.
        is_thing: bool[C].
        stuff_area_limit: int64[], output pixels.
        stuff_labels: uint8[H, W], what a thing pixel without owner becomes; None leaves it void.
    """
    # A code for each pixel: 0 void, 1..K the boxes, K + 1 + c stuff of class c.
    boxes = pasted.boxes
    num_boxes = op.Squeeze(op.Shape(boxes.scores), [0])
    of_label = np.where(is_thing, 0, np.arange(len(is_thing)) + 1)
    of_label = np.concatenate([of_label, np.zeros(256 - len(is_thing), int)]).astype(np.int32)  # void and its like
    stuff_of_label = constant(op, "stuff_of_label", of_label)
    stuff = op.Gather(stuff_of_label, cast(op, labels, INT32), axis=0)
    if stuff_labels is not None:
        things = constant(op, "thing_of_label", np.concatenate([is_thing, np.zeros(256 - len(is_thing), bool)]))
        filled = op.Gather(stuff_of_label, cast(op, stuff_labels, INT32), axis=0)
        stuff = op.Where(op.Gather(things, cast(op, labels, INT32), axis=0), filled, stuff)
    is_stuff = op.And(op.Equal(pasted.owners, 0), op.Greater(stuff, 0))
    codes = op.Where(is_stuff, op.Add(stuff, cast(op, num_boxes, INT32)), pasted.owners)

    num_codes = op.Add(num_boxes, len(is_thing) + 1)
    flat = op.Reshape(codes, [-1])
    areas = _scatter(op, num_codes, 0, flat, op.Expand(op.CastLike(1, flat), op.Shape(flat)), "add")
    limits = op.Concat(
        op.Expand(1, op.Reshape(op.Add(num_boxes, 1), [1])),
        op.Expand(op.Max(stuff_area_limit, 1), [len(is_thing)]),
        axis=0,
    )
    present = op.And(op.GreaterOrEqual(cast(op, areas, INT64), limits), op.Greater(op.Range(0, num_codes, 1), 0))
    number = cast(op, present, INT32)
    id_of_code = op.Mul(op.CumSum(number, 0), number)

    classes = constant(op, "classes", np.arange(len(is_thing)))
    ones = constant(op, "stuff_scores", np.ones(len(is_thing), np.float32))
    table_labels = op.Concat([0], boxes.labels, classes, axis=0)
    table_scores = op.Concat([0.0], boxes.scores, ones, axis=0)
    ids = op.Gather(id_of_code, codes, axis=0)
    return Segments(
        ids,
        cast(op, op.Compress(table_labels, present, axis=0), INT32),
        op.Compress(table_scores, present, axis=0),
        op.Compress(areas, present, axis=0),
        _tight_boxes(op, codes, num_codes, present),
    )


def _tight_boxes(op: OpBuilder, codes: Value, num_codes: Value, present: Value) -> Value:
    """int32[n, 4], x1, y1, x2, y2 of the pixels of each code that is present."""
    shape = op.Shape(codes)
    sides = []
    for axis in (1, 0):
        size = op.Gather(shape, axis, axis=0)
        steps = cast(op, op.Range(0, size, 1), INT32)
        steps = op.Reshape(op.Expand(op.Unsqueeze(steps, [1 - axis]), shape), [-1])
        flat = op.Reshape(codes, [-1])
        first = _scatter(op, num_codes, np.iinfo(np.int32).max, flat, steps, "min")
        last = _scatter(op, num_codes, -1, flat, steps, "max")
        sides.append((first, op.Add(last, 1)))
    (x1, x2), (y1, y2) = sides
    table = op.Concat(*(op.Unsqueeze(v, [1]) for v in (x1, y1, x2, y2)), axis=1)
    return op.Compress(table, present, axis=0)


def _scatter(op: OpBuilder, size: Value, start: int, indices: Value, values: Value, reduction: str) -> Value:
    initial = op.Expand(op.CastLike(start, values), op.Reshape(size, [1]))
    return op.ScatterElements(initial, indices, values, axis=0, reduction=reduction)
