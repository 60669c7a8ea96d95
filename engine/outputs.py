"""The files of a run: for each image an overlay and its ids, and one JSON for all (COCO panoptic format)."""

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
        image_id = len(self._images) + 1
        overlay_path = self.path / f"{name}_overlay.png"
        _, data = cv2.imencode(".png", overlay(image, result)[..., ::-1])
        atomic.write_bytes(overlay_path, data.tobytes())
        png = f"{name}_panoptic.png"
        coco_format.write_png(self.path / png, result.ids)
        self._images.append(coco_format.image(image_id, source.name, *result.ids.shape))
        self._annotations.append(coco_format.annotation(result, image_id, png))
        return overlay_path

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
