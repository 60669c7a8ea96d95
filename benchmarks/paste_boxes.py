"""paste_boxes against a merge loop in numpy: 100 boxes on an 800x1344 label map.

The loop is the usual one: for each box by descending score, its mask as a boolean image, the share of it that is
already taken, and the assignment of what is left; then the stuff classes. With the assignment "highest_confidence" both
give the same ids. What "closest_borderness" costs is printed against the same loop, which has no such step.

"scene": a map of 53 stuff and 80 thing classes, 100 boxes around its objects and false ones. "crowd": one class
everywhere and 100 large boxes of it, all over each other.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from timing import Row, at_least, report

from lpsnet import native

HEIGHT, WIDTH, NUM_BOXES, NUM_THINGS, NUM_CLASSES = 800, 1344, 100, 80, 133
OVERLAP_THRESHOLD, STUFF_AREA_LIMIT = 0.3, 4096
STRIDES = (8, 16, 32, 64, 128)
IS_THING = np.arange(NUM_CLASSES) < NUM_THINGS


def merge_loop(labels: np.ndarray, boxes: np.ndarray, box_labels: np.ndarray) -> np.ndarray:
    ids = np.zeros(labels.shape, np.int32)
    x, y = np.arange(labels.shape[1]) + 0.5, np.arange(labels.shape[0])[:, None] + 0.5
    number = 0
    for (x1, y1, x2, y2), label in zip(boxes, box_labels, strict=True):
        mask = (labels == label) & ((y >= y1) & (y < y2)) & ((x >= x1) & (x < x2))
        area = np.count_nonzero(mask)
        free = mask & (ids == 0)
        if area == 0 or np.float32(area - np.count_nonzero(free)) > np.float32(OVERLAP_THRESHOLD) * np.float32(area):
            continue
        number += 1
        ids[free] = number
    for label in range(NUM_THINGS, NUM_CLASSES):
        mask = labels == label
        if np.count_nonzero(mask) >= max(1, STUFF_AREA_LIMIT):
            number += 1
            ids[mask] = number
    return ids


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    regions = rng.uniform((0, 0), (HEIGHT, WIDTH), (12, 2))
    kinds = rng.integers(NUM_THINGS, NUM_CLASSES, 12)
    labels = kinds[np.argmin([(y - cy) ** 2 + (x - cx) ** 2 for cy, cx in regions], axis=0)].astype(np.uint8)
    boxes, box_labels = [], []
    for i in range(NUM_BOXES):
        if i % 2 and i > 10:  # a false one: an object found again, somewhat off
            boxes.append(boxes[i // 2] + rng.normal(0, 30, 4))
            box_labels.append(box_labels[i // 2])
            continue
        centre, half = rng.uniform((0, 0), (WIDTH, HEIGHT)), rng.uniform(15, 160, 2)
        boxes.append(np.concatenate([centre - half, centre + half]))
        box_labels.append(rng.integers(0, 12))  # a few classes make up most of an image
        labels[((x - centre[0]) / half[0]) ** 2 + ((y - centre[1]) / half[1]) ** 2 < 1] = box_labels[-1]
    return labels, np.array(boxes, np.float32), np.array(box_labels, np.int32)


def crowd() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    corner = rng.uniform((0, 0), (WIDTH / 2, HEIGHT / 2), (NUM_BOXES, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(200, 700, (NUM_BOXES, 2))], 1)
    return np.zeros((HEIGHT, WIDTH), np.uint8), boxes.astype(np.float32), np.zeros(NUM_BOXES, np.int32)


def cases(name: str, labels: np.ndarray, boxes: np.ndarray, box_labels: np.ndarray) -> list[Row]:
    rng = np.random.default_rng(1)
    scores = np.linspace(1, 0.3, NUM_BOXES, dtype=np.float32)
    borderness = [rng.random((-(-HEIGHT // s), -(-WIDTH // s))).astype(np.float32) for s in STRIDES]
    levels = rng.integers(0, len(STRIDES), NUM_BOXES).astype(np.int32)

    def ours(assignment: Any) -> np.ndarray:
        return native.paste_boxes(
            labels,
            IS_THING,
            boxes,
            scores,
            box_labels,
            levels,
            borderness,
            STRIDES,
            scale=(1.0, 1.0),
            paste_score=0.2,
            overlap_threshold=OVERLAP_THRESHOLD,
            assignment=assignment,
            stuff_area_limit=STUFF_AREA_LIMIT,
        )[0]

    def theirs() -> np.ndarray:
        return merge_loop(labels, boxes, box_labels)

    if not np.array_equal(ours("highest_confidence"), theirs()):
        sys.exit(f"{name}: the two give different ids")
    return [
        at_least(f"{name}, {ours(assignment).max()} segments, {assignment}", 20, lambda a=assignment: ours(a), theirs)
        for assignment in ("highest_confidence", "closest_borderness")
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    arguments = parser.parse_args()
    return report(cases("scene", *scene()) + cases("crowd", *crowd()), arguments.json)


if __name__ == "__main__":
    sys.exit(main())
