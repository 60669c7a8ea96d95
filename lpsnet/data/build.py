"""Data sets by name, as the recipes spell it, and where each keeps its files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lpsnet.categories import categories
from lpsnet.data import cityscapes, mapillary
from lpsnet.data.camvid import CamVid
from lpsnet.data.coco_panoptic import CocoPanoptic
from lpsnet.data.custom import is_description, read_description
from lpsnet.data.faults import OnFault, stop
from lpsnet.data.files import read_json
from lpsnet.data.sample import LabelledDataset
from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.data.unlabelled import UnlabelledImages

SYNTHETIC_LENGTHS = {"train": 2000, "val": 100, "test": 100}
"""Scenes of each split; the place of a split in this table is its seed, so that the splits differ."""


def build_dataset(
    name: str, root: Path | None, split: str, *, need_labels: bool = True, on_fault: OnFault = stop
) -> LabelledDataset:
    """One split of a data set.

    Args:
        name: one of `LAYOUTS`, or synthetic.
        root: the folder of the data set, in its official layout, see `docs/datasets.md`; None for synthetic only, which
            has no files. Or a YAML file, which stands for a data set of its own: `name` does not matter then.
        split: train, val or test of most data sets; coco has test-dev too. In a YAML file they have any names.
        need_labels: refuse a split without ground truth; otherwise its samples are void everywhere.
        on_fault: gets each file that is missing or wrong, as far as that shows without reading the images. By default
            the first one is raised.

    Raises:
        ValueError: an unknown name or split, one without ground truth that needs it, a root where none is needed or
            none where one is, or files whose classes are not those of the data set.
        FileNotFoundError: a file or folder that is not there.
    """
    if root is not None and is_description(root):
        dataset: LabelledDataset = read_description(root).open(split, on_fault)
    elif name == "synthetic":
        return _synthetic(root, split)
    elif name in LAYOUTS:
        dataset = _official(name, root, split, on_fault)
    else:
        known = sorted([*LAYOUTS, "synthetic"])
        raise ValueError(f"name: expected one of {known}, or a YAML file as root, got {name!r} and {root}")
    if need_labels and isinstance(dataset, UnlabelledImages):
        raise ValueError(f"split: expected one with ground truth, got {split!r}, which has images only")
    return dataset


@dataclass(frozen=True)
class Layout:
    """How a data set lies on a disk.

    Attributes:
        signs: paths of which at least one is there in no other layout.
        splits: of each split the paths of which at least one is there when the split is.
        open: from the folder, the split and what to do with faults.
    """

    signs: tuple[str, ...]
    splits: dict[str, tuple[str, ...]]
    open: Callable[[Path, str, OnFault], LabelledDataset]


def guess_name(root: Path) -> str:
    """The data set whose layout a folder has.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: a folder in no known layout or in several, with what tells them.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: expected the folder of a data set or a YAML file, got no such path")
    found = [name for name, layout in LAYOUTS.items() if any((root / sign).exists() for sign in layout.signs)]
    if len(found) != 1:
        signs = "; ".join(f"{name} by {' or '.join(layout.signs)}" for name, layout in LAYOUTS.items())
        raise ValueError(f"{root}: expected the layout of one data set ({signs}), got {found or 'none of them'}")
    return found[0]


def present_splits(name: str, root: Path) -> list[str]:
    """The splits of which a folder has something."""
    return [split for split, paths in LAYOUTS[name].splits.items() if any((root / path).exists() for path in paths)]


def _official(name: str, root: Path | None, split: str, on_fault: OnFault) -> LabelledDataset:
    splits = LAYOUTS[name].splits
    if split not in splits:
        raise ValueError(f"split: expected one of {list(splits)} of {name}, got {split!r}")
    if root is None:
        raise ValueError(f"root: expected the folder of {name}, got None")
    if not Path(root).is_dir():
        raise FileNotFoundError(f"{root}: expected the folder of {name}, got no such folder")
    return LAYOUTS[name].open(Path(root), split, on_fault)


def _camvid(root: Path, split: str, on_fault: OnFault) -> LabelledDataset:
    return CamVid(root, split, on_fault)


def _cityscapes(root: Path, split: str, on_fault: OnFault) -> LabelledDataset:
    return cityscapes.test_images(root) if split == "test" else cityscapes.Cityscapes(root, split, on_fault)


def _mapillary(root: Path, split: str, on_fault: OnFault) -> LabelledDataset:
    return mapillary.test_images(root) if split == "test" else mapillary.Mapillary(root, split, on_fault)


def _coco(root: Path, split: str, on_fault: OnFault) -> LabelledDataset:
    if split.startswith("test"):
        return _coco_test(root, split, on_fault)
    json = root / "annotations" / f"panoptic_{split}2017.json"
    dataset = CocoPanoptic(root / f"{split}2017", json, on_fault=on_fault)
    if dataset.categories != categories("coco"):
        raise ValueError(f"{json}: expected the {len(categories('coco'))} classes of COCO panoptic, got others")
    return dataset


def _coco_test(root: Path, split: str, on_fault: OnFault) -> UnlabelledImages:
    json = root / "annotations" / f"image_info_{split}2017.json"
    data = read_json(json, "the list of COCO's test images")
    try:
        paths = [root / "test2017" / image["file_name"] for image in data["images"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{json}: expected images, each with a file_name, got {error!r}") from None
    present = []
    for path in paths:
        if path.is_file():
            present.append(path)
        else:
            on_fault(FileNotFoundError(f"{path}: expected a file that {json} names, got no such file"))
    return UnlabelledImages(present, categories=categories("coco"))


def _synthetic(root: Path | None, split: str) -> LabelledDataset:
    if split not in SYNTHETIC_LENGTHS:
        raise ValueError(f"split: expected one of {list(SYNTHETIC_LENGTHS)} of synthetic, got {split!r}")
    if root is not None:
        raise ValueError(f"root: expected None for synthetic, which is generated, got {str(root)!r}")
    return SyntheticScenes(SYNTHETIC_LENGTHS[split], seed=list(SYNTHETIC_LENGTHS).index(split))


LAYOUTS: dict[str, Layout] = {
    "camvid": Layout(
        ("labels/train", "labels/val", "labels/test"),
        {split: (f"images/{split}", f"labels/{split}") for split in ("train", "val", "test")},
        _camvid,
    ),
    "cityscapes": Layout(
        ("leftImg8bit", "gtFine"),
        {split: (f"leftImg8bit/{split}", f"gtFine/{split}") for split in ("train", "val", "test")},
        _cityscapes,
    ),
    "coco": Layout(
        ("train2017", "val2017", "test2017"),
        {
            "train": ("train2017", "annotations/panoptic_train2017.json"),
            "val": ("val2017", "annotations/panoptic_val2017.json"),
            "test": ("annotations/image_info_test2017.json",),
            "test-dev": ("annotations/image_info_test-dev2017.json",),
        },
        _coco,
    ),
    "mapillary": Layout(
        tuple(mapillary.FOLDERS.values()),
        {split: (folder,) for split, folder in mapillary.FOLDERS.items()},
        _mapillary,
    ),
}
"""The data sets with an official layout, by name."""
