"""One annotated image, as every data set gives it and every transform and metric takes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lpsnet.categories import VOID, Category


@dataclass(frozen=True)
class TrueSegment:
    """A region of the ground truth.

    Attributes:
        label: index of its class.
        iscrowd: a group of things that nobody told apart: no object to learn, and ignored by PQ where unmatched.
    """

    label: int
    iscrowd: bool = False


@dataclass(frozen=True)
class Sample:
    """An image and its panoptic ground truth.

    Attributes:
        name: of the image, unique in its data set; the stem of its file, or what the data set itself calls it.
        image: uint8[H, W, 3], RGB.
        ids: int32[H, W]; 0 is void, k is the segment ``segments[k - 1]``.
        segments: the regions. After a crop some may have no pixel left.
    """

    name: str
    image: np.ndarray
    ids: np.ndarray
    segments: tuple[TrueSegment, ...]

    def __post_init__(self) -> None:
        height, width = self.ids.shape
        if self.image.shape != (height, width, 3) or self.image.dtype != np.uint8:
            raise ValueError(
                f"image: expected uint8 [{height}, {width}, 3], got {self.image.dtype} {list(self.image.shape)}"
            )

    def labels(self) -> np.ndarray:
        """uint8[H, W], the class of each pixel; 255 is void."""
        return np.array([VOID, *(s.label for s in self.segments)], np.uint8)[self.ids]

    def object_ids(self, isthing: Sequence[bool]) -> list[int]:
        """The ids of the single objects: segments of thing classes that are no crowd."""
        return [i for i, s in enumerate(self.segments, 1) if isthing[s.label] and not s.iscrowd]


class Dataset(Protocol):
    """A sequence of samples, read from disk when indexed."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class LabelledDataset(Dataset, Protocol):
    """A data set that knows its classes.

    Attributes:
        categories: the classes that `TrueSegment.label` counts.
    """

    categories: tuple[Category, ...]


class Subset:
    """Some samples of a data set."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]
