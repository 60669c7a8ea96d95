"""The files of a run: for each image an overlay and its ids, and one JSON for all (COCO panoptic format)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lpsnet import atomic, coco_format
from lpsnet.categories import Category
from lpsnet.structures import PanopticResult
from lpsnet.visualize import overlay


class OutputFolder:
    """Writes results into a folder, each file whole or not at all.

    Args:
        path: made where absent.
        categories: the classes of the results.

    Raises:
        OSError: a folder that cannot be made or written to.
    """

    def __init__(self, path: Path, categories: tuple[Category, ...]) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._categories = categories
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._names: set[str] = set()
        self.write_json()  # a folder that cannot be written to shows before the work, not after it

    def write(self, source: Path, image: np.ndarray, result: PanopticResult) -> Path:
        """Writes NAME_overlay.png and NAME_panoptic.png; returns the path of the overlay.

        NAME is the stem of the source; a second source of the same stem gets a number.
        """
        name = self._new_name(source.stem)
        overlay_path = self.path / f"{name}_overlay.png"
        _, data = cv2.imencode(".png", overlay(image, result)[..., ::-1])
        atomic.write_bytes(overlay_path, data.tobytes())
        self._add(name, source.name, result, {})
        return overlay_path

    def write_frame(self, index: int, result: PanopticResult, track_ids: Mapping[int, int]) -> None:
        """Writes INDEX_panoptic.png of a frame of a video.

        Args:
            index: of the frame in its source, from 0.
            result: its map.
            track_ids: by the id of a segment, the number of its object; it goes into the JSON as ``track_id``.
        """
        name = f"{index:06d}"
        self._add(name, f"{name}.png", result, track_ids)

    def _add(self, name: str, file_name: str, result: PanopticResult, track_ids: Mapping[int, int]) -> None:
        image_id = len(self._images) + 1
        png = f"{name}_panoptic.png"
        coco_format.write_png(self.path / png, result.ids)
        annotation = coco_format.annotation(result, image_id, png)
        for segment in annotation["segments_info"]:
            if segment["id"] in track_ids:
                segment["track_id"] = track_ids[segment["id"]]
        self._images.append(coco_format.image(image_id, file_name, *result.ids.shape))
        self._annotations.append(annotation)

    def write_json(self) -> None:
        """Writes panoptic.json for the images so far."""
        coco_format.write_json(self.path / "panoptic.json", self._images, self._annotations, self._categories)

    def _new_name(self, stem: str) -> str:
        name, number = stem, 1
        while name in self._names:
            number += 1
            name = f"{stem}_{number}"
        self._names.add(name)
        return name
