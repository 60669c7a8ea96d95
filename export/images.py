"""The images that an exported model is calibrated and compared on."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.engine.images import find_images, read_image
from lpsnet.engine.sample import sample_photograph

_SIZES = ((128, 192), (97, 301), (480, 640), (333, 200))
"""Heights and widths of the scenes: others than that of the trace, and odd ones."""


class ImageFiles:
    """Images of files, folders and globs, `limit` of them spread evenly, each read when asked for.

    Raises:
        ValueError: a name that is no image, folder or pattern that matches one.
    """

    def __init__(self, inputs: Sequence[str], limit: int) -> None:
        paths = find_images(inputs)
        count = min(limit, len(paths))
        self.paths = [paths[i * len(paths) // count] for i in range(count)]

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(read_image, self.paths)


class MadeUpImages:
    """Images that are there without any data: the photograph of the package, and scenes of several sizes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def __iter__(self) -> Iterator[np.ndarray]:
        scenes = SyntheticScenes(self._limit)
        yield read_image(sample_photograph())
        for i in range(self._limit - 1):
            height, width = _SIZES[i % len(_SIZES)]
            yield cv2.resize(scenes[i].image, (width, height))
