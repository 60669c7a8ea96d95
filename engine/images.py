"""Images from files: what a path, a folder or a glob names, and the pixels behind it."""

import glob
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

IMAGE_SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
"""What counts as an image in a folder, in lower or upper case. A file that is named itself may be called anything."""


class ImageError(ValueError):
    """An image that cannot be found or read. The message names it."""


def find_images(inputs: Sequence[str]) -> list[Path]:
    """The images that files, folders and globs name.

    Args:
        inputs: each a file, taken whatever its suffix; a folder, whose images (`IMAGE_SUFFIXES`) are taken, those of
            its subfolders not; or a glob, in which ``**`` stands for any depth of folders.

    Returns:
        The paths: inputs in their order, the images of each in the order of their names, each path once.

    Raises:
        ImageError: a file or folder that does not exist, a folder without images, a glob that matches none.
    """
    found: dict[Path, None] = {}
    for name in inputs:
        found.update(dict.fromkeys(_find(name)))
    return list(found)


def _find(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        images = sorted(p for p in path.iterdir() if _is_image(p))
        if not images:
            raise ImageError(f"{name}: expected a folder with images, got none ({', '.join(sorted(IMAGE_SUFFIXES))})")
        return images
    if path.exists():  # also where its name looks like a glob
        return [path]
    if not glob.has_magic(name):
        raise ImageError(f"{name}: no such file or folder")
    matches = glob.glob(name, recursive=True)  # noqa: PTH207  Path.glob takes no absolute pattern
    images = sorted(p for p in map(Path, matches) if _is_image(p))
    if not images:
        raise ImageError(f"{name}: expected a pattern that matches images, got no match")
    return images


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def read_image(path: str | Path) -> np.ndarray:
    """Reads an image as it should be seen.

    The EXIF orientation is applied, gray and CMYK become RGB, 16 bits become 8 by dropping the lower ones, and an
    alpha channel is dropped: the colours below it are what the network sees.

    Returns:
        uint8[H, W, 3], RGB.

    Raises:
        ImageError: a file that is missing, unreadable, empty, cut short or no image that OpenCV knows.
    """
    data = _read_bytes(Path(path))
    if _is_broken(data):
        raise ImageError(f"{path}: expected a whole image, got a truncated or damaged file of {len(data)} bytes")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageError(f"{path}: {error.err or error}") from None
    if image is None:
        raise ImageError(f"{path}: expected an image that OpenCV can decode, got a damaged one or another kind of file")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if not data:
        raise ImageError(f"{path}: expected an image, got an empty file")
    return data


def _is_broken(data: bytes) -> bool:
    """Whether a JPEG or PNG ends too early: decoders differ in what they make of one, down to a gray lower half."""
    if data.startswith(b"\xff\xd8\xff"):
        return not _is_whole_jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return not _is_whole_png(data)
    return False


def _is_whole_jpeg(data: bytes) -> bool:
    # Segments are skipped by their lengths, for a thumbnail inside one has an end-of-image marker too. After the start
    # of a scan the two bytes of that marker occur nowhere else.
    at = 2
    while at + 4 <= len(data):
        marker, length = struct.unpack_from(">HH", data, at)
        at += 2 + length
        if marker == 0xFFDA:
            return data.find(b"\xff\xd9", at) >= 0
        if marker < 0xFFC0 or marker == 0xFFFF:  # no segment, or fill bytes before one: the decoder's to judge
            return True
    return False


def _is_whole_png(data: bytes) -> bool:
    # Every chunk with its checksum up to the last: libpng would write to stderr about one that is wrong.
    at, view = 8, memoryview(data)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 12 + length
        if end > len(data) or zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            return False
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at = end
    return False
