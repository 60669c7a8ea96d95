"""Dense outputs of a network that is nearly right, made up, for the cost of what follows the network."""

import numpy as np

from lpsnet.categories import Category
from lpsnet.config import BOX_STRIDES, SEMANTIC_STRIDE
from lpsnet.inference import DenseArrays, NetworkInput

_BOUNDS = (0.0, 64.0, 128.0, 256.0, 512.0, float("inf"))
"""A box is on the level whose bounds its greatest distance lies in (FCOS)."""
_STEP = 8
"""Logits of the class that a point has, over those of the others, which are noise of deviation 1."""


def made_categories(count: int) -> tuple[Category, ...]:
    """So many classes, every second one of things."""
    return tuple(Category(i, f"class {i}", i % 2 == 0, (i % 256, 0, 0)) for i in range(count))


def made_outputs(
    size: tuple[int, int], boxes: int, box_side: float, categories: tuple[Category, ...], seed: int = 0
) -> tuple[DenseArrays, NetworkInput]:
    """Square objects of random thing classes over bands of stuff.

    Args:
        size: (height, width) of image and network input, multiples of 32.
        boxes: so many objects, at random places; they may cover each other.
        box_side: of each, in pixels.
        categories: that there are; at least one of things and one of stuff.
        seed: of all that is random.
    """
    rng = np.random.default_rng(seed)
    height, width = size
    things = [i for i, c in enumerate(categories) if c.isthing]
    stuff = [i for i, c in enumerate(categories) if not c.isthing]
    centres = rng.uniform((0, 0), (width, height), (boxes, 2))
    corners = np.concatenate([centres - box_side / 2, centres + box_side / 2], 1)
    corners = np.clip(corners, 0, (width, height, width, height))
    classes = rng.choice(things, boxes)

    rows, columns = height // SEMANTIC_STRIDE, width // SEMANTIC_STRIDE
    labels = np.array(stuff)[np.arange(rows) * min(len(stuff), 6) // rows][:, None].repeat(columns, 1)
    for (x1, y1, x2, y2), label in zip((corners / SEMANTIC_STRIDE).round().astype(int), classes, strict=True):
        labels[y1:y2, x1:x2] = label
    logits = rng.standard_normal((len(categories), rows, columns), np.float32)
    np.put_along_axis(logits, labels[None], _STEP, 0)

    level_of = np.searchsorted(_BOUNDS, box_side / 2) - 1
    ltrb, borderness = [], []
    for level, stride in enumerate(BOX_STRIDES):
        shape = -(-height // stride), -(-width // stride)
        sides = rng.uniform(4, 200, (4, *shape)).astype(np.float32)
        inside = rng.uniform(0, 0.05, shape).astype(np.float32)
        if level == level_of:
            _draw(sides, inside, corners, stride, rng)
        ltrb.append(sides)
        borderness.append(inside)
    return DenseArrays(logits, ltrb, borderness), NetworkInput(np.zeros((1, 3, 1, 1), np.float32), size, size)


def _draw(sides: np.ndarray, inside: np.ndarray, corners: np.ndarray, stride: int, rng: np.random.Generator) -> None:
    """Each object's distances and border-ness at the points within it."""
    rows, columns = inside.shape
    x, y = (np.arange(columns) + 0.5) * stride, (np.arange(rows) + 0.5) * stride
    for x1, y1, x2, y2 in corners:
        i, j = (y > y1) & (y < y2), (x > x1) & (x < x2)
        if not (i.any() and j.any()):
            continue
        box = np.broadcast_arrays(x[j] - x1, (y[i] - y1)[:, None], x2 - x[j], (y2 - y[i])[:, None])
        at = np.ix_(i, j)
        exact = np.stack(box)
        for side in range(4):
            sides[side][at] = exact[side] * rng.normal(1, 0.03, exact.shape[1:])
        least = np.minimum(exact[0], exact[2]) * np.minimum(exact[1], exact[3])
        most = np.maximum(exact[0], exact[2]) * np.maximum(exact[1], exact[3])
        inside[at] = np.sqrt(least / most)
