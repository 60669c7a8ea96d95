"""Where frames come from: what an input names, and what every source of frames can do."""

import glob
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import urlsplit

import numpy as np

from .images import IMAGE_SUFFIXES, ImageError, find_images

VIDEO_SUFFIXES = frozenset(
    (".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg")
) | {".mts", ".ogv", ".ts", ".webm", ".wmv"}
"""What counts as a video in a folder, in lower or upper case. A file that is named itself is known by its content."""
SCHEMES = ("http", "https", "rtmp", "rtmps", "rtsp", "rtsps", "srt", "tcp", "udp")
"""Of the network addresses that are handed to FFMPEG."""

_MAGIC = (
    (4, b"ftyp"),
    (4, b"moov"),
    (4, b"mdat"),
    (8, b"AVI "),
    (0, b"\x1a\x45\xdf\xa3"),  # Matroska, WebM
    (0, b"FLV"),
    (0, b"OggS"),
    (0, b"\x00\x00\x01\xba"),  # MPEG program stream
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),  # ASF
)
"""(offset, bytes) by which containers are known. AVIF has the first too, and a suffix of its own."""


class SourceError(ValueError):
    """A source that cannot be found, opened or read on. The message names it."""


@dataclass(frozen=True)
class StreamAddress:
    """What a source of frames is called.

    Attributes:
        kind: a video file, a camera or an address in the network.
        address: the path, the number or path of the camera, or the URL.
    """

    kind: Literal["file", "camera", "network"]
    address: str

    @property
    def name(self) -> str:
        """For people: an address without its password and query."""
        if self.kind != "network":
            return self.address
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def stem(self) -> str:
        """For the names of files."""
        if self.kind == "file":
            return Path(self.address).stem
        name = self.name if self.kind == "network" else f"camera_{Path(self.address).name.removeprefix('video')}"
        return re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("._")[:100]


@dataclass(frozen=True)
class Frame:
    """A picture of a stream.

    Attributes:
        index: its place in the source, from 0; skipped and broken ones count.
        image: uint8[H, W, 3], RGB.
        at: seconds since the first frame: by the frame rate in a recording, by the clock from a live source.
        read_at: `time.perf_counter` when it had been read.
        read_seconds: what reading it took; of a live source that includes waiting for it.
    """

    index: int
    image: np.ndarray
    at: float
    read_at: float
    read_seconds: float


@dataclass
class SourceCounts:
    """What happened to a source so far.

    Attributes:
        read: frames handed on.
        broken: frames that could not be decoded while later ones could.
        reconnects: times that a lost source came back.
    """

    read: int = 0
    broken: int = 0
    reconnects: int = 0


class FrameSource(Protocol):
    """Gives frames, to one thread; `stop` and the attributes are for any.

    Attributes:
        name: for messages.
        counts: what happened so far.
        live: frames come by themselves, and those that nobody takes are lost. Known from the first frame on.
        frame_rate: of the source, in frames per second; known from the first frame on.
        frame_count: taken frames there will be, where that is known.
        waiting_since: `time.monotonic` when a call for a frame began that has not returned, else None.
    """

    name: str
    counts: SourceCounts
    live: bool
    frame_rate: float
    frame_count: int | None
    waiting_since: float | None

    def frames(self) -> Iterator[Frame]:
        """Opens the source and gives its frames. Raises SourceError where there are none, or fewer than there should
        be: what was given before is good."""

    def stop(self) -> None:
        """Ends `frames` at the next frame, or in the midst of waiting to connect again."""

    def close(self) -> None:
        """Lets go of the source. For the thread that reads."""


def find_inputs(name: str) -> tuple[list[Path], list[StreamAddress]]:
    """The images and the streams that an input names.

    What exists as a file goes first, whatever it is called. Otherwise a number or ``/dev/videoN`` is a camera,
    ``SCHEME://`` a network address, and the rest is a folder or a glob of images and videos, as in `find_images`.

    Raises:
        ValueError: nothing that is there; the message names it.
    """
    path = Path(name)
    if not _exists(path):
        return _what_is_no_file(name)
    if path.is_dir():
        return _sorted_out(name, list(path.iterdir()), "a folder with images or videos")
    if path.is_char_device():
        return [], [StreamAddress("camera", name)]
    return ([], [_file(path)]) if _is_video(path) else ([path], [])


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as an address too long for a name
        return False


def _what_is_no_file(name: str) -> tuple[list[Path], list[StreamAddress]]:
    if re.fullmatch(r"\d{1,3}|/dev/video\d+", name):
        return [], [StreamAddress("camera", name)]
    if scheme := re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", name):
        return [], [_network(name, scheme[1].lower())]
    if glob.has_magic(name):
        matches = glob.glob(name, recursive=True)  # noqa: PTH207  Path.glob takes no absolute pattern
        return _sorted_out(name, list(map(Path, matches)), "a pattern that matches images or videos")
    return find_images([name]), []


def _sorted_out(name: str, paths: list[Path], expected: str) -> tuple[list[Path], list[StreamAddress]]:
    files = sorted(p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES and p.is_file())
    if not files:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
        raise ImageError(f"{name}: expected {expected}, got none ({suffixes})")
    videos = [p for p in files if p.suffix.lower() in VIDEO_SUFFIXES]
    return [p for p in files if p not in videos], [_file(p) for p in videos]


def _is_video(path: Path) -> bool:
    if path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
        return path.suffix.lower() in VIDEO_SUFFIXES
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return False  # reading it as an image says what is wrong
    return any(head[at : at + len(magic)] == magic for at, magic in _MAGIC)


def _file(path: Path) -> StreamAddress:
    return StreamAddress("file", str(path))


def _network(name: str, scheme: str) -> StreamAddress:
    address = StreamAddress("network", name)
    try:
        port_or_host = urlsplit(name).port or urlsplit(name).netloc
    except ValueError:
        raise SourceError(f"{address.name}: expected an address such as rtsp://host:554/path") from None
    if scheme not in SCHEMES or not port_or_host:
        raise SourceError(f"{address.name}: expected an address of {', '.join(SCHEMES)} with a host")
    return address
