"""Mapillary Vistas 1.2 (Neuhold et al., The Mapillary Vistas Dataset for Semantic Understanding of Street Scenes).

The later releases keep these annotations too, beside those of version 2.0; both layouts are read.
"""

from pathlib import Path
from typing import Any

import numpy as np

from lpsnet.categories import Category, categories
from lpsnet.data.faults import OnFault, stop
from lpsnet.data.files import (
    expect_folder,
    expect_same_size,
    list_images,
    pair,
    read_json,
    read_labels,
    read_rgb,
    visible,
)
from lpsnet.data.sample import Sample, TrueSegment
from lpsnet.data.unlabelled import UnlabelledImages
from lpsnet.data.value_map import segments_of

FOLDERS = {"train": "training", "val": "validation", "test": "testing"}
"""The folder of each split."""
_UNLABELED = "Unlabeled"
"""The 66th label, the one that is not evaluated: void."""
_INSTANCES = 256
"""A value is 256 times the index of its label plus the number of the object."""


class Mapillary:
    """The images of one split, in the 65 classes that are evaluated; 37 of them are things.

    The layout is ``config.json`` with the labels, ``<folder>/images/*.jpg`` and ``<folder>/instances/*.png`` with the
    same stem, where `FOLDERS` has the folder of a split; or that of the releases that hold version 2.0 as well, with
    ``config_v1.2.json`` and ``<folder>/v1.2/instances/*.png``. A pixel of instances is 256 times the index of its label
    plus the number of its object, so ``labels`` and ``panoptic`` are not read.

    Each value of a thing class is an object; there are no crowds. A stuff class is one segment.

    Args:
        root: the folder of ``config.json``.
        split: train or val.
        on_fault: gets each image without a map of instances and the reverse.

    Raises:
        FileNotFoundError: a missing folder or configuration, a folder without images, or an image without a map of
            instances or the reverse.
        ValueError: a configuration whose labels are not those of version 1.2.
    """

    categories: tuple[Category, ...]

    def __init__(self, root: Path | str, split: str, on_fault: OnFault = stop) -> None:
        root = Path(root)
        folder = root / FOLDERS[split]
        newer = (folder / "v1.2").is_dir()
        self.categories = categories("mapillary")
        self._isthing = [category.isthing for category in self.categories]
        _check_labels(root / ("config_v1.2.json" if newer else "config.json"), self.categories)
        instances = folder / "v1.2" / "instances" if newer else folder / "instances"
        expect_folder(instances, f"maps of instances of Mapillary Vistas' {split} split")
        self._files = pair(
            list_images(folder / "images"),
            visible(instances.glob("*.png")),
            lambda path: instances / f"{path.stem}.png",
            on_fault,
        )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        """Reads one image; its name is its key.

        Raises:
            ValueError: an unreadable file, a map of another size than its image, or an unknown label.
        """
        image_path, instances_path = self._files[index]
        image, values = read_rgb(image_path), read_labels(instances_path, np.uint16)
        expect_same_size(instances_path, values, image)
        try:
            ids, segments = segments_of(values, self._describe, self._isthing)
        except ValueError as error:
            raise ValueError(f"{instances_path}: {error}") from None
        return Sample(image_path.stem, image, ids, segments)

    def _describe(self, value: int) -> TrueSegment | None:
        label = value // _INSTANCES
        if label > len(self.categories):
            raise ValueError(f"expected labels in 0..{len(self.categories)}, got {label} in the value {value}")
        if label == len(self.categories):
            return None
        return TrueSegment(label)


def test_images(root: Path | str) -> UnlabelledImages:
    """The test split, which is published without labels."""
    return UnlabelledImages(list_images(Path(root, FOLDERS["test"], "images")), None, categories("mapillary"))


def _check_labels(path: Path, expected: tuple[Category, ...]) -> None:
    """Raises ValueError unless the configuration has the classes of the table, in its order, and one that is void."""
    config = read_json(path, "the configuration of Mapillary Vistas 1.2")
    wanted = [(category.name, category.isthing, True) for category in expected] + [(_UNLABELED, False, False)]
    try:
        found = [(row["readable"], bool(row["instances"]), bool(row["evaluate"])) for row in config["labels"]]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected labels with readable, instances and evaluate, got {_problem(error)}"
        ) from None
    if len(found) != len(wanted):
        raise ValueError(f"{path}: expected the {len(wanted)} labels of Mapillary Vistas 1.2, got {len(found)}")
    for index, (theirs, ours) in enumerate(zip(found, wanted, strict=True)):
        if theirs != ours:
            raise ValueError(
                f"{path}: expected label {index} to be (readable, instances, evaluate) = {ours}, got {theirs}"
            )


def _problem(error: Exception) -> Any:
    return f"no field {error}" if isinstance(error, KeyError) else error
