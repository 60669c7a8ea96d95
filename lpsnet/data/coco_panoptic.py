"""Any data set in the COCO panoptic format: images, a JSON of segments, and a PNG of segment ids per image."""

import colorsys
import json
from pathlib import Path
from typing import Any

import numpy as np

from lpsnet.categories import VOID, Category, categories
from lpsnet.coco_format import rgb_to_id
from lpsnet.data.files import read_rgb
from lpsnet.data.sample import Sample, TrueSegment


class CocoPanoptic:
    """The annotated images of one JSON, in its order.

    An image without an annotation is skipped: the format allows it, and there is nothing to learn or to score. One
    whose annotation has no segments is kept, and is all void.

    Attributes:
        categories: the classes of the JSON, in its order; where they are those of COCO, `categories("coco")` itself.

    Args:
        images_dir: the folder that the JSON's file names of images are relative to.
        annotations_json: such as ``annotations/panoptic_train2017.json``.
        panoptic_dir: the folder of the PNGs, such as ``annotations/panoptic_train2017``; by default the path of the
            JSON without its suffix, as the format's own tools take it.

    Raises:
        FileNotFoundError: a missing folder, JSON, image or PNG.
        ValueError: a JSON that is not of this format, an unknown category, or a segment id that occurs twice.
    """

    categories: tuple[Category, ...]

    def __init__(
        self, images_dir: Path | str, annotations_json: Path | str, panoptic_dir: Path | str | None = None
    ) -> None:
        self._json = Path(annotations_json)
        self._images_dir = Path(images_dir)
        self._panoptic_dir = self._json.with_suffix("") if panoptic_dir is None else Path(panoptic_dir)
        for folder in (self._images_dir, self._panoptic_dir):
            if not folder.is_dir():
                raise FileNotFoundError(f"{folder}: expected a folder, got no such folder")
        images, annotations, rows = _read_json(self._json)
        try:
            self.categories = _categories(rows)
            self._index(images, annotations)
        except KeyError as error:
            raise ValueError(f"{self._json}: expected the COCO panoptic format, got no field {error}") from None
        except ValueError as error:
            raise ValueError(f"{self._json}: {error}") from None
        for image, png in self._files:
            for path in (self._images_dir / image, self._panoptic_dir / png):
                if not path.is_file():
                    raise FileNotFoundError(f"{path}: expected a file that {self._json} names, got no such file")

    def _index(self, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> None:
        label_of = {category.id: index for index, category in enumerate(self.categories)}
        by_image: dict[int, dict[str, Any]] = {}
        for annotation in annotations:
            if by_image.setdefault(annotation["image_id"], annotation) is not annotation:
                raise ValueError(f"annotations: expected one per image, got two of image {annotation['image_id']}")
        stray = set(by_image) - {image["id"] for image in images}
        if stray:
            raise ValueError(f"annotations: expected ids of images, got {min(stray)}")
        # The segments of all images in three arrays, not in a million dictionaries (COCO's train split), which every
        # worker process would copy as soon as it counts a reference.
        self._files: list[tuple[str, str]] = []
        ids, labels, crowds, ends = [], [], [], [0]
        for image in images:
            if image["id"] not in by_image:
                continue
            annotation = by_image[image["id"]]
            seen = {0}
            for segment in annotation["segments_info"]:
                if segment["id"] in seen or not 0 < segment["id"] < 1 << 24:
                    raise ValueError(
                        f"{annotation['file_name']}: expected distinct segment ids in 1..{(1 << 24) - 1}, "
                        f"got {segment['id']}"
                    )
                if segment["category_id"] not in label_of:
                    raise ValueError(
                        f"{annotation['file_name']}: expected a category of the JSON for segment {segment['id']}, "
                        f"got {segment['category_id']}"
                    )
                seen.add(segment["id"])
                ids.append(segment["id"])
                labels.append(label_of[segment["category_id"]])
                crowds.append(bool(segment.get("iscrowd", 0)))
            self._files.append((image["file_name"], annotation["file_name"]))
            ends.append(len(ids))
        self._ids, self._labels = np.array(ids, np.int32), np.array(labels, np.uint8)
        self._crowds, self._ends = np.array(crowds, bool), np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        """Reads one image.

        Raises:
            ValueError: an unreadable file, a PNG of another size than its image, or segments of the JSON and of the
                PNG that differ.
        """
        row = range(len(self))[index]
        image_path, png_path = self._images_dir / self._files[row][0], self._panoptic_dir / self._files[row][1]
        image, colors = read_rgb(image_path), read_rgb(png_path)
        if colors.shape != image.shape:
            raise ValueError(
                f"{png_path}: expected the size of its image, {list(image.shape[:2])}, got {list(colors.shape[:2])}"
            )
        part = slice(self._ends[row], self._ends[row + 1])
        ids = self._compact(rgb_to_id(colors), self._ids[part], png_path)
        segments = zip(self._labels[part].tolist(), self._crowds[part].tolist(), strict=True)
        return Sample(image_path.stem, image, ids, tuple(TrueSegment(label, crowd) for label, crowd in segments))

    def _compact(self, png_ids: np.ndarray, ids: np.ndarray, path: Path) -> np.ndarray:
        """int32[H, W]: 1 + the row of each pixel's segment, from the ids that the format lets anyone choose."""
        known = np.concatenate([np.zeros(1, np.int32), ids])
        order = np.argsort(known)
        position = np.minimum(np.searchsorted(known[order], png_ids), len(known) - 1)
        compact = order[position].astype(np.int32)
        wrong = known[compact] != png_ids
        if wrong.any():
            raise ValueError(f"{path}: expected segment ids that {self._json} lists, got {int(png_ids[wrong][0])}")
        missing = np.bincount(compact.ravel(), minlength=len(known))[1:] == 0
        if missing.any():
            raise ValueError(
                f"{path}: expected pixels of every segment that {self._json} lists, got none of {int(ids[missing][0])}"
            )
        return compact


def _read_json(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a COCO panoptic JSON, got no such file")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return data["images"], data["annotations"], data["categories"]
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from None
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected images, annotations and categories, got no field {error}") from None


def _categories(rows: list[dict[str, Any]]) -> tuple[Category, ...]:
    if len({row["id"] for row in rows}) != len(rows) or len(rows) > VOID:
        raise ValueError(f"categories: expected at most {VOID} distinct ids, got {[row['id'] for row in rows]}")
    coco = categories("coco")
    if {(row["id"], row["name"], bool(row["isthing"])) for row in rows} == {(c.id, c.name, c.isthing) for c in coco}:
        return coco
    return tuple(
        Category(row["id"], row["name"], bool(row["isthing"]), _color(row, index)) for index, row in enumerate(rows)
    )


def _color(row: dict[str, Any], index: int) -> tuple[int, int, int]:
    """The JSON's colour, or one of a sequence whose hues stay far apart: the golden ratio of the circle each time."""
    if "color" in row:
        red, green, blue = row["color"]
    else:
        red, green, blue = (round(255 * v) for v in colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.6, 0.9))
    return red, green, blue
