"""The image files that a case runs over, at its size."""

from collections.abc import Sequence
from pathlib import Path

import cv2

from ..images import ImageError, find_images, read_image
from ..sample import sample_photograph

JPEG_QUALITY = 95


def source_images(inputs: Sequence[str]) -> list[Path]:
    """The images that files, folders and globs name; the photograph of the package where there are none.

    Raises:
        ImageError: nothing is there.
    """
    return find_images(inputs) if inputs else [sample_photograph()]


def images_at(sources: Sequence[Path], size: tuple[int, int] | None, folder: Path) -> list[Path]:
    """The images resized to (height, width), as JPEG files, so that reading costs what it costs for files of that size.

    An image that is higher than wide goes into a wide size turned by 90 degrees, and the other way round. Else its
    proportions give way: what is in it does not change the work of a network with fixed numbers of boxes.

    Args:
        sources: files.
        size: of the images; None takes the files as they are.
        folder: to write to; it exists.

    Raises:
        ImageError: a file that cannot be read, or a folder that cannot be written to.
    """
    if size is None:
        return list(sources)
    height, width = size
    made = []
    for index, source in enumerate(sources):
        pixels = read_image(source)
        if (pixels.shape[0] > pixels.shape[1]) != (height > width) and height != width:
            pixels = cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE)
        smaller = height * width < pixels.shape[0] * pixels.shape[1]
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
        path = folder / f"{index:04d}_{height}x{width}.jpg"
        if not cv2.imwrite(str(path), pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
            raise ImageError(f"{path}: cannot be written")
        made.append(path)
    return made
