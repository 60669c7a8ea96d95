"""The images that a network does worst on, with pictures of prediction and truth."""

import heapq
import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from lpsnet import atomic
from lpsnet.categories import VOID, Category
from lpsnet.data.sample import Sample
from lpsnet.evaluation.evaluate import ScoredImage, json_bytes
from lpsnet.structures import PanopticResult, Segment
from lpsnet.visualize import overlay

_TITLES = ("image", "prediction", "truth", "wrong pixels")
_WRONG_COLOR = (230, 30, 30)
_TITLE_HEIGHT = 28


@dataclass(frozen=True)
class WorstImage:
    """One of the worst images.

    Attributes:
        name: of the sample.
        pq: of this image alone, in percent: the mean over the classes that it has in truth or prediction.
        wrong_pixels: percent of the pixels with a true class whose class in the panoptic map is another or none.
        missed: by class, the number of true segments without a match.
        false: by class, the number of predicted segments without a match.
        picture: the file with image, prediction, truth and wrong pixels.
    """

    name: str
    pq: float
    wrong_pixels: float
    missed: dict[str, int]
    false: dict[str, int]
    picture: str


class WorstImages:
    """Sees every image and keeps the worst by PQ; of equal ones, those with more wrong pixels.

    An image without a truth has no PQ and is never among them. Only the pictures of the worst so far are on disk.
    """

    def __init__(self, root: Path, count: int, categories: Sequence[Category]) -> None:
        self._root, self._count, self._categories = root, count, tuple(categories)
        # The best of the worst is first; the number, which no two share, ends every comparison.
        self._heap: list[tuple[float, float, int, WorstImage]] = []
        self._numbers = itertools.count(1)

    def update(self, image: ScoredImage) -> None:
        """Adds one image."""
        number = next(self._numbers)
        wrong = wrong_pixels(image.sample, image.result)
        valid = int(np.count_nonzero(image.sample.labels() != VOID))
        share = 100 * int(np.count_nonzero(wrong)) / max(1, valid)
        key = (-image.panoptic.pq, share, -number)
        if np.isnan(image.panoptic.pq) or (len(self._heap) == self._count and key < self._heap[0][:3]):
            return
        per_class = image.panoptic.per_class
        entry = WorstImage(
            image.sample.name,
            image.panoptic.pq,
            share,
            {name: q.fn for name, q in per_class.items() if q.fn},
            {name: q.fp for name, q in per_class.items() if q.fp},
            f"{number:05d}_{re.sub(r'[^A-Za-z0-9._-]', '_', image.sample.name)}.jpg",
        )
        _, data = cv2.imencode(".jpg", self._picture(image, wrong)[..., ::-1])
        (self._root / entry.picture).write_bytes(data.tobytes())
        heapq.heappush(self._heap, (*key, entry))
        if len(self._heap) > self._count:
            (self._root / heapq.heappop(self._heap)[-1].picture).unlink()

    def images(self) -> list[WorstImage]:
        """The worst first."""
        return [entry for *_, entry in sorted(self._heap, reverse=True)]

    def _picture(self, image: ScoredImage, wrong: np.ndarray) -> np.ndarray:
        photograph = image.sample.image
        faint = cv2.addWeighted(photograph, 0.45, np.full_like(photograph, 255), 0.55, 0)
        faint[wrong] = _WRONG_COLOR
        truth = true_result(image.sample, self._categories)
        parts = [photograph, overlay(photograph, image.result), overlay(photograph, truth), faint]
        tiles = [_titled(part, title) for part, title in zip(parts, _TITLES, strict=True)]
        return np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])


@contextmanager
def worst_images(path: Path, count: int, categories: Sequence[Category]) -> Iterator[WorstImages]:
    """A folder of the worst images: ``worst.json``, ``worst.md`` and a picture of each.

    Args:
        path: new or empty.
        count: how many, at least 1.
        categories: the classes.

    Raises:
        FileExistsError: a folder with files in it.
        OSError: a place that cannot be written to.
        ValueError: a count below 1.
    """
    if count < 1:
        raise ValueError(f"worst: expected a count of at least 1, got {count}")
    with atomic.folder(path) as root:
        worst = WorstImages(root, count, categories)
        yield worst
        images = worst.images()
        (root / "worst.json").write_bytes(json_bytes([asdict(image) for image in images]))
        (root / "worst.md").write_text(_markdown(images), encoding="utf-8")


def wrong_pixels(sample: Sample, result: PanopticResult) -> np.ndarray:
    """bool[H, W]: the truth has a class there, and the panoptic map another one or none."""
    true = sample.labels()
    return (true != VOID) & (result.labels() != true)


def true_result(sample: Sample, categories: Sequence[Category]) -> PanopticResult:
    """The truth in the form of a prediction; crowds become ordinary segments."""
    segments = []
    for key, segment in enumerate(sample.segments, 1):
        rows, columns = np.nonzero(sample.ids == key)
        if len(rows):
            box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
            segments.append(Segment(key, segment.label, 1.0, len(rows), box))
    return PanopticResult(sample.ids, tuple(segments), tuple(categories))


def _titled(picture: np.ndarray, title: str) -> np.ndarray:
    bar = np.full((_TITLE_HEIGHT, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(bar, title, (8, _TITLE_HEIGHT - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([bar, picture])


def _markdown(images: Sequence[WorstImage]) -> str:
    lines = ["| image | PQ | wrong pixels | missed | false |", "|---|---|---|---|---|"]
    for image in images:
        missed, false = (
            ", ".join(f"{count} {name}" for name, count in counts.items()) for counts in (image.missed, image.false)
        )
        link = f"[{image.name}]({image.picture})"
        lines.append(f"| {link} | {image.pq:.1f} | {image.wrong_pixels:.1f} % | {missed} | {false} |")
    return "\n".join(lines) + "\n"
