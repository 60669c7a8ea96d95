"""Objects from frame to frame, by the overlap of their segments."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from lpsnet.structures import PanopticResult, Segment


@dataclass
class Track:
    """An object over time.

    Attributes:
        id: its number in the stream, from 1; never given again.
        label: index of its class.
        age: frames from when it was first seen to when it was last seen, both included.
        missed: frames since it was last seen.
        segment: of the frame that it was last seen in.
        box: of that segment, float64[4] xyxy in shares of the frame's width and height.
        velocity: float64[2] of the middle of the box, per frame.
    """

    id: int
    label: int
    segment: Segment = field(repr=False)
    box: np.ndarray = field(repr=False)
    velocity: np.ndarray = field(repr=False, default_factory=lambda: np.zeros(2))
    age: int = 1
    missed: int = 0

    def shift(self) -> np.ndarray:
        """float64[2], how far it ought to have moved since it was last seen."""
        return self.velocity * (self.missed + 1)

    def see(self, segment: Segment, box: np.ndarray) -> None:
        """Takes the segment of a new frame."""
        moved = (box[:2] + box[2:] - self.box[:2] - self.box[2:]) / 2
        self.velocity = moved / (self.missed + 1)
        self.segment, self.box = segment, box
        self.age += self.missed + 1
        self.missed = 0


class Tracker:
    """Gives the thing segments of successive frames the numbers of their objects.

    Segments are matched within a class, the best overlap first: by the IoU of masks with what the frame before showed,
    then by the IoU of boxes with all that is left, so that an object may be lost for some frames. Each is expected
    where its last movement would bring it. A new object that moves by more than its own size in a frame gets another
    number.

    Args:
        min_iou: least IoU of a match, above 0 and at most 1.
        patience: frames for which a lost object is remembered.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(self, min_iou: float, patience: int) -> None:
        if not 0 < min_iou <= 1:
            raise ValueError(f"track_iou: expected a number in (0, 1], got {min_iou}")
        if patience < 0:
            raise ValueError(f"track_patience: expected at least 0, got {patience}")
        self._min_iou, self._patience = min_iou, patience
        self._tracks: list[Track] = []
        self._ids = np.zeros((0, 0), np.int32)
        self.count = 0
        """Objects so far."""

    def update(self, result: PanopticResult) -> dict[int, Track]:
        """The tracks of the next frame: by the id of a thing segment, its object."""
        height, width = result.ids.shape
        things = [s for s in result.segments if result.categories[s.label].isthing]
        boxes = {s.id: np.array(s.box, np.float64) / (width, height, width, height) for s in things}
        found: dict[int, Track] = {}
        if self._ids.shape == result.ids.shape:
            seen = [t for t in self._tracks if t.missed == 0]
            self._match(found, [(_mask_iou(self._ids, result.ids, t, s), t, s) for t, s in _pairs(seen, things)])
        rest = [t for t in self._tracks if all(t is not other for other in found.values())]
        left = [s for s in things if s.id not in found]
        self._match(
            found, [(_box_iou(t.box + np.tile(t.shift(), 2), boxes[s.id]), t, s) for t, s in _pairs(rest, left)]
        )
        again = {track.id: segment_id for segment_id, track in found.items()}
        of_id = {s.id: s for s in things}
        for track in self._tracks:
            if track.id in again:
                track.see(of_id[again[track.id]], boxes[again[track.id]])
            else:
                track.missed += 1
        self._tracks = [t for t in self._tracks if t.missed <= self._patience]
        for segment in things:
            if segment.id not in found:
                self.count += 1
                found[segment.id] = Track(self.count, segment.label, segment, boxes[segment.id])
                self._tracks.append(found[segment.id])
        self._ids = result.ids
        return found

    def _match(self, found: dict[int, Track], candidates: list[tuple[float, Track, Segment]]) -> None:
        """Adds pairs to `found`, the best first; of equal ones, that of the older object."""
        taken: set[int] = set()
        for iou, track, segment in sorted(candidates, key=lambda c: (-c[0], c[1].id, c[2].id)):
            if iou >= self._min_iou and track.id not in taken and segment.id not in found:
                taken.add(track.id)
                found[segment.id] = track


def _pairs(tracks: Iterable[Track], segments: list[Segment]) -> list[tuple[Track, Segment]]:
    return [(t, s) for t in tracks for s in segments if t.label == s.label]


def _mask_iou(before: np.ndarray, now: np.ndarray, track: Track, segment: Segment) -> float:
    """Of an object's mask in the frame before, where it was seen, and a segment of this one."""
    height, width = now.shape
    dx, dy = (round(float(share) * side) for share, side in zip(track.shift(), (width, height), strict=True))
    a, b = track.segment.box, segment.box
    a = (a[0] + dx, a[1] + dy, a[2] + dx, a[3] + dy)
    x1, y1, x2, y2 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    if x1 >= x2 or y1 >= y2:
        return 0.0
    old = before[y1 - dy : y2 - dy, x1 - dx : x2 - dx] == track.segment.id
    shared = np.count_nonzero(old & (now[y1:y2, x1:x2] == segment.id))
    return shared / (track.segment.area + segment.area - shared)


def _box_iou(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    shared = float(sides.prod())
    union = float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()) - shared
    return shared / union if union > 0 else 0.0
