"""Cityscapes, fine annotations (Cordts et al., The Cityscapes Dataset for Semantic Urban Scene Understanding, 2016)."""

from pathlib import Path

import numpy as np

from lpsnet.categories import Category, categories
from lpsnet.data.faults import OnFault, stop
from lpsnet.data.files import expect_folder, expect_same_size, pair, read_labels, read_rgb, visible
from lpsnet.data.sample import Sample, TrueSegment
from lpsnet.data.unlabelled import UnlabelledImages
from lpsnet.data.value_map import segments_of

IMAGE_SUFFIX, LABEL_SUFFIX = "_leftImg8bit.png", "_gtFine_instanceIds.png"
_LAST_LABEL = 33
"""The label ids are 0..33. Those that are not among the 19 classes of the benchmark, such as 29, caravan, are void."""
_FIRST_INSTANCE = 1000


class Cityscapes:
    """The images of one split, in the 19 classes of the benchmark, by trainId; 8 of them are things.

    The layout is the official one: ``leftImg8bit/<split>/<city>/*_leftImg8bit.png`` and
    ``gtFine/<split>/<city>/*_gtFine_instanceIds.png``. There a pixel of an object is 1000 times its label id plus its
    number, and any other pixel the label id, so the other files of ``gtFine``, such as labelIds, are not read.

    As in the official conversion to panoptic maps, the pixels of a thing class that have no number, a group whose
    objects nobody told apart, are one crowd segment, and a stuff class is one segment.

    Args:
        root: the folder of ``leftImg8bit`` and ``gtFine``.
        split: train or val.
        on_fault: gets each image without a label map and the reverse.

    Raises:
        FileNotFoundError: a missing folder, one without images, or an image without a label map or the reverse.
    """

    categories: tuple[Category, ...]

    def __init__(self, root: Path | str, split: str, on_fault: OnFault = stop) -> None:
        labels = Path(root, "gtFine", split)
        expect_folder(labels, f"fine annotations of Cityscapes' {split} split")
        self.categories = categories("cityscapes")
        self._isthing = [category.isthing for category in self.categories]
        self._index_of = {category.id: index for index, category in enumerate(self.categories)}
        self._files = pair(
            image_files(root, split),
            visible(labels.glob(f"*/*{LABEL_SUFFIX}")),
            lambda path: labels / path.parent.name / f"{sample_name(path)}{LABEL_SUFFIX}",
            on_fault,
        )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        """Reads one image. Its name is that of the file without ``_leftImg8bit``, as in the benchmark's submissions.

        Raises:
            ValueError: an unreadable file, a map of another size than its image, or an unknown label.
        """
        image_path, label_path = self._files[index]
        image, values = read_rgb(image_path), read_labels(label_path, np.uint16)
        expect_same_size(label_path, values, image)
        try:
            ids, segments = segments_of(values, self._describe, self._isthing)
        except ValueError as error:
            raise ValueError(f"{label_path}: {error}") from None
        return Sample(sample_name(image_path), image, ids, segments)

    def _describe(self, value: int) -> TrueSegment | None:
        is_object = value >= _FIRST_INSTANCE
        label = value // _FIRST_INSTANCE if is_object else value
        if label > _LAST_LABEL:
            raise ValueError(f"expected label ids in 0..{_LAST_LABEL}, got {label} in the value {value}")
        if label not in self._index_of:
            return None
        index = self._index_of[label]
        return TrueSegment(index, iscrowd=self._isthing[index] and not is_object)


def image_files(root: Path | str, split: str) -> list[Path]:
    """The images of a split, by city and name. Raises FileNotFoundError where the folder is missing or has none."""
    folder = Path(root, "leftImg8bit", split)
    expect_folder(folder, f"images of Cityscapes' {split} split")
    paths = visible(folder.glob(f"*/*{IMAGE_SUFFIX}"))
    if not paths:
        raise FileNotFoundError(f"{folder}: expected <city>/*{IMAGE_SUFFIX}, got none")
    return paths


def sample_name(image: Path) -> str:
    """Such as ``frankfurt_000000_000294``."""
    return image.name.removesuffix(IMAGE_SUFFIX)


def test_images(root: Path | str) -> UnlabelledImages:
    """The test split, whose labels the benchmark keeps: what ``gtFine/test`` has are placeholders."""
    paths = image_files(root, "test")
    return UnlabelledImages(paths, [sample_name(path) for path in paths], categories("cityscapes"))
