"""The classes of each data set, in the order of the semantic logits."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

VOID = 255
"""The label of pixels without a class, in label maps."""


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


@cache
def categories(dataset: str) -> tuple[Category, ...]:
    """The classes of a data set: coco, cityscapes, camvid or synthetic.

    Raises:
        ValueError: no such data set, with the names there are.
    """
    folder = Path(__file__).with_name("category_tables")
    path = folder / f"{dataset}.json"
    names = sorted(p.stem for p in folder.glob("*.json"))
    if dataset not in names:
        raise ValueError(f"dataset: expected one of {names}, got {dataset!r}")
    rows = json.loads(path.read_text(encoding="utf-8"))
    return tuple(Category(r["id"], r["name"], bool(r["isthing"]), tuple(r["color"])) for r in rows)
