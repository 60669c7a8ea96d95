"""The classes of each data set, in the order of the semantic logits."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

VOID = 255
"""The label of pixels without a class, in label maps."""
_TABLES = Path(__file__).with_name("category_tables")


@dataclass(frozen=True)
class Category:
    """A class.

    Attributes:
        id: in the data set's own numbering.
        name: as the data set spells it.
        isthing: countable objects (True) or stuff (False).
        color: R, G, B in 0..255, of stuff and of the first instance.
    """

    id: int
    name: str
    isthing: bool
    color: tuple[int, int, int]


def packaged() -> list[str]:
    """The names of the data sets whose classes come with the package."""
    return sorted(path.stem for path in _TABLES.glob("*.json"))


@cache
def categories(dataset: str) -> tuple[Category, ...]:
    """The classes of a data set: coco, cityscapes, mapillary, camvid or synthetic.

    Raises:
        ValueError: no such data set, with the names there are.
    """
    if dataset not in packaged():
        raise ValueError(f"dataset: expected one of {packaged()}, got {dataset!r}")
    rows = json.loads((_TABLES / f"{dataset}.json").read_text(encoding="utf-8"))
    return tuple(Category(r["id"], r["name"], bool(r["isthing"]), tuple(r["color"])) for r in rows)
