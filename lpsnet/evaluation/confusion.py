"""A picture of what is taken for what: pixels of the semantic head and segments of the panoptic map."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from lpsnet import atomic
from lpsnet.categories import Category
from lpsnet.evaluation.evaluate import ScoredImage
from lpsnet.evaluation.segment_confusion import SegmentConfusion
from lpsnet.evaluation.semantic import SemanticEvaluator

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MARGIN = 24
_READABLE_CELL = 40
"""Pixels of a cell with a number in it."""
_SMALL_CELL = 13
_MANY_CLASSES = 40
"""More than so many classes get small cells without numbers."""
_INK, _PAPER = (40, 40, 40), (255, 255, 255)


class Confusion:
    """Sees every image and counts.

    Attributes:
        pixels: int64[C, C + 1], pixels by true and predicted class of the semantic head; last column: predicted void.
        segments: int64[C + 1, C + 1], see `SegmentConfusion`.
    """

    def __init__(self, categories: Sequence[Category]) -> None:
        self._categories = tuple(categories)
        self._semantic, self._segments = SemanticEvaluator(categories), SegmentConfusion(categories)

    @property
    def pixels(self) -> np.ndarray:
        return self._semantic.confusion

    @property
    def segments(self) -> np.ndarray:
        return self._segments.matrix

    def update(self, image: ScoredImage) -> None:
        """Adds one image."""
        self._semantic.update(image.sample.labels(), image.labels)
        self._segments.update(image.sample, image.result)

    def to_dict(self) -> dict[str, list]:
        """Plain data, fit for JSON."""
        names = [c.name for c in self._categories]
        return {"classes": names, "pixels": self.pixels.tolist(), "segments": self.segments.tolist()}

    def picture(self) -> np.ndarray:
        """uint8[H, W, 3], RGB.

        Both panels have a row for each true class. Pixels are in percent of the row. Segments are counted, and
        coloured by their share of the row; the last row are the false segments, coloured by their share of the column.
        """
        names = [c.name for c in self._categories]
        pixel_rows = self.pixels.sum(1, keepdims=True)
        shares = self.pixels / np.maximum(1, pixel_rows)
        texts = [[f"{100 * v:.0f}" if v >= 0.005 else "" for v in row] for row in shares]
        pixels = _panel("pixels, % of the true class", shares, texts, names, [*names, "void"])

        counts = self.segments
        weights = counts / np.maximum(1, counts.sum(1, keepdims=True))
        weights[-1] = counts[-1] / np.maximum(1, counts.sum(0))
        texts = [[f"{v}" if v else "" for v in row] for row in counts.tolist()]
        segments = _panel("segments, number", weights, texts, [*names, "false"], [*names, "missed"])
        height = max(len(pixels), len(segments))
        return np.hstack([_padded(panel, height) for panel in (pixels, segments)])

    def write(self, path: Path) -> None:
        """Writes the picture as a PNG, whole or not at all. Raises OSError where that is not possible."""
        _, data = cv2.imencode(".png", self.picture()[..., ::-1])
        atomic.write_bytes(path, data.tobytes())


def _panel(
    title: str, weights: np.ndarray, texts: Sequence[Sequence[str]], rows: Sequence[str], columns: Sequence[str]
) -> np.ndarray:
    """A matrix with names at its sides; weights from 0 to 1 colour the cells, those of the diagonal in another hue."""
    cell = _READABLE_CELL if len(columns) <= _MANY_CLASSES else _SMALL_CELL
    scale = 0.5 if cell == _READABLE_CELL else 0.35
    left = _MARGIN + 8 + max(_text_size(name, scale)[0] for name in rows)
    top = 3 * _MARGIN + 8 + max(_text_size(name, scale)[0] for name in columns)
    canvas = np.full((top + cell * len(rows) + _MARGIN, left + cell * len(columns) + _MARGIN, 3), _PAPER, np.uint8)
    _write(canvas, title, _MARGIN, 28, 0.7)
    _write(canvas, "rows: truth, columns: prediction", _MARGIN, 50, 0.45)
    for i, name in enumerate(rows):
        width, height = _text_size(name, scale)
        _write(canvas, name, left - 6 - width, top + i * cell + (cell + height) // 2, scale)
    for j, name in enumerate(columns):
        _write_upwards(canvas, name, left + j * cell, top - 6, cell, scale)
    for i in range(len(rows)):
        for j in range(len(columns)):
            x, y = left + j * cell, top + i * cell
            color = _color(float(weights[i, j]), good=i == j)
            cv2.rectangle(canvas, (x, y), (x + cell - 1, y + cell - 1), color, cv2.FILLED)
            cv2.rectangle(canvas, (x, y), (x + cell - 1, y + cell - 1), (225, 225, 225), 1)
            if cell == _READABLE_CELL and texts[i][j]:
                fitted = min(0.42, 0.42 * (cell - 6) / _text_size(texts[i][j], 0.42)[0])
                width, height = _text_size(texts[i][j], fitted)
                ink = _PAPER if weights[i, j] > 0.55 else _INK
                _write(canvas, texts[i][j], x + (cell - width) // 2, y + (cell + height) // 2, fitted, ink)
    return canvas


def _color(weight: float, good: bool) -> tuple[int, int, int]:
    """From white to green on the diagonal, to red off it; small errors show, as their share grows by its root."""
    full = np.array((20, 110, 70) if good else (190, 30, 40))
    share = weight if good else weight**0.5
    red, green, blue = (round(v) for v in (255 + (full - 255) * share).tolist())
    return red, green, blue


def _text_size(text: str, scale: float) -> tuple[int, int]:
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, 1)
    return width, height


def _write(canvas: np.ndarray, text: str, x: int, y: int, scale: float, ink: tuple[int, int, int] = _INK) -> None:
    cv2.putText(canvas, text, (x, y), _FONT, scale, ink, 1, cv2.LINE_AA)


def _write_upwards(canvas: np.ndarray, text: str, x: int, bottom: int, cell: int, scale: float) -> None:
    """Text turned by a quarter, centred in a column of cells, that ends at `bottom`."""
    width, height = _text_size(text, scale)
    strip = np.full((cell, width + 4, 3), _PAPER, np.uint8)
    _write(strip, text, 1, (cell + height) // 2, scale)
    turned = cv2.rotate(strip, cv2.ROTATE_90_COUNTERCLOCKWISE)
    canvas[bottom - len(turned) : bottom, x : x + cell] = turned


def _padded(panel: np.ndarray, height: int) -> np.ndarray:
    return np.pad(panel, ((0, height - len(panel)), (0, 0), (0, 0)), constant_values=255)
