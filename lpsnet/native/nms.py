"""Non-maximum suppression over numpy arrays."""

import ctypes

import numpy as np

from lpsnet.native.library import call


class NmsParams(ctypes.Structure):
    _fields_ = [("num_boxes", ctypes.c_int32), ("max_kept", ctypes.c_int32), ("iou_threshold", ctypes.c_float)]


def nms(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, iou_threshold: float, max_kept: int) -> np.ndarray:
    """Greedy non-maximum suppression within each class.

    Args:
        boxes: float32[N, 4], xyxy in pixels; one with a NaN or an infinite coordinate is never kept.
        scores: float32[N]; NaN is never kept.
        labels: int32[N].
        iou_threshold: a box goes when its IoU with a better one of its class is above this.
        max_kept: at most so many are kept.

    Returns:
        int64[K], indices of the kept boxes by descending score; equal scores keep their order.

    Raises:
        ValueError: a threshold outside [0, 1], a negative max_kept, or arrays whose lengths differ.
    """
    boxes = np.ascontiguousarray(boxes, np.float32)
    scores = np.ascontiguousarray(scores, np.float32)
    labels = np.ascontiguousarray(labels, np.int32)
    if boxes.shape != (len(scores), 4) or len(labels) != len(scores):
        raise ValueError(
            f"nms: boxes, scores, labels: expected [N, 4], [N], [N], got {boxes.shape}, {scores.shape}, {labels.shape}"
        )
    kept, count = np.empty(max(max_kept, 0), np.int32), np.empty(1, np.int32)
    params = NmsParams(len(boxes), max_kept, iou_threshold)
    arrays = (boxes, scores, labels)
    call("nms", params, *(a.ctypes.data for a in arrays), None, kept.ctypes.data, count.ctypes.data)
    return kept[: count[0]].astype(np.int64)
