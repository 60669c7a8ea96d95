"""Images and label maps from files, with errors that name the file."""

from pathlib import Path

import cv2
import numpy as np


def read_rgb(path: Path) -> np.ndarray:
    """uint8[H, W, 3], RGB, in the orientation of the stored pixels, which is the one that annotations refer to.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is no image.
    """
    # The first rows of the array are the first rows stored: an EXIF orientation would turn the image, not its labels.
    image = _read(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_labels(path: Path) -> np.ndarray:
    """uint8[H, W] from a single-channel PNG.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is no image, or one with several channels or more than 8 bits.
    """
    labels = _read(path, cv2.IMREAD_UNCHANGED)
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise ValueError(f"{path}: expected a single-channel 8-bit image, got {labels.dtype} {list(labels.shape)}")
    return labels


def _read(path: Path, flags: int) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected an image, got no such file")
    # Not cv2.imread: its answer to an unreadable file is a warning on stderr, and on Windows it fails on some paths.
    image = cv2.imdecode(np.fromfile(path, np.uint8), flags) if path.stat().st_size else None
    if image is None:
        raise ValueError(f"{path}: expected an image, got a file that cannot be decoded")
    return image
