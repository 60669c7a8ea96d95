"""nms against `cv2.dnn.NMSBoxesBatched`, which keeps the same boxes. On a GPU against torchvision's `batched_nms`."""

import argparse
import sys

import cv2
import numpy as np
import torch
from gpu_timing import GpuReport, add_arguments, on_gpu
from timing import Row, at_least, report

from lpsnet import native, ops

NUM_BOXES = 5000
IOU_THRESHOLD = 0.6


CASES = [
    ("5000 boxes, 80 classes", 80, 1200),
    ("5000 boxes, 1 class", 1, 1200),
    ("5000 boxes, 1 class, far apart", 1, 12000),
]
GOALS_US = (50, 150, 150)


def made(num_classes: int, extent: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """xywh of whole numbers, which mean the same boxes to OpenCV, that takes double; scores; labels."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, extent, (NUM_BOXES, 2))
    size = rng.uniform(8, 200, (NUM_BOXES, 2))
    scores = rng.permutation(NUM_BOXES).astype(np.float32) / NUM_BOXES
    labels = rng.integers(0, num_classes, NUM_BOXES, dtype=np.int32)
    return np.concatenate([corner, size], axis=1).round(), scores, labels


def corners(xywh: np.ndarray) -> np.ndarray:
    """float32 xyxy."""
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1).astype(np.float32)


def case(name: str, num_classes: int, extent: float) -> Row:
    xywh, scores, labels = made(num_classes, extent)
    xyxy = corners(xywh)

    def ours() -> np.ndarray:
        return native.nms(xyxy, scores, labels, IOU_THRESHOLD, NUM_BOXES)

    def theirs() -> np.ndarray:
        return np.asarray(cv2.dnn.NMSBoxesBatched(xywh, scores, labels, -1.0, IOU_THRESHOLD))

    kept = ours()
    if not np.array_equal(np.sort(kept), np.sort(theirs())):
        sys.exit(f"{name}: the two keep different boxes")
    return at_least(f"{name}, {len(kept)} kept", 20, ours, theirs)


def measure(report: GpuReport, repeats: int) -> None:
    """On a GPU. Ours is a graph; torchvision's goes to the host and cannot be one."""
    try:
        from torchvision.ops import batched_nms
    except (ImportError, RuntimeError, OSError) as error:
        batched_nms = None
        print(f"torchvision: absent ({error})")
    for (name, num_classes, extent), goal in zip(CASES, GOALS_US, strict=True):
        xywh, *rest = made(num_classes, extent)
        boxes, scores, labels = (torch.from_numpy(a).to(report.device) for a in (corners(xywh), *rest))
        indices = labels.long()
        ways = {"ours": lambda b=boxes, s=scores, n=labels: ops.nms(b, s, n, None, IOU_THRESHOLD, NUM_BOXES)}
        if batched_nms is not None:
            ways["torchvision"] = lambda b=boxes, s=scores, n=indices: batched_nms(b, s, n, IOU_THRESHOLD)
            kept, count = ways["ours"]()
            if not torch.equal(kept[: int(count)].long(), ways["torchvision"]()):
                print(f"{name}: torchvision keeps other boxes")
        rows = report.time(name, ways, repeats, with_host=["torchvision"])
        report.at_most(name, rows["ours"].median_us, goal)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        return on_gpu(measure, arguments.json)
    cv2.setNumThreads(native.library.num_threads())
    return report([case(*arguments_of_case) for arguments_of_case in CASES], arguments.json)


if __name__ == "__main__":
    sys.exit(main())
