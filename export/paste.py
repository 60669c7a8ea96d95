"""Which boxes are pasted and onto which pixels, in the graph: `csrc/core/paste.h` and `borderness.h`."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from onnxscript import OpBuilder

from lpsnet.config import BOX_STRIDES

from .detect import Boxes
from .graph import (
    BOOL,
    FLOAT,
    INT32,
    INT64,
    Carried,
    Round,
    Value,
    cast,
    choose,
    constant,
    element,
    lerp,
    linear_taps,
    loop,
    vector,
)


class Pasted(NamedTuple):
    """The boxes that were kept, and int32[H, W], the number of the owner of each pixel: 1 is the first, 0 is none."""

    boxes: Boxes
    owners: Value


class _Window(NamedTuple):
    """The pixels of a box, int64[2] each: from (row, column), to before (row, column)."""

    start: Value
    stop: Value

    def crop(self, op: OpBuilder, image: Value) -> Value:
        return op.Slice(image, self.start, self.stop, [0, 1])

    def spread(self, op: OpBuilder, part: Value, like: Value) -> Value:
        """The inverse of `crop`, with zeros around."""
        after = op.Sub(op.Shape(like), op.Add(self.start, op.Shape(part)))
        return op.Pad(part, op.Concat(self.start, after, axis=0))


def paste(
    op: OpBuilder,
    labels: Value,
    candidates: Boxes,
    borderness: Sequence[Value],
    y: Value,
    x: Value,
    assignment: str,
    paste_score: Value,
    overlap_threshold: Value,
) -> Pasted:
    """Keeps boxes and gives each pixel of theirs an owner.

    Args:
        op: of the main graph.
        labels: uint8[H, W], the class of each pixel.
        candidates: by descending score.
        borderness: per level float32[1, h, w].
        y: float32[H], centres of the output's rows in input pixels. x: float32[W], of its columns.
        assignment: see `PostprocessConfig`.
        paste_score: float32[]. overlap_threshold: float32[].
    """
    boxes = candidates.where(op, op.GreaterOrEqual(candidates.scores, paste_score))
    boxes, contested = _keep(op, labels, boxes, y, x, overlap_threshold)
    numbers = op.Add(op.Range(0, _count(op, boxes.scores), 1), 1)
    none = op.Expand(op.CastLike(0, cast(op, numbers, INT32)), op.Shape(labels))
    if assignment == "closest_borderness":
        owners = _to_closest(op, labels, boxes, borderness, y, x, none, contested)
    else:
        order = op.Sub(numbers, 1)
        if assignment == "smallest_area":
            _, order = op.TopK(_areas(op, boxes.boxes), op.Shape(boxes.scores), largest=0, _outputs=2)
        owners = _to_first(op, labels, boxes, y, x, none, order)
    return Pasted(boxes, owners)


def _keep(
    op: OpBuilder, labels: Value, boxes: Boxes, y: Value, x: Value, overlap_threshold: Value
) -> tuple[Boxes, Value]:
    """The boxes that stay, and bool[H, W], the pixels that more than one of them claims."""
    starts, stops = _windows(op, boxes.boxes, y, x)
    nowhere = op.Expand(constant(op, "nowhere", np.array(False)), op.Shape(labels))

    def body(inner: OpBuilder, i: Value, occupied: Value, contested: Value) -> Round:
        window = _Window(inner.Gather(starts, i, axis=0), inner.Gather(stops, i, axis=0))
        mask = _mask(inner, labels, window, inner.Gather(boxes.labels, i, axis=0))
        shared = inner.And(mask, window.crop(inner, occupied))
        area, taken = _pixels(inner, mask), _pixels(inner, shared)
        too_much = inner.Greater(cast(inner, taken, FLOAT), inner.Mul(overlap_threshold, cast(inner, area, FLOAT)))
        keep = inner.And(inner.Greater(area, 0), inner.Not(too_much))
        (occupied_after,) = choose(
            inner,
            "keep.occupy",
            keep,
            lambda then: [then.Or(occupied, window.spread(then, mask, labels))],
            lambda other: [occupied],
            [(BOOL, 2)],
        )
        (contested_after,) = choose(
            inner,
            "keep.contest",
            inner.And(keep, inner.Greater(taken, 0)),
            lambda then: [then.Or(contested, window.spread(then, shared, labels))],
            lambda other: [contested],
            [(BOOL, 2)],
        )
        return [occupied_after, contested_after], [keep]

    carried = [Carried(nowhere, BOOL, 2), Carried(nowhere, BOOL, 2)]
    _, contested, kept = loop(op, "keep", _count(op, boxes.scores), carried, body, [BOOL])
    return boxes.where(op, kept), contested


def _to_first(op: OpBuilder, labels: Value, boxes: Boxes, y: Value, x: Value, none: Value, order: Value) -> Value:
    """Each pixel to the first box, in int64[n] order, that claims it."""
    starts, stops = _windows(op, boxes.boxes, y, x)

    def body(inner: OpBuilder, i: Value, owners: Value) -> Round:
        box = inner.Gather(order, i, axis=0)
        window = _Window(inner.Gather(starts, box, axis=0), inner.Gather(stops, box, axis=0))
        mask = _mask(inner, labels, window, inner.Gather(boxes.labels, box, axis=0))
        free = inner.And(mask, inner.Equal(window.crop(inner, owners), 0))
        return [_claimed(inner, owners, window, free, box, labels)], []

    (owners,) = loop(op, "first", _count(op, boxes.scores), [Carried(none, INT32, 2)], body)
    return owners


def _to_closest(
    op: OpBuilder,
    labels: Value,
    boxes: Boxes,
    borderness: Sequence[Value],
    y: Value,
    x: Value,
    none: Value,
    contested: Value,
) -> Value:
    """Each pixel to the box whose border-ness there is closest to the predicted one."""
    starts, stops = _windows(op, boxes.boxes, y, x)
    maps, heights, widths = _stacked(op, borderness)
    strides = constant(op, "box_strides", np.array(BOX_STRIDES, np.float32))
    farthest = op.Expand(float("inf"), op.Shape(labels))

    def gaps(inner: OpBuilder, i: Value, window: _Window) -> Value:
        level = inner.Gather(boxes.levels, i, axis=0)
        stride = inner.Gather(strides, level, axis=0)
        (y0, x0), (y1, x1) = (inner.Split(corner, num_outputs=2, axis=0, _outputs=2) for corner in window)
        rows, columns = inner.Slice(y, y0, y1, [0]), inner.Slice(x, x0, x1, [0])
        row_taps = linear_taps(inner, inner.Div(rows, stride), inner.Gather(heights, level, axis=0))
        column_taps = linear_taps(inner, inner.Div(columns, stride), inner.Gather(widths, level, axis=0))
        predicted_map = inner.Gather(maps, level, axis=0)

        def across(which: Value) -> Value:
            row = inner.Gather(predicted_map, which, axis=0)
            low, high = inner.Gather(row, column_taps.low, axis=1), inner.Gather(row, column_taps.high, axis=1)
            return lerp(inner, low, high, column_taps.weight)

        predicted = lerp(inner, across(row_taps.low), across(row_taps.high), inner.Unsqueeze(row_taps.weight, [1]))
        left, top, right, bottom = inner.Split(inner.Gather(boxes.boxes, i, axis=0), num_outputs=4, axis=0, _outputs=4)
        across_box, down_box = _balance(inner, columns, left, right), _balance(inner, rows, top, bottom)
        balances = inner.Mul(across_box, inner.Unsqueeze(down_box, [1]))
        gap = inner.Abs(inner.Sub(inner.Sqrt(balances), predicted))
        return inner.Where(inner.IsNaN(gap), float("inf"), gap)

    def body(inner: OpBuilder, i: Value, owners: Value, best: Value) -> Round:
        window = _Window(inner.Gather(starts, i, axis=0), inner.Gather(stops, i, axis=0))
        mask = _mask(inner, labels, window, inner.Gather(boxes.labels, i, axis=0))
        rivals = inner.And(mask, window.crop(inner, contested))

        def fight(then: OpBuilder) -> list[Value]:
            gap = gaps(then, i, window)
            closer = then.Less(gap, window.crop(then, best))
            wins = then.And(mask, then.Or(closer, then.Equal(window.crop(then, owners), 0)))
            everywhere = window.spread(then, wins, labels)
            return [
                _claimed(then, owners, window, wins, i, labels),
                then.Where(everywhere, window.spread(then, gap, labels), best),
            ]

        return choose(
            inner,
            "closest.if",
            inner.Greater(_pixels(inner, rivals), 0),
            fight,
            lambda other: [_claimed(other, owners, window, mask, i, labels), best],
            [(INT32, 2), (FLOAT, 2)],
        ), []

    carried = [Carried(none, INT32, 2), Carried(farthest, FLOAT, 2)]
    owners, _ = loop(op, "closest", _count(op, boxes.scores), carried, body)
    return owners


def _windows(op: OpBuilder, boxes: Value, y: Value, x: Value) -> tuple[Value, Value]:
    """int64[n, 2] twice: first row and column whose centre is in the box, and the first after them."""
    left, top, right, bottom = op.Split(boxes, num_outputs=4, axis=1, _outputs=4)  # [n, 1]

    def below(centres: Value, bound: Value) -> Value:
        return op.ReduceSum(cast(op, op.Less(centres, bound), INT64), [1], keepdims=1)

    start = op.Concat(below(y, top), below(x, left), axis=1)
    stop = op.Concat(below(y, bottom), below(x, right), axis=1)
    return start, op.Max(start, stop)


def _mask(op: OpBuilder, labels: Value, window: _Window, label: Value) -> Value:
    return op.Equal(window.crop(op, labels), op.CastLike(label, labels))


def _claimed(op: OpBuilder, owners: Value, window: _Window, wins: Value, index: Value, labels: Value) -> Value:
    number = cast(op, op.Add(index, 1), INT32)
    return op.Where(window.spread(op, wins, labels), number, owners)


def _pixels(op: OpBuilder, mask: Value) -> Value:
    return op.ReduceSum(cast(op, mask, INT32), keepdims=0)


def _count(op: OpBuilder, values: Value) -> Value:
    return op.Squeeze(op.Shape(values), [0])


def _balance(op: OpBuilder, points: Value, begin: Value, end: Value) -> Value:
    before, after = op.Sub(points, begin), op.Sub(end, points)
    nearer = op.Less(before, after)
    return op.Div(op.Where(nearer, before, after), op.Where(nearer, after, before))


def _areas(op: OpBuilder, boxes: Value) -> Value:
    left, top, right, bottom = (op.Squeeze(v, [1]) for v in op.Split(boxes, num_outputs=4, axis=1, _outputs=4))
    width, height = op.Sub(right, left), op.Sub(bottom, top)
    return op.Where(op.And(op.Greater(width, 0.0), op.Greater(height, 0.0)), op.Mul(width, height), 0.0)


def _stacked(op: OpBuilder, borderness: Sequence[Value]) -> tuple[Value, Value, Value]:
    """All levels as float32[levels, h, w] of the largest, and int64[levels] of their own heights and widths."""
    shapes = [op.Shape(b) for b in borderness]
    maps = []
    for level, shape in zip(borderness, shapes, strict=True):
        after = op.Slice(op.Sub(shapes[0], shape), [1], [3])
        maps.append(op.Pad(level, op.Concat([0, 0, 0, 0], after, axis=0)))
    heights, widths = ([element(op, shape, axis) for shape in shapes] for axis in (1, 2))
    return op.Concat(*maps, axis=0), vector(op, *heights), vector(op, *widths)
