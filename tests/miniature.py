"""Data sets of a few small images in the layouts of the real ones."""

import json
from pathlib import Path

import cv2
import numpy as np

from lpsnet.categories import categories
from lpsnet.coco_format import id_to_rgb

HEIGHT, WIDTH = 64, 96


def image(seed: int = 0) -> np.ndarray:
    """uint8[HEIGHT, WIDTH, 3] with some structure in it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)


def write_image(path: Path, array: np.ndarray) -> None:
    """Writes colours as RGB, label maps as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)


def cityscapes_values() -> np.ndarray:
    """Sky above road, two cars, a group of persons, a caravan and the own bonnet, the last two void."""
    values = np.full((HEIGHT, WIDTH), 23, np.uint16)
    values[32:] = 7
    values[20:44, 4:28], values[24:48, 28:52] = 26001, 26000
    values[30:40, 60:80] = 24
    values[10:20, 60:80] = 29001
    values[60:] = 1
    return values


def write_cityscapes(root: Path, splits: tuple[str, ...] = ("train", "val"), images: int = 2) -> Path:
    """Each image in a city of its own."""
    for split in splits:
        for k in range(images):
            city, name = f"city{k}", f"city{k}_000000_00000{k}"
            write_image(root / f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png", image(k))
            if split != "test":
                write_image(root / f"gtFine/{split}/{city}/{name}_gtFine_instanceIds.png", cityscapes_values())
    return root


def mapillary_labels() -> list[dict]:
    """The labels of the release's configuration."""
    labels = [
        {"name": f"name-{c.id}", "readable": c.name, "instances": c.isthing, "evaluate": True, "color": list(c.color)}
        for c in categories("mapillary")
    ]
    unlabeled = {"readable": "Unlabeled", "name": "void--unlabeled", "instances": False, "evaluate": False}
    return [*labels, unlabeled | {"color": [0, 0, 0]}]


def mapillary_index(name: str) -> int:
    """The index of a label."""
    return [row["readable"] for row in mapillary_labels()].index(name)


def mapillary_values() -> np.ndarray:
    """Sky above road, two cars, of which one has the number 0, and something unlabeled."""
    values = np.full((HEIGHT, WIDTH), mapillary_index("Sky") * 256, np.uint16)
    values[32:] = mapillary_index("Road") * 256
    values[20:44, 4:28], values[24:48, 28:52] = [mapillary_index("Car") * 256 + k for k in (0, 1)]
    values[60:] = mapillary_index("Unlabeled") * 256
    return values


def write_mapillary(root: Path, newer: bool = False, images: int = 2) -> Path:
    """In the layout of release 1.2, or in that of the releases that hold version 2.0 as well."""
    root.mkdir(parents=True, exist_ok=True)
    (root / ("config_v1.2.json" if newer else "config.json")).write_text(json.dumps({"labels": mapillary_labels()}))
    for folder in ("training", "validation", "testing"):
        for k in range(images):
            write_image(root / folder / f"images/key{k}.jpg", image(k))
            if folder != "testing":
                instances = root / folder / ("v1.2/instances" if newer else "instances")
                write_image(instances / f"key{k}.png", mapillary_values())
    return root


CUSTOM_CATEGORIES = [
    {"id": 7, "name": "lake", "isthing": 0},
    {"id": 3, "name": "duck", "isthing": 1, "color": [1, 2, 3]},
    {"id": 9, "name": "reed", "isthing": 0},
]
CUSTOM_YAML = """\
name: ducks
splits:
  train: {images: images/train, annotations: train.json}
  val: {images: images/val, annotations: val.json, panoptic: val}
  wild: {images: images/wild}
"""


def custom_ids() -> np.ndarray:
    """Reed above a lake, two ducks, a crowd of ducks and void."""
    ids = np.full((HEIGHT, WIDTH), 500, np.int32)
    ids[32:] = 5
    ids[20:44, 4:28], ids[24:48, 28:52], ids[30:40, 60:80], ids[60:] = 70000, 70001, 70002, 0
    return ids


def custom_json(images: int) -> dict:
    """Annotations of `custom_ids` for so many images, and one image more without."""
    segments = [
        {"id": 500, "category_id": 9, "iscrowd": 0},
        {"id": 5, "category_id": 7, "iscrowd": 0},
        {"id": 70000, "category_id": 3, "iscrowd": 0},
        {"id": 70001, "category_id": 3},
        {"id": 70002, "category_id": 3, "iscrowd": 1},
    ]
    return {
        "images": [{"id": f"k{k}", "file_name": f"{k}.jpg"} for k in range(images + 1)],
        "annotations": [
            {"image_id": f"k{k}", "file_name": f"{k}.png", "segments_info": segments} for k in range(images)
        ],
        "categories": CUSTOM_CATEGORIES,
    }


def write_custom(root: Path, images: int = 2, yaml: str = CUSTOM_YAML) -> Path:
    """A data set in COCO panoptic format; returns the YAML file that describes it."""
    for split in ("train", "val"):
        for k in range(images):
            write_image(root / f"images/{split}/{k}.jpg", image(k))
            write_image(root / f"{split}/{k}.png", id_to_rgb(custom_ids()))
        (root / f"{split}.json").write_text(json.dumps(custom_json(images)))
    write_image(root / "images/wild/w.jpg", image())
    path = root / "ducks.yaml"
    path.write_text(yaml)
    return path


def write_camvid(root: Path) -> Path:
    for split in ("train", "val", "test"):
        write_image(root / f"images/{split}/a.png", image())
        write_image(root / f"labels/{split}/a.png", np.full((HEIGHT, WIDTH), 3, np.uint8))
    return root


def write_coco(root: Path) -> Path:
    """With the scenes of the ducks in classes of COCO: cars before trees on a road."""
    parts = write_custom(root / "parts").parent
    (root / "annotations").mkdir()
    new_id = {7: 149, 3: 3, 9: 184}
    table = [{"id": c.id, "name": c.name, "isthing": int(c.isthing)} for c in categories("coco")]
    for split in ("train", "val"):
        data = json.loads((parts / f"{split}.json").read_text()) | {"categories": table}
        for annotation in data["annotations"]:
            for segment in annotation["segments_info"]:
                segment["category_id"] = new_id[segment["category_id"]]
        (root / f"annotations/panoptic_{split}2017.json").write_text(json.dumps(data))
        (parts / split).rename(root / f"annotations/panoptic_{split}2017")
        (parts / f"images/{split}").rename(root / f"{split}2017")
    (parts / "images/wild").rename(root / "test2017")
    info = {"images": [{"id": 1, "file_name": "w.jpg"}]}
    (root / "annotations/image_info_test-dev2017.json").write_text(json.dumps(info))
    return root
