"""Data sets by name, as the recipes spell it."""

from collections.abc import Callable
from pathlib import Path

from lpsnet.categories import categories
from lpsnet.data.camvid import CamVid
from lpsnet.data.coco_panoptic import CocoPanoptic
from lpsnet.data.sample import Dataset
from lpsnet.data.synthetic import SyntheticScenes

SYNTHETIC_LENGTHS = {"train": 2000, "val": 100, "test": 100}
"""Scenes of each split; the place of a split in this table is its seed, so that the splits differ."""


def build_dataset(name: str, root: Path | None, split: str) -> Dataset:
    """One split of a data set.

    Args:
        name: coco, camvid or synthetic.
        root: the folder of the data set; None for synthetic only, which has no files.
            coco: ``<split>2017/``, ``annotations/panoptic_<split>2017.json`` and ``annotations/panoptic_<split>2017/``.
            camvid: ``images/<split>/`` and ``labels/<split>/``.
        split: coco: train or val; camvid and synthetic: train, val or test.

    Raises:
        ValueError: an unknown name or split, a root where none is needed or none where one is, or files whose classes
            are not those of the data set.
        FileNotFoundError: a file or folder that is not there.
    """
    if name not in _BUILDERS:
        raise ValueError(f"name: expected one of {sorted(_BUILDERS)}, got {name!r}")
    splits, build = _BUILDERS[name]
    if split not in splits:
        raise ValueError(f"split: expected one of {list(splits)} of {name}, got {split!r}")
    return build(root, split)


def _coco(root: Path | None, split: str) -> Dataset:
    root = _folder("coco", root)
    json = root / "annotations" / f"panoptic_{split}2017.json"
    dataset = CocoPanoptic(root / f"{split}2017", json)
    if dataset.categories != categories("coco"):
        raise ValueError(f"{json}: expected the {len(categories('coco'))} classes of COCO panoptic, got others")
    return dataset


def _camvid(root: Path | None, split: str) -> Dataset:
    return CamVid(_folder("camvid", root), split)


def _synthetic(root: Path | None, split: str) -> Dataset:
    if root is not None:
        raise ValueError(f"root: expected None for synthetic, which is generated, got {str(root)!r}")
    return SyntheticScenes(SYNTHETIC_LENGTHS[split], seed=list(SYNTHETIC_LENGTHS).index(split))


def _folder(name: str, root: Path | None) -> Path:
    if root is None:
        raise ValueError(f"root: expected the folder of {name}, got None")
    if not Path(root).is_dir():
        raise FileNotFoundError(f"{root}: expected the folder of {name}, got no such folder")
    return Path(root)


_BUILDERS: dict[str, tuple[tuple[str, ...], Callable[[Path | None, str], Dataset]]] = {
    "camvid": (("train", "val", "test"), _camvid),
    "coco": (("train", "val"), _coco),
    "synthetic": (tuple(SYNTHETIC_LENGTHS), _synthetic),
}
