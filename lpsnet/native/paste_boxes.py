"""The panoptic head over numpy arrays: boxes pasted onto the label map."""

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lpsnet.config import Assignment
from lpsnet.native.arrays import expect
from lpsnet.native.library import Levels, call, pointer_array
from lpsnet.structures import Segment

ASSIGNMENTS: dict[str, int] = {"closest_borderness": 0, "highest_confidence": 1, "smallest_area": 2}


class PasteBoxesParams(ctypes.Structure):
    _fields_ = [
        ("num_boxes", ctypes.c_int32),
        ("num_classes", ctypes.c_int32),
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("scale_y", ctypes.c_float),
        ("scale_x", ctypes.c_float),
        ("levels", Levels),
        ("paste_score", ctypes.c_float),
        ("overlap_threshold", ctypes.c_float),
        ("assignment", ctypes.c_int32),
        ("stuff_area_limit", ctypes.c_int32),
    ]

    @classmethod
    def of(
        cls,
        num_boxes: int,
        num_classes: int,
        size: Sequence[int],
        scale: Sequence[float],
        level_sizes: Sequence[tuple[int, int]],
        strides: Sequence[int],
        paste_score: float,
        overlap_threshold: float,
        assignment: str,
        stuff_area_limit: int,
    ) -> "PasteBoxesParams":
        """From shapes; see `paste_boxes`. Raises ValueError where a number or a name does not fit."""
        if len(scale) != 2:
            raise ValueError(f"scale: expected (y, x), got {tuple(scale)}")
        levels, choice = Levels.of(level_sizes, strides), assignment_number(assignment)
        return cls(
            num_boxes, num_classes, *size, *scale, levels, paste_score, overlap_threshold, choice, stuff_area_limit
        )


def assignment_number(assignment: str) -> int:
    """The LpsAssignment of this name. Raises ValueError where there is none."""
    if assignment not in ASSIGNMENTS:
        raise ValueError(f"assignment: expected one of {sorted(ASSIGNMENTS)}, got {assignment!r}")
    return ASSIGNMENTS[assignment]


class SegmentTable(NamedTuple):
    """The segments of a panoptic map; row i describes id i + 1. Things by descending score, then stuff by class.

    Attributes:
        labels: int32[K], index of the class.
        scores: float32[K], of the box; 1 for stuff.
        areas: int32[K], pixels.
        boxes: int32[K, 4], tight xyxy in pixels, x2 and y2 exclusive.
    """

    labels: np.ndarray
    scores: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray

    @classmethod
    def empty(cls, rows: int) -> "SegmentTable":
        """A table for liblpsnet to fill."""
        labels, areas = np.empty(rows, np.int32), np.empty(rows, np.int32)
        return cls(labels, np.empty(rows, np.float32), areas, np.empty((rows, 4), np.int32))

    def first(self, rows: int) -> "SegmentTable":
        """Without the padding."""
        return SegmentTable(*(column[:rows] for column in self))

    def segments(self) -> tuple[Segment, ...]:
        """The rows as dataclasses."""
        columns = (column.tolist() for column in self)
        return tuple(
            Segment(i, label, score, area, tuple(box))
            for i, (label, score, area, box) in enumerate(zip(*columns, strict=True), start=1)
        )


def paste_boxes(
    labels: np.ndarray,
    is_thing: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    box_labels: np.ndarray,
    box_levels: np.ndarray | None,
    borderness: Sequence[np.ndarray],
    strides: Sequence[int],
    scale: Sequence[float],
    paste_score: float,
    overlap_threshold: float,
    assignment: Assignment,
    stuff_area_limit: int,
    stuff_labels: np.ndarray | None = None,
) -> tuple[np.ndarray, SegmentTable]:
    """The panoptic head without parameters (paper, section 3.4).

    A pixel belongs to a box when its centre, ``((x + 0.5) * scale_x, (y + 0.5) * scale_y)``, is in
    ``[x1, x2) x [y1, y2)``, and to the box's mask when its label is the box's. All arithmetic is in float32.

    1. By descending score, a box is discarded when its mask is empty or more than `overlap_threshold` of it is
       occupied by boxes kept before. A box takes no part when its score is NaN or below `paste_score`, its label is not
       a thing class, or a coordinate is NaN.
    2. A pixel in the masks of several kept boxes goes to one of them, see `assignment`; to the earlier one on a tie.
    3. Each stuff class makes one segment. Labels from C on are void, as are thing pixels that no box claims unless
       `stuff_labels` names a stuff class for them.

    Args:
        labels: uint8[H, W], class of each pixel.
        is_thing: uint8 or bool [C], up to 255 classes.
        boxes: float32[N, 4], xyxy in pixels of the network's input, best first.
        scores: float32[N], descending.
        box_labels: int32[N].
        box_levels: int32[N], indices into `borderness`; only closest_borderness needs them. A level out of range is
            one that predicted nothing: other boxes are closer.
        borderness: per level float32[h, w], probabilities; only closest_borderness needs them. A NaN is as far away as
            can be.
        strides: of each level, in input pixels.
        scale: (y, x), input pixels per output pixel.
        paste_score: boxes below it are not pasted.
        overlap_threshold: see above; in [0, 1].
        assignment: "closest_borderness" (the box whose border-ness at the pixel is closest to the one predicted there
            by the level it came from), "highest_confidence" or "smallest_area".
        stuff_area_limit: in output pixels; a stuff segment below it becomes void.
        stuff_labels: uint8[H, W] or None: taken by thing pixels that no box claims, before areas are counted.

    Returns:
        ids, int32[H, W], 0 for void; the table of the segments.

    Raises:
        ValueError: a bad argument, named in the message.
    """
    labels = expect("labels", labels, np.uint8, ("H", "W"))
    is_thing = expect("is_thing", is_thing, np.uint8, ("C",))
    scores = expect("scores", scores, np.float32, ("N",))
    boxes = expect("boxes", boxes, np.float32, (len(scores), 4))
    box_labels = expect("box_labels", box_labels, np.int32, scores.shape)
    if box_levels is not None:
        box_levels = expect("box_levels", box_levels, np.int32, scores.shape)
    borderness = [expect(f"borderness[{i}]", b, np.float32, ("h", "w")) for i, b in enumerate(borderness)]
    if stuff_labels is not None:
        stuff_labels = expect("stuff_labels", stuff_labels, np.uint8, labels.shape)
    params = PasteBoxesParams.of(
        len(boxes),
        len(is_thing),
        labels.shape,
        scale,
        [(b.shape[0], b.shape[1]) for b in borderness],
        strides,
        paste_score,
        overlap_threshold,
        assignment,
        stuff_area_limit,
    )
    ids, count = np.empty(labels.shape, np.int32), np.empty(1, np.int32)
    table = SegmentTable.empty(len(boxes) + len(is_thing))
    call(
        "paste_boxes",
        params,
        *(a.ctypes.data for a in (labels, is_thing, boxes, scores, box_labels)),
        None if box_levels is None else box_levels.ctypes.data,
        None,
        pointer_array([b.ctypes.data for b in borderness]),
        None if stuff_labels is None else stuff_labels.ctypes.data,
        *(a.ctypes.data for a in (ids, *table, count)),
    )
    return ids, table.first(count[0])
