"""Non-maximum suppression as a torch operator of fixed output size."""

import torch
from torch import Tensor

from lpsnet.native.nms import NmsParams
from lpsnet.ops.device import call, expect


@torch.library.custom_op("lpsnet::nms", mutates_args=())
def nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, num_valid: Tensor | None, iou_threshold: float, max_kept: int
) -> tuple[Tensor, Tensor]:
    """Greedy non-maximum suppression within each class, without a data-dependent shape.

    Args:
        boxes: float32[N, 4], xyxy in pixels; one with a NaN or an infinite coordinate is never kept.
        scores: float32[N]; NaN is never kept.
        labels: int32[N].
        num_valid: int32[1] or None: only so many of the boxes are read.
        iou_threshold: a box goes when its IoU with a better one of its class is above this.
        max_kept: size of the result.

    Returns:
        ``kept``, int32[max_kept], indices by descending score, equal scores in their order, then -1;
        ``num_kept``, int32[1].

    Raises:
        ValueError: a threshold outside [0, 1], a negative max_kept, or a tensor of another dtype or shape.
    """
    _check(boxes, scores, labels, num_valid)
    kept, num_kept = _outputs(boxes, max_kept)
    call("nms", NmsParams(len(boxes), max_kept, iou_threshold), boxes, scores, labels, num_valid, kept, num_kept)
    return kept, num_kept


@nms.register_fake
def _(
    boxes: Tensor, scores: Tensor, labels: Tensor, num_valid: Tensor | None, iou_threshold: float, max_kept: int
) -> tuple[Tensor, Tensor]:
    _check(boxes, scores, labels, num_valid)
    return _outputs(boxes, max_kept)


def _check(boxes: Tensor, scores: Tensor, labels: Tensor, num_valid: Tensor | None) -> None:
    expect("boxes", boxes, torch.float32, ["N", 4])
    expect("scores", scores, torch.float32, [len(boxes)])
    expect("labels", labels, torch.int32, [len(boxes)])
    if num_valid is not None:
        expect("num_valid", num_valid, torch.int32, [1])


def _outputs(like: Tensor, max_kept: int) -> tuple[Tensor, Tensor]:
    return like.new_empty(max(max_kept, 0), dtype=torch.int32), like.new_empty(1, dtype=torch.int32)
