"""Videos made on the fly, captures and engines that do as they are told."""

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np

from lpsnet.categories import categories
from lpsnet.config import StreamConfig
from lpsnet.engine.capture import CaptureSource
from lpsnet.engine.sources import StreamAddress
from lpsnet.structures import PanopticResult, Segment

CLASSES = categories("synthetic")
DISC = next(i for i, c in enumerate(CLASSES) if c.isthing)
QUICK = StreamConfig(timeout=10.0, backoff=0.001, report_every=1.0)
"""Does not keep tests waiting."""


def write_video(
    path: Path, frames: int, size: tuple[int, int] = (48, 64), rate: float = 10.0, codec: str = "mp4v"
) -> Path:
    """A video of (height, width) `size` whose frame i is gray of value 8 i."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), rate, size[::-1])
    assert writer.isOpened()
    for i in range(frames):
        writer.write(np.full((*size, 3), 8 * (i % 32), np.uint8))
    writer.release()
    return path


def read_video(path: Path) -> tuple[list[np.ndarray], float]:
    """The frames and the frame rate of a video."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    frames = list(itertools.takewhile(lambda f: f is not None, (capture.read()[1] for _ in itertools.count())))
    rate = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return frames, rate


def grays(frames: Iterable[np.ndarray]) -> list[int]:
    """Which frames of `write_video` these are."""
    return [round(float(np.mean(f)) / 8) for f in frames]


class FakeCapture:
    """A `cv2.VideoCapture` that delivers what it is given: pictures, None for a broken frame, or an exception.

    Args:
        items: delivered one after the other; a callable is called for its item. Afterwards reading fails.
        count, rate: what it tells about itself.
        opened: whether it could be opened.
    """

    def __init__(self, items: Iterable[object] = (), count: float = 0, rate: float = 10.0, opened: bool = True) -> None:
        self._items, self._opened = iter(items), opened
        self._properties = {cv2.CAP_PROP_FRAME_COUNT: count, cv2.CAP_PROP_FPS: rate}
        self.released = False

    def isOpened(self) -> bool:
        return self._opened

    def read(self) -> tuple[bool, np.ndarray | None]:
        item = next(self._items, None)
        if callable(item):
            item = item()
        if isinstance(item, Exception):
            raise item
        return item is not None, item  # type: ignore[return-value]

    def grab(self) -> bool:
        return self.read()[0]

    def get(self, propId: int) -> float:
        return self._properties.get(propId, 0.0)

    def release(self) -> None:
        self.released = True


def gray(i: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Frame i of `write_video`, as a capture gives it."""
    return np.full((*size, 3), 8 * (i % 32), np.uint8)


def camera(captures: Iterable[FakeCapture], config: StreamConfig = QUICK) -> CaptureSource:
    """A camera; each attempt to connect takes the next capture."""
    following = iter(captures)
    return CaptureSource(StreamAddress("camera", "0"), config, lambda: next(following, FakeCapture(opened=False)))


def recording(capture: FakeCapture, config: StreamConfig = QUICK) -> CaptureSource:
    """A file."""
    return CaptureSource(StreamAddress("file", "made.mp4"), config, lambda: capture)


def result_of(ids: np.ndarray, labels: dict[int, int]) -> PanopticResult:
    """The panoptic map of ids, whose classes are given by id."""
    segments = []
    for i, label in labels.items():
        rows, columns = np.nonzero(ids == i)
        box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
        segments.append(Segment(i, label, 0.5, len(rows), box))
    return PanopticResult(ids.astype(np.int32), tuple(segments), CLASSES)


class FakeEngine:
    """Finds one disc in every image.

    Args:
        before: called with each image first, from the thread that predicts.
    """

    recipe = SimpleNamespace(categories=CLASSES, postprocess=None)

    def __init__(self, before: Callable[[np.ndarray], object] = lambda image: None) -> None:
        self._before = before

    def predict(self, image: np.ndarray, config: object = None, profile: bool = False) -> PanopticResult:
        self._before(image)
        ids = np.zeros(image.shape[:2], np.int32)
        ids[: image.shape[0] // 2 + 1, : image.shape[1] // 2 + 1] = 1
        return result_of(ids, {1: DISC})
