"""Images without ground truth, such as a benchmark's test set: to predict on, not to learn from or to score."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lpsnet.categories import Category
from lpsnet.data.files import read_rgb
from lpsnet.data.sample import Sample


class UnlabelledImages:
    """Samples that are void everywhere.

    Args:
        paths: of the images.
        names: of the samples; by default the stems of the files.
        categories: the classes of the data set, where they are known.
    """

    def __init__(
        self, paths: Sequence[Path], names: Sequence[str] | None = None, categories: tuple[Category, ...] = ()
    ) -> None:
        self.categories = categories
        self._paths = tuple(paths)
        self._names = tuple(p.stem for p in paths) if names is None else tuple(names)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Sample:
        """Reads one image. Raises ValueError where it cannot be read."""
        image = read_rgb(self._paths[index])
        return Sample(self._names[index], image, np.zeros(image.shape[:2], np.int32), ())
