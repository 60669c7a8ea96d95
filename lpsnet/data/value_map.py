"""From a map of a data set's own values, one per segment, to ids and segments. Two passes, however many segments."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from lpsnet.data.sample import TrueSegment

_VALUES = 1 << 16
_BLOCK = 1 << 18
"""So many pixels go through numpy's indexing at a time, which makes 8-byte integers of them."""


def segments_of(
    values: np.ndarray, describe: Callable[[int], TrueSegment | None], isthing: Sequence[bool]
) -> tuple[np.ndarray, tuple[TrueSegment, ...]]:
    """int32[H, W] ids and their segments, in the order of the values.

    Args:
        values: uint16[H, W].
        describe: the segment of a value that occurs, or None for void. What it raises goes through.
        isthing: per class. The values of one stuff class are one segment together.
    """
    # OpenCV's histogram makes no copy of the map, which may have 10 million pixels and more.
    counts = cv2.calcHist([np.ascontiguousarray(values)], [0], None, [_VALUES], [0, _VALUES])
    table = np.zeros(_VALUES, np.int32)
    segments: list[TrueSegment] = []
    stuff: dict[int, int] = {}
    for value in np.flatnonzero(counts).tolist():
        segment = describe(value)
        if segment is None:
            continue
        if segment.label in stuff:
            table[value] = stuff[segment.label]
            continue
        segments.append(segment)
        table[value] = len(segments)
        if not isthing[segment.label]:
            stuff[segment.label] = len(segments)
    ids = np.empty(values.shape, np.int32)
    rows = max(1, _BLOCK // max(1, values.shape[1]))
    for top in range(0, len(values), rows):
        np.take(table, values[top : top + rows], out=ids[top : top + rows], mode="clip")
    return ids, tuple(segments)
