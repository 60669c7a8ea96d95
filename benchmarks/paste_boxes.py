"""paste_boxes against a merge loop in numpy: 100 boxes on an 800x1344 label map.

The loop is the usual one: for each box by descending score, its mask as a boolean image, the share of it that is
already taken, and the assignment of what is left; then the stuff classes. With the assignment "highest_confidence" both
give the same ids. What "closest_borderness" costs is printed against the same loop, which has no such step.

"scene": a map of 53 stuff and 80 thing classes, 100 boxes around its objects and false ones. "crowd": one class
everywhere and 100 large boxes of it, all over each other; on a GPU 1000 of them too.
"""

import argparse
import sys
from typing import Any

import numpy as np
import torch
from gpu_timing import GpuReport, add_arguments, copied_bytes_per_us, on_gpu
from timing import Row, at_least, report

from lpsnet import native, ops

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


def crowd(num_boxes: int = NUM_BOXES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    corner = rng.uniform((0, 0), (WIDTH / 2, HEIGHT / 2), (num_boxes, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(200, 700, (num_boxes, 2))], 1)
    return np.zeros((HEIGHT, WIDTH), np.uint8), boxes.astype(np.float32), np.zeros(num_boxes, np.int32)


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


def merge_on_device(labels: torch.Tensor, boxes: torch.Tensor, box_labels: torch.Tensor) -> torch.Tensor:
    """The merge loop as it is usually written in torch: the host asks for the areas of each box."""
    ids = torch.zeros(labels.shape, dtype=torch.int32, device=labels.device)
    x = torch.arange(labels.shape[1], device=labels.device) + 0.5
    y = torch.arange(labels.shape[0], device=labels.device)[:, None] + 0.5
    number = 0
    for (x1, y1, x2, y2), label in zip(boxes, box_labels, strict=True):
        mask = (labels == label) & ((y >= y1) & (y < y2)) & ((x >= x1) & (x < x2))
        free = mask & (ids == 0)
        area, left = int(mask.sum()), int(free.sum())
        if area == 0 or area - left > OVERLAP_THRESHOLD * area:
            continue
        number += 1
        ids[free] = number
    for label in range(NUM_THINGS, NUM_CLASSES):
        mask = labels == label
        if int(mask.sum()) >= max(1, STUFF_AREA_LIMIT):
            number += 1
            ids[mask] = number
    return ids


def measure(report: GpuReport, repeats: int) -> None:
    """On a GPU."""
    g = torch.Generator().manual_seed(1)
    limit = HEIGHT * WIDTH * (1 + 4) / copied_bytes_per_us(report.device)
    sizes = [(-(-HEIGHT // s), -(-WIDTH // s)) for s in STRIDES]
    borderness = [torch.rand(*size, generator=g).to(report.device) for size in sizes]
    is_thing = torch.from_numpy(IS_THING).to(report.device)
    scenes = [
        ("scene, 100 boxes", scene(), 80),
        ("crowd, 100 boxes", crowd(), 80),
        ("crowd, 1000 boxes of one class", crowd(1000), 1000),
    ]
    for name, arrays, goal in scenes:
        labels, boxes, box_labels = (torch.from_numpy(a).to(report.device) for a in arrays)
        n = len(boxes)
        scores = torch.linspace(1, 0.3, n).to(report.device)
        levels = torch.randint(0, len(STRIDES), (n,), generator=g, dtype=torch.int32).to(report.device)
        objects = (labels, is_thing, boxes, scores, box_labels, levels, None, borderness)

        def ours(assignment: str, objects: tuple[Any, ...] = objects) -> torch.Tensor:
            options = ([1.0, 1.0], 0.2, OVERLAP_THRESHOLD, assignment, STUFF_AREA_LIMIT, None)
            return ops.paste_boxes(*objects, list(STRIDES), *options)[0]

        def loop(merged: tuple[Any, ...] = (labels, boxes, box_labels)) -> torch.Tensor:
            return merge_on_device(*merged)

        agree = (ours("highest_confidence") == loop()).float().mean().item()
        print(f"{name}: {agree:.4%} of the pixels agree")
        ways = {
            "closest_borderness": lambda f=ours: f("closest_borderness"),
            "highest_confidence": lambda f=ours: f("highest_confidence"),
        }
        limits = dict.fromkeys(ways, limit)
        rows = report.time(name, {**ways, "merge loop": loop}, max(1, repeats // 10), limits, with_host=["merge loop"])
        report.at_most(name, rows["closest_borderness"].median_us, goal)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        return on_gpu(measure, arguments.json)
    return report(cases("scene", *scene()) + cases("crowd", *crowd()), arguments.json)


if __name__ == "__main__":
    sys.exit(main())
