"""Video files, cameras and network streams through OpenCV, with everything that may go wrong with them."""

import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np

from lpsnet.config import StreamConfig

from .sources import Frame, SourceCounts, SourceError, StreamAddress

_BROKEN_IN_A_RECORDING = 100
"""Failures in a row after which a recording has ended: reading past its end fails at once and costs nothing."""
_BROKEN_IN_A_ROW = 10
"""Failures in a row after which a live source is lost."""
_LONGEST_WAIT = 8.0
"""Seconds between two attempts to connect again."""
_FRAME_RATES = (0.1, 240.0)
"""What is believed of a frame rate: containers without one report 0, 1000 or 90000."""
_MISSING = 0.1
"""Share of frames that a recording may lack before it counts as cut short: some containers only estimate the number."""
_TO_RGB = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
_NOTHING = np.zeros((0, 0, 3), np.uint8)

T = TypeVar("T")


class Capture(Protocol):
    """What is used of `cv2.VideoCapture`."""

    def isOpened(self) -> bool:
        """Whether there is something to read."""

    def read(self) -> tuple[bool, Any]:
        """The next frame."""

    def grab(self) -> bool:
        """Passes over a frame."""

    def get(self, propId: int) -> float:
        """A property."""

    def release(self) -> None:
        """Lets go."""


def open_source(address: StreamAddress, config: StreamConfig) -> "CaptureSource":
    """The source that an address names. It is opened when its frames are asked for."""
    return CaptureSource(address, config, lambda: _open(address, config.timeout))


class CaptureSource:
    """A `FrameSource` over an OpenCV capture.

    A frame that cannot be decoded is passed over and counted. A live source that delivers nothing more is opened again,
    after pauses that double, `config.reconnects` times in a row at most.

    Args:
        address: what is read. A network address with a known number of frames is a recording; others are live.
        config: which frames, and how patient.
        connect: opens it.
    """

    def __init__(self, address: StreamAddress, config: StreamConfig, connect: Callable[[], Capture]) -> None:
        self.name = address.name
        self.counts = SourceCounts()
        self.live = address.kind != "file"
        self.frame_rate = config.frame_rate
        self.frame_count: int | None = None
        self.waiting_since: float | None = None
        self._kind, self._config, self._connect = address.kind, config, connect
        self._capture: Capture | None = None
        self._stopped = threading.Event()
        self._index = 0
        self._total = 0
        self._first_read_at: float | None = None

    def frames(self) -> Iterator[Frame]:
        """See `FrameSource`."""
        if self._stopped.is_set():
            return
        if not self._open() or self._capture is None:
            raise SourceError(f"{self.name}: {_cannot_open(self._kind)}")
        self._learn(self._capture)
        attempts = 0
        while True:
            for frame in self._until_lost(self._capture):
                self.counts.reconnects += attempts > 0
                attempts = 0
                yield frame
                if self.counts.read == self._config.max_frames:
                    return
            if self._stopped.is_set():
                return
            if not self.live:
                self._check_end()
                return
            attempts = self._reconnect(attempts)

    def stop(self) -> None:
        """See `FrameSource`."""
        self._stopped.set()

    def close(self) -> None:
        """See `FrameSource`."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _open(self) -> bool:
        self.close()
        try:
            self._capture = self._called(self._connect)
        except cv2.error:
            return False
        return self._capture.isOpened()

    def _learn(self, capture: Capture) -> None:
        """Takes from the source what it tells about itself."""
        count, rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
        if math.isfinite(rate) and _FRAME_RATES[0] <= rate <= _FRAME_RATES[1]:
            self.frame_rate = rate
        if self._kind != "camera" and 0 < count < 1e9:
            self.live = False
            self._total = int(count)
            taken = -(-self._total // self._config.every)
            self.frame_count = min(taken, self._config.max_frames or taken)

    def _until_lost(self, capture: Capture) -> Iterator[Frame]:
        """Frames until the source is stopped, lost, or at its end."""
        misses, patience = 0, _BROKEN_IN_A_ROW if self.live else _BROKEN_IN_A_RECORDING
        while misses < patience and not self._stopped.is_set():
            wanted = self._index % self._config.every == 0
            start = perf_counter()
            image = self._called(lambda: _read(capture) if wanted else _skip(capture))  # noqa: B023  called at once
            read_at = perf_counter()
            self._index += 1
            if image is None:
                misses += 1
                if self.live and read_at - start > self._config.timeout / 2:
                    break  # silence; a camera would take as long for each further attempt
                continue
            self.counts.broken += misses
            misses = 0
            if wanted:
                self.counts.read += 1
                yield self._frame(image, start, read_at)
        self._index -= misses

    def _frame(self, image: np.ndarray, start: float, read_at: float) -> Frame:
        if self._first_read_at is None:
            self._first_read_at = read_at
        index = self._index - 1
        at = read_at - self._first_read_at if self.live else index / self.frame_rate
        return Frame(index, image, at, read_at, read_at - start)

    def _reconnect(self, attempts: int) -> int:
        """Opens the source again; returns the attempts since its last frame."""
        while attempts < self._config.reconnects:
            if self._stopped.wait(min(_LONGEST_WAIT, self._config.backoff * 2**attempts)):
                return attempts
            attempts += 1
            if self._open():
                return attempts
        raise SourceError(f"{self.name}: lost, and not back after {attempts} attempts to connect again")

    def _check_end(self) -> None:
        """Whether a recording had all the frames that it should have."""
        if self.counts.read == 0:
            raise SourceError(f"{self.name}: expected a video, got one without a frame that can be decoded")
        if self._total - self._index > _MISSING * self._total:
            raise SourceError(
                f"{self.name}: expected {self._total} frames, got {self._index}: it is cut short or damaged"
            )

    def _called(self, call: Callable[[], T]) -> T:
        self.waiting_since = monotonic()
        try:
            return call()
        finally:
            self.waiting_since = None


def _read(capture: Capture) -> np.ndarray | None:
    """The next frame, uint8[H, W, 3] RGB; None for one that is broken, or no more."""
    try:
        whole, image = capture.read()
        return to_rgb(image) if whole else None
    except (cv2.error, MemoryError, ValueError):
        return None


def _skip(capture: Capture) -> np.ndarray | None:
    """An empty picture for a frame that was passed over; None for one that is broken, or no more."""
    try:
        return _NOTHING if capture.grab() else None
    except cv2.error:
        return None


def to_rgb(image: np.ndarray) -> np.ndarray:
    """uint8[H, W, 3] RGB of what a camera may deliver: gray, BGR or BGRA, of 8 or 16 bits.

    Raises:
        ValueError: anything else.
    """
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    channels = 1 if image.ndim == 2 else image.shape[-1]
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in _TO_RGB or not image.size:
        raise ValueError(
            f"image: expected uint8 or uint16 [H, W] or [H, W, 1 | 3 | 4], got {image.dtype} {image.shape}"
        )
    return cv2.cvtColor(image, _TO_RGB[channels])


def _open(address: StreamAddress, timeout: float) -> cv2.VideoCapture:
    if address.kind == "file":
        # A path from the root is none that FFMPEG takes for a protocol, such as `concat:a|b`.
        return cv2.VideoCapture(str(Path(address.address).absolute()), cv2.CAP_FFMPEG)
    milliseconds = round(1000 * timeout)
    if address.kind == "network":
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, milliseconds, cv2.CAP_PROP_READ_TIMEOUT_MSEC, milliseconds]
        return cv2.VideoCapture(address.address, cv2.CAP_FFMPEG, limits)
    name = address.address
    camera = cv2.VideoCapture(int(name) if name.isdecimal() else name)
    camera.set(cv2.CAP_PROP_READ_TIMEOUT_MSEC, milliseconds)  # a driver that cannot has its own limit
    return camera


def _cannot_open(kind: str) -> str:
    return {
        "file": "expected a video that OpenCV can decode, got a damaged one or another kind of file",
        "camera": "expected a camera that can be opened, got none, or one that is in use",
        "network": "expected an address that delivers video, got no answer or none that OpenCV can decode",
    }[kind]
