"""Data sets of the user's own, in the COCO panoptic format, described by a YAML file. `docs/datasets.md` shows one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpsnet.data.coco_panoptic import CocoPanoptic, Color
from lpsnet.data.faults import OnFault, stop
from lpsnet.data.files import list_images
from lpsnet.data.unlabelled import UnlabelledImages

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Split:
    """The files of one split.

    Attributes:
        images: the folder of the images.
        annotations: the JSON; None for images without ground truth.
        panoptic: the folder of the PNGs; None for the path of the JSON without its suffix.
    """

    images: Path
    annotations: Path | None = None
    panoptic: Path | None = None


@dataclass(frozen=True)
class Description:
    """What the YAML file says.

    Attributes:
        path: of the file.
        name: of the data set.
        splits: by name, in the order of the file.
        classes: see `CocoPanoptic`.
    """

    path: Path
    name: str
    splits: dict[str, Split]
    classes: dict[str, Color | None] | None = None

    def open(self, split: str, on_fault: OnFault = stop) -> CocoPanoptic | UnlabelledImages:
        """One split. Raises what `CocoPanoptic` does, and ValueError for a split that the file does not have."""
        if split not in self.splits:
            raise ValueError(f"split: expected one of {list(self.splits)} of {self.path}, got {split!r}")
        files = self.splits[split]
        if files.annotations is None:
            return UnlabelledImages(list_images(files.images))
        return CocoPanoptic(files.images, files.annotations, files.panoptic, self.classes, on_fault)


def is_description(path: Path | str | None) -> bool:
    """Whether the path is that of a YAML file, by its suffix."""
    return path is not None and Path(path).suffix.lower() in SUFFIXES


def read_description(path: Path | str) -> Description:
    """Reads a YAML file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is no YAML, or fields that are missing, unknown or of another type.
        ImportError: PyYAML is not installed.
    """
    path = Path(path)
    data = _mapping(_load(path), f"{path}", required={"name", "splits"}, optional={"root", "classes"})
    name = data["name"]
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{path}: name: expected a text, got {name!r}")
    root = path.parent / _text(data.get("root", "."), f"{path}: root")
    if not isinstance(data["splits"], dict) or not data["splits"]:
        raise ValueError(f"{path}: splits: expected the files of each split, got {data['splits']!r}")
    splits = {}
    for split, files in data["splits"].items():
        where = f"{path}: splits: {split}"
        files = _mapping(files, where, required={"images"}, optional={"annotations", "panoptic"})
        if "panoptic" in files and "annotations" not in files:
            raise ValueError(f"{where}: expected annotations beside panoptic, got none")
        splits[str(split)] = Split(**{key: root / _text(value, f"{where}: {key}") for key, value in files.items()})
    return Description(path, name.strip(), splits, _classes(data.get("classes"), path))


def _load(path: Path) -> Any:
    try:
        import yaml
    except ImportError:
        raise ImportError(f"{path}: YAML files need PyYAML; pip install 'lpsnet[train]' brings it") from None
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the YAML file of a data set, got no such file")
    try:
        return yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: expected YAML, got {' '.join(str(error).split())}") from None


def _mapping(data: Any, where: str, required: set[str], optional: set[str]) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"{where}: expected the fields {sorted(required | optional)}, got {data!r}")
    missing, unknown = sorted(required - set(data)), sorted(map(str, set(data) - required - optional))
    if missing or unknown:
        found = f"no {missing}" if missing else f"{unknown}"
        raise ValueError(f"{where}: expected the fields {sorted(required)} and perhaps {sorted(optional)}, got {found}")
    return data


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where}: expected a path, got {value!r}")
    return value


def _classes(rows: Any, path: Path) -> dict[str, Color | None] | None:
    if rows is None:
        return None
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path}: classes: expected a list of names, got {rows!r}")
    classes: dict[str, Color | None] = {}
    for row in rows:
        fields: Mapping[str, Any] = row if isinstance(row, dict) else {"name": row}
        fields = _mapping(fields, f"{path}: classes", required={"name"}, optional={"color"})
        name = fields["name"]
        if not isinstance(name, str):  # a bare `no` or `12` is not a text in YAML
            raise ValueError(f"{path}: classes: expected names as texts, in quotes if need be, got {name!r}")
        if name in classes:
            raise ValueError(f"{path}: classes: expected each name once, got {name!r} twice")
        classes[name] = _color(fields["color"], f"{path}: classes: {name}") if "color" in fields else None
    return classes


def _color(value: Any, where: str) -> Color:
    whole = isinstance(value, list) and all(type(v) is int and 0 <= v <= 255 for v in value)
    if not whole or len(value) != 3:
        raise ValueError(f"{where}: expected a color as [R, G, B] in 0..255, got {value!r}")
    red, green, blue = value
    return red, green, blue
