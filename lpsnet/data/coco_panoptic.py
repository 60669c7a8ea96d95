"""Any data set in the COCO panoptic format: images, a JSON of segments, and a PNG of segment ids per image."""

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lpsnet.categories import VOID, Category, categories
from lpsnet.coco_format import rgb_to_id
from lpsnet.data.faults import OnFault, stop
from lpsnet.data.files import expect_folder, expect_same_size, read_json, read_rgb
from lpsnet.data.sample import Sample, TrueSegment

Color = tuple[int, int, int]


class CocoPanoptic:
    """The annotated images of one JSON, in its order.

    An image without an annotation is skipped: the format allows it, and there is nothing to learn or to score. One
    whose annotation has no segments is kept, and is all void.

    Attributes:
        categories: the classes of the JSON, in its order; where they are those of COCO, `categories("coco")` itself.
        skipped: the file names of the images without an annotation.

    Args:
        images_dir: the folder that the JSON's file names of images are relative to.
        annotations_json: such as ``annotations/panoptic_train2017.json``.
        panoptic_dir: the folder of the PNGs, such as ``annotations/panoptic_train2017``; by default the path of the
            JSON without its suffix, as the format's own tools take it.
        classes: the names of those categories of the JSON that are wanted, in the wanted order, each with its colour or
            None for the JSON's; the segments of others are void. None takes them all.
        on_fault: gets each missing file and each annotation that is wrong; its image is left out.

    Raises:
        FileNotFoundError: a missing folder, JSON, image or PNG.
        ValueError: a JSON that is not of this format, an unknown category, or a segment id that occurs twice.
    """

    categories: tuple[Category, ...]
    skipped: tuple[str, ...]

    def __init__(
        self,
        images_dir: Path | str,
        annotations_json: Path | str,
        panoptic_dir: Path | str | None = None,
        classes: Mapping[str, Color | None] | None = None,
        on_fault: OnFault = stop,
    ) -> None:
        self._json = Path(annotations_json)
        self._images_dir = Path(images_dir)
        self._panoptic_dir = self._json.with_suffix("") if panoptic_dir is None else Path(panoptic_dir)
        for folder in (self._images_dir, self._panoptic_dir):
            expect_folder(folder, f"files that {self._json.name} names")
        data = read_json(self._json, "a COCO panoptic JSON")
        for field in ("images", "annotations", "categories"):
            if not isinstance(data, dict) or not isinstance(data.get(field), list):
                raise ValueError(
                    f"{self._json}: expected the lists images, annotations and categories, got no list {field!r}"
                )
        try:
            every = _categories(data["categories"])
            self.categories = every if classes is None else _chosen(every, classes)
            annotation_of = self._annotation_of(data["images"], data["annotations"], on_fault)
        except (KeyError, TypeError, ValueError) as error:
            raise self._wrong(error) from None
        labels = {category.id: VOID for category in every}
        labels |= {category.id: index for index, category in enumerate(self.categories)}
        self._index(data["images"], annotation_of, labels, on_fault)

    def _annotation_of(
        self, images: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]], on_fault: OnFault
    ) -> dict[Any, Mapping[str, Any]]:
        """By the id of the image."""
        known: set[Any] = set()
        for image in images:
            if image["id"] in known:
                on_fault(self._wrong(ValueError(f"images: expected distinct ids, got {image['id']} twice")))
            known.add(image["id"])
        found: dict[Any, Mapping[str, Any]] = {}
        for annotation in annotations:
            key = annotation["image_id"]
            if key in found:
                on_fault(self._wrong(ValueError(f"annotations: expected one per image, got two of image {key}")))
            elif key not in known:
                on_fault(self._wrong(ValueError(f"annotations: expected ids of images, got {key}")))
            else:
                found[key] = annotation
        return found

    def _index(
        self,
        images: Sequence[Mapping[str, Any]],
        annotation_of: Mapping[Any, Mapping[str, Any]],
        labels: Mapping[int, int],
        on_fault: OnFault,
    ) -> None:
        # The segments of all images in three arrays, not in a million dictionaries (COCO's train split), which every
        # worker process would copy as soon as it counts a reference.
        self._files: list[tuple[str, str]] = []
        skipped: list[str] = []
        segments: list[tuple[int, int, bool]] = []
        ends = [0]
        for image in images:
            try:
                if image["id"] not in annotation_of:
                    skipped.append(image["file_name"])
                    continue
                annotation = annotation_of[image["id"]]
                found = _segments(annotation, labels)
                files = image["file_name"], annotation["file_name"]
            except (KeyError, TypeError, ValueError) as error:
                on_fault(self._wrong(error))
                continue
            missing = [
                path for path in (self._images_dir / files[0], self._panoptic_dir / files[1]) if not path.is_file()
            ]
            for path in missing:
                on_fault(FileNotFoundError(f"{path}: expected a file that {self._json} names, got no such file"))
            if not missing:
                self._files.append(files)
                segments += found
                ends.append(len(segments))
        self.skipped = tuple(skipped)
        self._ids = np.array([s[0] for s in segments], np.int32)
        self._labels = np.array([s[1] for s in segments], np.uint8)
        self._crowds = np.array([s[2] for s in segments], bool)
        self._ends = np.array(ends, np.int64)

    def _wrong(self, error: Exception) -> ValueError:
        if isinstance(error, KeyError):
            return ValueError(f"{self._json}: expected the COCO panoptic format, got no field {error}")
        if isinstance(error, TypeError):
            return ValueError(f"{self._json}: expected the COCO panoptic format, got a field of another type: {error}")
        return ValueError(f"{self._json}: {error}")

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
        expect_same_size(png_path, colors, image)
        part = slice(self._ends[row], self._ends[row + 1])
        labels, crowds = self._labels[part], self._crowds[part]
        ids = self._compact(rgb_to_id(colors), self._ids[part], png_path)
        wanted = labels != VOID
        if not wanted.all():
            ids = np.concatenate([[0], np.where(wanted, np.cumsum(wanted), 0)]).astype(np.int32)[ids]
        segments = zip(labels[wanted].tolist(), crowds[wanted].tolist(), strict=True)
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


def _segments(annotation: Mapping[str, Any], labels: Mapping[int, int]) -> list[tuple[int, int, bool]]:
    """The id, the label and whether it is a crowd, of each segment."""
    rows = []
    seen = {0}
    for segment in annotation["segments_info"]:
        if segment["id"] in seen or not 0 < segment["id"] < 1 << 24:
            raise ValueError(
                f"{annotation['file_name']}: expected distinct segment ids in 1..{(1 << 24) - 1}, got {segment['id']}"
            )
        if segment["category_id"] not in labels:
            raise ValueError(
                f"{annotation['file_name']}: expected a category of the JSON for segment {segment['id']}, "
                f"got {segment['category_id']}"
            )
        seen.add(segment["id"])
        rows.append((segment["id"], labels[segment["category_id"]], bool(segment.get("iscrowd", 0))))
    return rows


def _categories(rows: Sequence[Mapping[str, Any]]) -> tuple[Category, ...]:
    if len({row["id"] for row in rows}) != len(rows) or len(rows) > VOID:
        raise ValueError(f"categories: expected at most {VOID} distinct ids, got {[row['id'] for row in rows]}")
    names = [row["name"] for row in rows]
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    if twice:
        raise ValueError(f"categories: expected distinct names, got {twice[0]!r} twice")
    coco = categories("coco")
    if {(row["id"], row["name"], bool(row["isthing"])) for row in rows} == {(c.id, c.name, c.isthing) for c in coco}:
        return coco
    return tuple(
        Category(row["id"], row["name"], bool(row["isthing"]), _color(row, index)) for index, row in enumerate(rows)
    )


def _chosen(every: Sequence[Category], classes: Mapping[str, Color | None]) -> tuple[Category, ...]:
    names = [category.name for category in every]
    chosen = []
    for name, color in classes.items():
        if name not in names:
            raise ValueError(f"classes: expected names of categories of the JSON, got {name!r}")
        category = every[names.index(name)]
        chosen.append(Category(category.id, name, category.isthing, category.color if color is None else color))
    return tuple(chosen)


def _color(row: Mapping[str, Any], index: int) -> Color:
    """The JSON's colour, or one of a sequence whose hues stay far apart: the golden ratio of the circle each time."""
    if "color" in row:
        red, green, blue = row["color"]
    else:
        red, green, blue = (round(255 * v) for v in colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.6, 0.9))
    return red, green, blue
