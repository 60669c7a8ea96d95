"""Non-maximum suppression as a torch operator of fixed output size."""

import torch
from torch import Tensor

from lpsnet.native.nms import NmsParams
from lpsnet.ops.device import call


@torch.library.custom_op("lpsnet::nms", mutates_args=())
def nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, num_valid: Tensor | None, iou_threshold: float, max_kept: int
) -> tuple[Tensor, Tensor]:
    """Greedy non-maximum suppression within each class, without a data-dependent shape.

    Args:
        boxes: float32[N, 4], xyxy in pixels.
        scores: float32[N]; NaN is never kept.
        labels: int32[N].
        num_valid: int32[1] or None: only so many of the boxes are read.
        iou_threshold: a box goes when its IoU with a better one of its class is above this.
        max_kept: size of the result.

    Returns:
        ``kept``, int32[max_kept], indices by descending score, then -1; ``num_kept``, int32[1].

    Raises:
        ValueError: a threshold outside [0, 1].
    """
    kept, num_kept = _outputs(boxes, max_kept)
    call("nms", NmsParams(len(boxes), max_kept, iou_threshold), boxes, scores, labels, num_valid, kept, num_kept)
    return kept, num_kept


@nms.register_fake
def _(
    boxes: Tensor, scores: Tensor, labels: Tensor, num_valid: Tensor | None, iou_threshold: float, max_kept: int
) -> tuple[Tensor, Tensor]:
    torch._check(boxes.ndim == 2 and boxes.shape[1] == 4, lambda: f"boxes: expected [N, 4], got {list(boxes.shape)}")
    return _outputs(boxes, max_kept)


def _outputs(like: Tensor, max_kept: int) -> tuple[Tensor, Tensor]:
    return like.new_empty(max_kept, dtype=torch.int32), like.new_empty(1, dtype=torch.int32)
