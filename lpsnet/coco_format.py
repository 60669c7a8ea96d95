"""The COCO panoptic format: a PNG whose colours are segment ids, and a JSON of segments (cocodataset.org, 2018).

The class of a segment goes by the number that its data set gives it (`Category.id`), not by the index of its logit.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lpsnet import atomic
from lpsnet.categories import Category
from lpsnet.structures import PanopticResult, Segment


def rgb_to_id(rgb: np.ndarray) -> np.ndarray:
    """int32[H, W] ids from uint8[H, W, 3] colours: id = R + 256 G + 65536 B."""
    channels = rgb.astype(np.int32)
    return channels[..., 0] + 256 * channels[..., 1] + 65536 * channels[..., 2]


def id_to_rgb(ids: np.ndarray) -> np.ndarray:
    """uint8[H, W, 3] colours from int32[H, W] ids below 2**24: the inverse of `rgb_to_id`."""
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], -1).astype(np.uint8)


def image(image_id: int, file_name: str, height: int, width: int) -> dict[str, Any]:
    """An entry of the JSON's ``images``. `file_name` is that of the photograph, sizes are in pixels."""
    return {"id": image_id, "file_name": file_name, "height": height, "width": width}


def category_rows(categories: Sequence[Category]) -> list[dict[str, Any]]:
    """The JSON's ``categories``."""
    return [{"id": c.id, "name": c.name, "isthing": int(c.isthing), "color": list(c.color)} for c in categories]


def annotation(result: PanopticResult, image_id: int | str, file_name: str) -> dict[str, Any]:
    """An entry of the JSON's ``annotations``.

    Args:
        result: the panoptic map.
        image_id: the id of its image in ``images``; a name in data sets that have no numbers, such as Cityscapes.
        file_name: of the PNG that `write_png` makes of ``result.ids``.

    Returns:
        The entry. To the fields of the format each segment adds ``score`` and ``isthing``, which readers of the format
        pass over.
    """
    segments = []
    for s in result.segments:
        category = result.categories[s.label]
        x1, y1, x2, y2 = s.box
        segments.append(
            {
                "id": s.id,
                "category_id": category.id,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": s.area,
                "iscrowd": 0,
                "isthing": int(category.isthing),
                "score": s.score,
            }
        )
    return {"image_id": image_id, "file_name": file_name, "segments_info": segments}


def parse(ids: np.ndarray, annotation: Mapping[str, Any], categories: Sequence[Category]) -> PanopticResult:
    """The panoptic map that an annotation and its PNG describe: the inverse of `annotation`.

    Args:
        ids: int32[H, W], as `read_png` gives them.
        annotation: an entry of ``annotations``. Its segments keep their order and are numbered anew from 1; areas and
            boxes are taken as written. The score is 1 where there is none; crowds become ordinary segments.
        categories: the classes by index; their ids must cover those of the annotation.

    Raises:
        ValueError: a category that `categories` does not have, or a pixel with an id that no segment has.
    """
    labels = {category.id: label for label, category in enumerate(categories)}
    new_ids = {0: 0}
    segments: list[Segment] = []
    for info in annotation["segments_info"]:
        if info["category_id"] not in labels:
            raise ValueError(f"category_id: expected one of {sorted(labels)}, got {info['category_id']}")
        x, y, width, height = info["bbox"]
        new_ids[info["id"]] = len(segments) + 1
        segments.append(
            Segment(
                id=len(segments) + 1,
                label=labels[info["category_id"]],
                score=float(info.get("score", 1.0)),
                area=int(info["area"]),
                box=(int(x), int(y), int(x + width), int(y + height)),
            )
        )
    present, inverse = np.unique(ids, return_inverse=True)
    unknown = sorted(set(present.tolist()) - set(new_ids))
    if unknown:
        raise ValueError(f"ids: expected those of segments_info and 0, got {unknown[:5]} as well")
    table = np.array([new_ids[i] for i in present.tolist()], np.int32)
    return PanopticResult(table[inverse].reshape(ids.shape), tuple(segments), tuple(categories))


def write_png(path: str | Path, ids: np.ndarray) -> None:
    """Writes int32[H, W] ids as a PNG, atomically.

    Raises:
        ValueError: ids outside 0..2**24 - 1.
        OSError: a folder that cannot be written to.
    """
    if ids.size and (ids.min() < 0 or ids.max() >= 1 << 24):
        raise ValueError(f"ids: expected numbers in 0..{(1 << 24) - 1}, got {ids.min()}..{ids.max()}")
    _, data = cv2.imencode(".png", id_to_rgb(ids)[..., ::-1])
    atomic.write_bytes(path, data.tobytes())


def read_png(path: str | Path) -> np.ndarray:
    """int32[H, W], the ids that `write_png` wrote.

    Raises:
        OSError: a file that cannot be read.
        ValueError: a file that is not an 8-bit colour image.
    """
    data = np.frombuffer(Path(path).read_bytes(), np.uint8)
    bgr = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if bgr is None:
        raise ValueError(f"{path}: expected a PNG, got a file that cannot be decoded")
    if bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.dtype != np.uint8:
        raise ValueError(f"{path}: expected uint8 [H, W, 3], got {bgr.dtype} {list(bgr.shape)}")
    return rgb_to_id(bgr[..., ::-1])


def write_json(
    path: str | Path,
    images: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    categories: Sequence[Category],
) -> None:
    """Writes the JSON of a set of images, atomically. Raises OSError where the folder cannot be written to."""
    document = {
        "images": list(images),
        "annotations": list(annotations),
        "categories": category_rows(categories),
    }
    atomic.write_bytes(path, json.dumps(document, allow_nan=False).encode())
