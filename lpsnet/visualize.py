"""Panoptic maps as pictures."""

import colorsys
from collections import Counter
from collections.abc import Mapping

import cv2
import numpy as np

from lpsnet.structures import PanopticResult, Segment

Rectangle = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT = 22
"""Height in pixels of a capital of that font at scale 1."""


def colorize(result: PanopticResult) -> np.ndarray:
    """The map alone: each segment in a colour of its own.

    Stuff and the first instance of a class have the colour of the class, further instances shades around it, always
    the same ones. Void is black.

    Returns:
        uint8[H, W, 3], RGB.
    """
    return _colors(result, {})[result.ids]


def overlay(
    image: np.ndarray, result: PanopticResult, alpha: float = 0.55, numbers: Mapping[int, int] | None = None
) -> np.ndarray:
    """The map drawn over its image, with the borders of segments, class names, and the scores of things.

    Names are drawn as large as the image allows, from the largest segment to the smallest. A segment that is too small
    for its name, or whose name would hide another, goes without. Void shows the image.

    Args:
        image: uint8[H, W, 3], RGB.
        result: the map of that image.
        alpha: share of the colours, from 0 to 1.
        numbers: by the id of a segment, a number from 1 that tells its shade and stands behind its name, so that an
            object can look the same in many images. Segments without one are shaded in their order.

    Returns:
        uint8[H, W, 3], RGB; `image` is left as it is.

    Raises:
        ValueError: another shape or type, or an alpha outside [0, 1].
    """
    height, width = result.ids.shape
    if image.shape != (height, width, 3) or image.dtype != np.uint8:
        raise ValueError(f"image: expected uint8 [{height}, {width}, 3], got {image.dtype} {list(image.shape)}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected a number in [0, 1], got {alpha}")
    numbers = numbers or {}
    colors = _colors(result, numbers)
    canvas = cv2.addWeighted(image, 1 - alpha, colors[result.ids], alpha, 0)
    np.copyto(canvas, image, where=(result.ids == 0)[..., None])
    _draw_borders(canvas, result)
    for rectangle, text, segment in _labels(result, numbers):
        _draw_label(canvas, rectangle, text, colors[segment.id])
    return canvas


def _colors(result: PanopticResult, numbers: Mapping[int, int]) -> np.ndarray:
    """uint8[S + 1, 3], the colour of each id."""
    colors = np.zeros((max((s.id for s in result.segments), default=0) + 1, 3), np.uint8)
    seen: Counter[int] = Counter()
    for segment in result.segments:
        index = numbers.get(segment.id, seen[segment.label] + 1) - 1
        colors[segment.id] = _shade(result.categories[segment.label].color, index)
        seen[segment.label] += 1
    return colors


def _shade(color: tuple[int, int, int], index: int) -> tuple[int, int, int]:
    """The `index`-th shade of a colour, of which the first is the colour itself."""
    if index == 0:
        return color
    hue, saturation, value = colorsys.rgb_to_hsv(*(c / 255 for c in color))
    # The R3 sequence (Roberts, 2018) fills a box around the colour evenly, however many shades are taken. The box is
    # moved to where colours are neither gray nor dark.
    u, v, w = (index * step % 1 for step in (0.8191725, 0.6710436, 0.5497005))
    hue = (hue + 0.2 * (u - 0.5)) % 1
    saturation = min(0.5, max(0.35, saturation - 0.25)) + 0.5 * v
    value = min(0.5, max(0.45, value - 0.25)) + 0.5 * w
    red, green, blue = (round(255 * c) for c in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def _draw_borders(canvas: np.ndarray, result: PanopticResult) -> None:
    """White lines around things and dark ones between stuff, as thick as the image is large."""
    height, width = result.ids.shape
    isthing = np.zeros(max((s.id for s in result.segments), default=0) + 1, np.uint8)
    for segment in result.segments:
        isthing[segment.id] = result.categories[segment.label].isthing
    thickness = max(1, round(min(height, width) / 400))
    kernel = np.ones((thickness, thickness), np.uint8)
    for thing, shade in ((0, 30), (1, 255)):
        edges = np.zeros((height, width), np.uint8)
        for a, b in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
            first, second = result.ids[a], result.ids[b]
            edges[a] |= (first != second) & ((isthing[first] | isthing[second]) == thing)
        line = cv2.dilate(edges, kernel).astype(bool)
        canvas[line] = canvas[line] // 4 + np.uint8(0.75 * shade)


def _labels(result: PanopticResult, numbers: Mapping[int, int]) -> list[tuple[Rectangle, str, Segment]]:
    """Where each name goes: the rectangles lie inside the image and apart from each other."""
    height, width = result.ids.shape
    scale = _font_scale(height, width)
    placed: list[tuple[Rectangle, str, Segment]] = []
    for segment in sorted(result.segments, key=lambda s: -s.area):
        category = result.categories[segment.label]
        name = category.name.removesuffix("-merged").removesuffix("-other")  # COCO's bookkeeping
        name += f" #{numbers[segment.id]}" if segment.id in numbers else ""
        text = f"{name} {segment.score:.2f}" if category.isthing else name
        size = _label_size(text, scale)
        if segment.area < (0.25 if category.isthing else 1.5) * size[0] * size[1]:
            continue
        for rectangle in _candidates(result, segment, size):
            if not any(_meet(rectangle, other) for other, _, _ in placed):
                placed.append((rectangle, text, segment))
                break
    return placed


def _font_scale(height: int, width: int) -> float:
    return max(0.36, 0.024 * min(height, width) / _FONT_HEIGHT)


def _label_size(text: str, scale: float) -> tuple[int, int]:
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, _stroke(scale))
    margin = _margin(scale)
    return width + 2 * margin, height + 2 * margin


def _margin(scale: float) -> int:
    return max(2, round(scale * _FONT_HEIGHT * 0.35))


def _stroke(scale: float) -> int:
    return max(1, round(scale * 1.6))


def _candidates(result: PanopticResult, segment: Segment, size: tuple[int, int]) -> list[Rectangle]:
    """Rectangles of this size at the most interior point of the segment, above it and below it."""
    height, width = result.ids.shape
    x1, y1, x2, y2 = segment.box
    if size[0] > width or size[1] > height:
        return []
    # A coarse mask is enough to find a place for a name, and its border counts as an end.
    step = max(1, max(x2 - x1, y2 - y1) // 256)
    mask = (result.ids[y1:y2:step, x1:x2:step] == segment.id).astype(np.uint8)
    distance = cv2.distanceTransform(cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 3)
    row, column = np.unravel_index(np.argmax(distance), distance.shape)
    inside = (x1 + (column - 0.5) * step, y1 + (row - 0.5) * step)
    middle = (x1 + x2) / 2
    centres = [inside, (middle, y1 - size[1] / 2), (middle, y2 + size[1] / 2)]
    if segment.area < 4 * size[0] * size[1]:  # on top of it the name would hide it
        centres = centres[1:] + centres[:1]
    rectangles = []
    for x, y in centres:
        left = min(max(0, round(x - size[0] / 2)), width - size[0])
        top = min(max(0, round(y - size[1] / 2)), height - size[1])
        rectangles.append((left, top, left + size[0], top + size[1]))
    return rectangles


def _meet(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _draw_label(canvas: np.ndarray, rectangle: Rectangle, text: str, color: np.ndarray) -> None:
    x1, y1, x2, y2 = rectangle
    scale = _font_scale(*canvas.shape[:2])
    margin = _margin(scale)
    # Rec. 709 luma decides between black and white letters.
    ink = (0, 0, 0) if color @ (0.2126, 0.7152, 0.0722) > 130 else (255, 255, 255)
    cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), color.tolist(), cv2.FILLED)
    cv2.putText(canvas, text, (x1 + margin, y2 - 1 - margin), _FONT, scale, ink, _stroke(scale), cv2.LINE_AA)
