"""Anchors, the coding of boxes as deltas, and a suppression that keeps an exact number of boxes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lpsnet.ops.nms import nms

_LARGEST_LOG = math.log(1000 / 16)
"""Sides grow by at most this logarithm, as in Fast R-CNN's released models: exp of any output stays finite."""


def anchors_at(indices: Tensor, width: int, stride: int, scale: float, roots: Tensor) -> Tensor:
    """float32[K, 4], xyxy in input pixels: the anchors of one level at these indices.

    Args:
        indices: int64[K], (row * width + column) * R + ratio.
        width: of the level, in feature pixels.
        stride: of the level.
        scale: side of a square anchor, in strides; every anchor has its area.
        roots: float32[R], square roots of height / width.
    """
    cell = indices.div(len(roots), rounding_mode="floor")
    root = roots[indices % len(roots)]
    x, y = (cell % width + 0.5) * stride, (cell.div(width, rounding_mode="floor") + 0.5) * stride
    half_width, half_height = 0.5 * scale * stride / root, 0.5 * scale * stride * root
    return torch.stack([x - half_width, y - half_height, x + half_width, y + half_height], 1)


def decode(boxes: Tensor, deltas: Tensor, weights: tuple[float, float], image_size: Sequence[int]) -> Tensor:
    """Boxes moved by deltas (R-CNN, appendix C), clipped to the image.

    Args:
        boxes: float32[K, 4], xyxy.
        deltas: float32[K, 4]: shift of the centre in sides of the box, logarithm of the growth of the sides.
        weights: what shifts and logarithms are multiplied with in the deltas.
        image_size: (height, width).

    Returns:
        float32[K, 4].
    """
    height, width = image_size
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + (0.5 + deltas[:, :2] / weights[0]) * sides
    half = 0.5 * sides * (deltas[:, 2:] / weights[1]).clamp(max=_LARGEST_LOG).exp()
    (x1, y1), (x2, y2) = (centres - half).unbind(1), (centres + half).unbind(1)
    return torch.stack([x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)], 1)


def suppress_to(number: int, boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression within each label that always returns the same number.

    Args:
        number: wanted; all boxes where there are fewer.
        boxes: float32[N, 4]. scores: float32[N]. labels: int32[N].
        iou_threshold: as in `lpsnet.ops.nms`.

    Returns:
        int64[min(number, N)]: the boxes that are kept, best first, then the best of those that are not.
    """
    number = min(number, len(boxes))
    kept, _ = nms(boxes, scores, labels, None, iou_threshold, number)
    dropped = torch.ones(len(boxes) + 1, dtype=torch.uint8, device=boxes.device)
    dropped[kept.long()] = 0  # the padding, -1, is the additional last one
    by_score = scores.argsort(descending=True, stable=True)
    return by_score[dropped[by_score].argsort(stable=True)[:number]]
