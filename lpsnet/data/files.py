"""Images and label maps from files, with errors that name the file."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lpsnet.data.faults import OnFault

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def read_rgb(path: Path) -> np.ndarray:
    """uint8[H, W, 3], RGB, in the orientation of the stored pixels, which is the one that annotations refer to.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is no image, or one that ends too early.
    """
    # The first rows of the array are the first rows stored: an EXIF orientation would turn the image, not its labels.
    image = _read(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_labels(path: Path, dtype: type[np.unsignedinteger[Any]] = np.uint8) -> np.ndarray:
    """dtype[H, W] from a single-channel PNG of 8 bits (uint8) or 16 (uint16).

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is no image or ends too early, or one with several channels or of another depth.
    """
    labels = _read(path, cv2.IMREAD_UNCHANGED)
    if labels.ndim != 2 or labels.dtype != dtype:
        bits = 8 * np.dtype(dtype).itemsize
        raise ValueError(f"{path}: expected a single-channel {bits}-bit image, got {labels.dtype} {list(labels.shape)}")
    return labels


def read_json(path: Path, what: str) -> Any:
    """The content of a JSON file. `what` says in the errors which file it is, such as "a COCO panoptic JSON".

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is no JSON.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected {what}, got no such file")
    try:
        return json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from None


def expect_folder(path: Path, what: str) -> None:
    """Raises FileNotFoundError unless the path is a folder. `what` says of what, such as "CamVid's images"."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: expected a folder of {what}, got no such folder")


def expect_same_size(path: Path, labels: np.ndarray, image: np.ndarray) -> None:
    """Raises ValueError unless the label map, [H, W, ...], which was read from `path`, is as large as its image."""
    if labels.shape[:2] != image.shape[:2]:
        raise ValueError(
            f"{path}: expected the size of its image, {list(image.shape[:2])}, got {list(labels.shape[:2])}"
        )


def list_images(folder: Path) -> list[Path]:
    """The images of a folder, by name, but for hidden files.

    Raises:
        FileNotFoundError: no such folder, or none in it.
    """
    expect_folder(folder, "images")
    paths = visible(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise FileNotFoundError(f"{folder}: expected .jpg or .png images, got none")
    return paths


def visible(paths: Iterable[Path]) -> list[Path]:
    """The paths in order, without hidden files, such as the ``._`` companions that macOS leaves in archives."""
    return sorted(p for p in paths if not p.name.startswith("."))


def pair(
    images: Sequence[Path], labels: Iterable[Path], label_of: Callable[[Path], Path], on_fault: OnFault
) -> list[tuple[Path, Path]]:
    """Each image with its label map.

    Args:
        images: that there are.
        labels: the label maps that there are.
        label_of: where the label map of an image should be.
        on_fault: gets a FileNotFoundError for each image without a label map and each label map without an image.
    """
    unused = dict.fromkeys(labels)
    pairs = []
    for image in images:
        label = label_of(image)
        if label in unused:
            del unused[label]
            pairs.append((image, label))
        else:
            on_fault(FileNotFoundError(f"{label}: expected the label map of {image.name}, got no such file"))
    for label in unused:
        on_fault(FileNotFoundError(f"{label}: expected an image that belongs to it, got none"))
    return pairs


def _read(path: Path, flags: int) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected an image, got no such file")
    # Not cv2.imread: its answer to an unreadable file is a warning on stderr, and on Windows it fails on some paths.
    data = path.read_bytes()
    if _is_truncated(data):
        raise ValueError(f"{path}: expected a whole image, got a file that ends too early, after {len(data)} bytes")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:  # such as a header that tells of more pixels than OpenCV takes
        image = None
    if image is None:
        raise ValueError(f"{path}: expected an image, got a file that cannot be decoded")
    return image


def _is_truncated(data: bytes) -> bool:
    """Whether a PNG or JPEG lacks its end, as after a download that broke off.

    Some versions of OpenCV decode what is left of a JPEG, fill the rest with gray and say nothing.
    """
    # The end marker of a JPEG follows its last scan; that of a thumbnail within the header comes before it.
    if data.startswith(_JPEG):
        return not data.endswith(b"\xff\xd9") and data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda")
    if data.startswith(_PNG):
        return data.rfind(b"IEND") <= data.rfind(b"IDAT")
    return False
