"""nms against `cv2.dnn.NMSBoxesBatched`, which keeps the same boxes."""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from timing import Row, at_least, report

from lpsnet import native

NUM_BOXES = 5000
IOU_THRESHOLD = 0.6


def case(name: str, num_classes: int, extent: float) -> Row:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, extent, (NUM_BOXES, 2))
    size = rng.uniform(8, 200, (NUM_BOXES, 2))
    # OpenCV takes x, y, width, height in double: whole numbers mean the same boxes to both.
    xywh = np.concatenate([corner, size], axis=1).round()
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1).astype(np.float32)
    scores = rng.permutation(NUM_BOXES).astype(np.float32) / NUM_BOXES
    labels = rng.integers(0, num_classes, NUM_BOXES, dtype=np.int32)

    def ours() -> np.ndarray:
        return native.nms(xyxy, scores, labels, IOU_THRESHOLD, NUM_BOXES)

    def theirs() -> np.ndarray:
        return np.asarray(cv2.dnn.NMSBoxesBatched(xywh, scores, labels, -1.0, IOU_THRESHOLD))

    kept = ours()
    if not np.array_equal(np.sort(kept), np.sort(theirs())):
        sys.exit(f"{name}: the two keep different boxes")
    return at_least(f"{name}, {len(kept)} kept", 20, ours, theirs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    arguments = parser.parse_args()
    cv2.setNumThreads(native.library.num_threads())
    rows = [
        case("5000 boxes, 80 classes", 80, 1200),
        case("5000 boxes, 1 class", 1, 1200),
        case("5000 boxes, 1 class, far apart", 1, 12000),
    ]
    return report(rows, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
