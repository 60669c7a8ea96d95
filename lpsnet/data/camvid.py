"""CamVid, 11 classes: road scenes with label maps; the objects are derived from them.

Brostow, Fauqueur, Cipolla: Semantic object classes in video, 2009; the 11 classes and the split of the SegNet paper.
"""

from pathlib import Path

import cv2
import numpy as np

from lpsnet.categories import Category, categories
from lpsnet.data.faults import OnFault, stop
from lpsnet.data.files import expect_folder, expect_same_size, list_images, pair, read_labels, read_rgb, visible
from lpsnet.data.sample import Sample, TrueSegment

MIN_OBJECT_AREA = 100
"""Connected components of a thing class below it become void, in pixels. Ours: in 480x360 images these are mostly
slivers that an occluder, such as a pole, cuts off an object, and no box head could learn them as objects."""

UNLABELLED = 11
"""The value of unlabelled pixels in the label maps."""


class CamVid:
    """The images of one split.

    The layout is ``images/<split>/*.jpg`` (or ``.png``) and ``labels/<split>/*.png`` with the same stem: single-channel
    maps of class ids, 11 for unlabelled.

    CamVid tells no objects apart. An object here is an 8-connected component of a thing class of at least
    `MIN_OBJECT_AREA` pixels; smaller ones are void. Cars that touch are one object, so a PQ on it is a "PQ on
    component-derived instances", comparable with no other.

    Args:
        root: the folder of ``images`` and ``labels``.
        split: train, val or test.
        on_fault: gets each image without a label map and the reverse.

    Raises:
        FileNotFoundError: a missing folder, a folder without images, or an image without a label map or the reverse.
    """

    categories: tuple[Category, ...]

    def __init__(self, root: Path | str, split: str, on_fault: OnFault = stop) -> None:
        images, labels = Path(root, "images", split), Path(root, "labels", split)
        for folder in (images, labels):
            expect_folder(folder, f"CamVid's {folder.parent.name}")
        self.categories = categories("camvid")
        self._files = pair(
            list_images(images), visible(labels.glob("*.png")), lambda path: labels / f"{path.stem}.png", on_fault
        )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        """Reads one image.

        Raises:
            ValueError: an unreadable file, a label map of another size than its image, or an unknown label.
        """
        image_path, label_path = self._files[index]
        image, labels = read_rgb(image_path), read_labels(label_path)
        expect_same_size(label_path, labels, image)
        unknown = sorted({int(v) for v in np.unique(labels)} - {c.id for c in self.categories} - {UNLABELLED})
        if unknown:
            raise ValueError(f"{label_path}: expected labels in 0..{UNLABELLED}, got {unknown}")
        ids, segments = _segments(labels, self.categories)
        return Sample(image_path.stem, image, ids, segments)


def _segments(labels: np.ndarray, classes: tuple[Category, ...]) -> tuple[np.ndarray, tuple[TrueSegment, ...]]:
    ids = np.zeros(labels.shape, np.int32)
    segments: list[TrueSegment] = []
    for index, category in enumerate(classes):
        mask = labels == category.id
        if not mask.any():
            continue
        if not category.isthing:
            segments.append(TrueSegment(index))
            ids[mask] = len(segments)
            continue
        count, components, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        table = np.zeros(count, np.int32)
        for component in range(1, count):
            if stats[component, cv2.CC_STAT_AREA] >= MIN_OBJECT_AREA:
                segments.append(TrueSegment(index))
                table[component] = len(segments)
        np.copyto(ids, table[components], where=mask)
    return ids, tuple(segments)
