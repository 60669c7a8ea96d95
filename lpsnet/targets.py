"""What each point of the box head learns from a panoptic ground truth (paper, section 3.2, equation 1). Numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lpsnet.config import BOX_STRIDES, TargetConfig
from lpsnet.data.sample import Sample


@dataclass(frozen=True)
class LevelTargets:
    """The targets of one level.

    Attributes:
        positive: bool[h, w], the points that learn an object.
        ltrb: float32[4, h, w], distances to the sides of the object's box in input pixels; 0 elsewhere.
        borderness: float32[h, w] in [0, 1]; 0 elsewhere.
        objects: int32[h, w], the id of the object; 0 elsewhere.
    """

    positive: np.ndarray
    ltrb: np.ndarray
    borderness: np.ndarray
    objects: np.ndarray


@dataclass(frozen=True)
class ObjectShape:
    """An object's mask, seen from its rows and columns.

    Attributes:
        box: x1, y1, x2, y2 of the tight box in pixels, x2, y2 exclusive.
        area: of the mask in pixels.
        row_begin, row_end: int32[y2 - y1], the mask's first pixel and the one after its last, in each row of the box.
        column_begin, column_end: int32[x2 - x1], likewise in each column.
    """

    box: tuple[int, int, int, int]
    area: int
    row_begin: np.ndarray
    row_end: np.ndarray
    column_begin: np.ndarray
    column_end: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray, left: int = 0, top: int = 0) -> "ObjectShape":
        """From bool[h, w] with at least one pixel set, whose upper left corner stands at (left, top)."""
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        y1, y2, x1, x2 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        mask = mask[y1:y2, x1:x2]
        return cls(
            box=(left + x1, top + y1, left + x2, top + y2),
            area=int(mask.sum()),
            row_begin=(left + x1 + mask.argmax(1)).astype(np.int32),
            row_end=(left + x2 - mask[:, ::-1].argmax(1)).astype(np.int32),
            column_begin=(top + y1 + mask.argmax(0)).astype(np.int32),
            column_end=(top + y2 - mask[::-1].argmax(0)).astype(np.int32),
        )

    def distances_to_mask(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """float32[4, K], from points inside the box to the farthest mask pixels along their own row and column."""
        row, column = np.floor(y).astype(int) - self.box[1], np.floor(x).astype(int) - self.box[0]
        return np.stack(
            [
                x - self.row_begin[row],
                y - self.column_begin[column],
                self.row_end[row] - x,
                self.column_end[column] - y,
            ]
        ).astype(np.float32)

    def distances_to_box(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """float32[4, K], from points to the sides of the box; negative where a point is outside."""
        x1, y1, x2, y2 = self.box
        return np.stack([x - x1, y - y1, x2 - x, y2 - y]).astype(np.float32)


def borderness(ltrb: np.ndarray) -> np.ndarray:
    """Equation 1: sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)), from [4, ...] to [...]; 0 at a zero distance."""
    left, top, right, bottom = np.maximum(ltrb, 0)
    horizontal = np.minimum(left, right) / np.maximum(np.maximum(left, right), 1e-6)
    vertical = np.minimum(top, bottom) / np.maximum(np.maximum(top, bottom), 1e-6)
    return np.sqrt(horizontal * vertical)


def object_shapes(ids: np.ndarray, objects: Sequence[int]) -> dict[int, ObjectShape]:
    """The shape of each of these ids that has a pixel in the map, int32[H, W]."""
    shapes = {}
    for i, (left, top, right, bottom) in _tight_boxes(ids, objects).items():
        shapes[i] = ObjectShape.of(ids[top:bottom, left:right] == i, left, top)
    return shapes


def box_targets(
    sample: Sample, isthing: Sequence[bool], config: TargetConfig, strides: Sequence[int] = BOX_STRIDES
) -> list[LevelTargets]:
    """The targets of every level of the box head.

    A point stands at the centre of its cell, (i + 1/2) * stride. It is positive for the object whose mask covers it
    (``positives="mask"``) or for the smallest object whose box does (``"box"``), where the largest distance to the
    sides of that box is in the level's range. An object without any positive point gets the point nearest to its
    innermost pixel, on the level of its size.

    Args:
        sample: of the size of the network's input.
        isthing: per class.
        config: see `TargetConfig`.
        strides: of the levels, in input pixels.
    """
    shapes = object_shapes(sample.ids, sample.object_ids(isthing))
    height, width = sample.ids.shape
    levels = []
    for level, stride in enumerate(strides):
        h, w = -(-height // stride), -(-width // stride)
        y, x = np.meshgrid((np.arange(h) + 0.5) * stride, (np.arange(w) + 0.5) * stride, indexing="ij")
        targets = LevelTargets(
            np.zeros((h, w), bool),
            np.zeros((4, h, w), np.float32),
            np.zeros((h, w), np.float32),
            np.zeros((h, w), np.int32),
        )
        low, high = config.level_bounds[level], config.level_bounds[level + 1]
        ids = np.zeros((h, w), np.int32)
        inside = (y < height) & (x < width)
        ids[inside] = sample.ids[y[inside].astype(int), x[inside].astype(int)]
        # The larger objects first, so that the smaller overwrite them where boxes overlap.
        for i in sorted(shapes, key=lambda i: -shapes[i].area):
            distances = shapes[i].distances_to_box(y.ravel(), x.ravel()).reshape(4, h, w)
            covered = ids == i if config.positives == "mask" else inside & (distances.min(0) > 0)
            farthest = distances.max(0)
            covered &= (farthest > low) & (farthest <= high)
            _assign(targets, i, shapes[i], covered, y, x, config)
        levels.append(targets)
    _rescue_missed_objects(levels, shapes, strides, config)
    return levels


def borderness_map(ids: np.ndarray, objects: Sequence[int]) -> np.ndarray:
    """float32[H, W], equation 1 at the centre of each pixel of these objects, from its own mask; 0 elsewhere."""
    result = np.zeros(ids.shape, np.float32)
    for i, shape in object_shapes(ids, objects).items():
        x1, y1, x2, y2 = shape.box
        rows, columns = np.nonzero(ids[y1:y2, x1:x2] == i)
        rows, columns = rows + y1, columns + x1
        result[rows, columns] = borderness(shape.distances_to_mask(rows + 0.5, columns + 0.5))
    return result


def _tight_boxes(ids: np.ndarray, objects: Sequence[int]) -> dict[int, tuple[int, int, int, int]]:
    """x1, y1, x2, y2 of each id that occurs, from the runs of equal ids in the rows: far fewer than pixels."""
    begins = np.ones(ids.shape, bool)
    np.not_equal(ids[:, 1:], ids[:, :-1], out=begins[:, 1:])
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], ids.size) - 1
    values = ids.ravel()[starts]
    rows, columns = np.divmod(starts, ids.shape[1])
    size = max([0, *objects, int(values.max(initial=0))]) + 1
    first = np.full((2, size), np.iinfo(np.int64).max)
    last = np.full((2, size), -1)
    np.minimum.at(first[0], values, columns)
    np.minimum.at(first[1], values, rows)
    np.maximum.at(last[0], values, ends % ids.shape[1])
    np.maximum.at(last[1], values, rows)
    return {
        i: (int(first[0, i]), int(first[1, i]), int(last[0, i]) + 1, int(last[1, i]) + 1)
        for i in objects
        if last[0, i] >= 0
    }


def _assign(
    targets: LevelTargets,
    i: int,
    shape: ObjectShape,
    points: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    config: TargetConfig,
) -> None:
    """Makes these points positive for the object."""
    y, x = y[points], x[points]
    distances = np.maximum(shape.distances_to_box(y, x), 0)
    targets.positive[points] = True
    targets.objects[points] = i
    targets.ltrb[:, points] = distances
    if config.borderness == "mask":
        x1, y1, x2, y2 = shape.box
        # A rescued point may lie outside the box; the nearest row and column of the mask stand in.
        y, x = np.clip(y, y1, y2 - 0.5), np.clip(x, x1, x2 - 0.5)
        distances = shape.distances_to_mask(y, x)
    targets.borderness[points] = borderness(distances)


def _rescue_missed_objects(
    levels: list[LevelTargets], shapes: dict[int, ObjectShape], strides: Sequence[int], config: TargetConfig
) -> None:
    found = set().union(*(np.unique(level.objects) for level in levels))
    for i in sorted(set(shapes) - found, key=lambda i: -shapes[i].area):
        shape = shapes[i]
        x1, y1, x2, y2 = shape.box
        # Seen from its middle, an object reaches half its longer side.
        reach = max(x2 - x1, y2 - y1) / 2
        level = next(k for k, high in enumerate(config.level_bounds[1:]) if reach <= high)
        h, w = levels[level].positive.shape
        row = min(int((y1 + y2) / 2 / strides[level]), h - 1)
        column = min(int((x1 + x2) / 2 / strides[level]), w - 1)
        points = np.zeros((h, w), bool)
        points[row, column] = True
        centre = np.full((h, w), strides[level] / 2)
        y, x = centre + row * strides[level], centre + column * strides[level]
        _assign(levels[level], i, shape, points, y, x, config)
