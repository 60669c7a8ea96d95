"""RoIAlign over the levels of a feature pyramid as a torch operator, for inference."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lpsnet.native.roi_align import RoiAlignParams
from lpsnet.ops.device import call, expect


@torch.library.custom_op("lpsnet::roi_align", mutates_args=())
def roi_align(
    features: Sequence[Tensor],
    boxes: Tensor,
    strides: Sequence[int],
    output_size: Sequence[int],
    sampling_ratio: int,
    canonical_level: int,
    canonical_size: float,
    box_levels: Tensor | None = None,
    num_valid: Tensor | None = None,
) -> Tensor:
    """The features in boxes, sampled to one size: RoIAlign (He et al., ICCV 2017), all levels in one call.

    A box is cut into height x width bins; each is the mean of ``sampling_ratio ** 2`` bilinear samples, in the middles
    of as many parts of it. Feature pixel (i, j) has its centre at ``((j + 0.5) * stride, (i + 0.5) * stride)``: the
    "aligned", half-pixel convention. Up to one pixel outside the outer centres the border is read; a sample further out
    counts as 0. A box with x2 < x1 counts as one with x2 = x1.

    A box reads one level: the one that `box_levels` says or, without it, level
    ``canonical_level + floor(log2(sqrt(w * h) / canonical_size))``, clamped (FPN, Lin et al., CVPR 2017, equation 1).
    The output is 0 for a box with a NaN or infinite coordinate, for one on a level that does not exist, and from
    `num_valid` on. There is no gradient.

    Args:
        features: per level float32[C, h, w] of one image; without a copy where channels are last in memory.
        boxes: float32[N, 4], xyxy in input pixels.
        strides: of each level, in input pixels.
        output_size: (height, width), bins per box.
        sampling_ratio: samples per axis of a bin; 0: ceil of its length in feature pixels, at least 1 and at most the
            length of the map.
        canonical_level: index of the level of a box whose sides are `canonical_size` pixels.
        canonical_size: in input pixels.
        box_levels: int32[N] or None: index of the level that each box reads.
        num_valid: int32[1] or None: only so many of the boxes are read.

    Returns:
        float32[N, C, height, width], channels last in memory.

    Raises:
        ValueError: a bad argument, named in the message.
    """
    _check(features, boxes, box_levels, num_valid)
    params = RoiAlignParams.of(
        len(boxes),
        [f.shape for f in features],
        strides,
        output_size,
        sampling_ratio,
        canonical_level,
        canonical_size,
    )
    out = _output(features, boxes, output_size)
    bins = out.permute(0, 2, 3, 1)
    call("roi_align", params, [f.permute(1, 2, 0) for f in features], boxes, box_levels, num_valid, bins)
    return out


@roi_align.register_fake
def _(
    features: Sequence[Tensor],
    boxes: Tensor,
    strides: Sequence[int],
    output_size: Sequence[int],
    sampling_ratio: int,
    canonical_level: int,
    canonical_size: float,
    box_levels: Tensor | None = None,
    num_valid: Tensor | None = None,
) -> Tensor:
    _check(features, boxes, box_levels, num_valid)
    return _output(features, boxes, output_size)


def _check(features: Sequence[Tensor], boxes: Tensor, box_levels: Tensor | None, num_valid: Tensor | None) -> None:
    if not features:
        raise ValueError("features: expected at least one level, got none")
    for i, level in enumerate(features):
        expect(f"features[{i}]", level, torch.float32, ["C", "h", "w"])
    expect("boxes", boxes, torch.float32, ["N", 4])
    if box_levels is not None:
        expect("box_levels", box_levels, torch.int32, [len(boxes)])
    if num_valid is not None:
        expect("num_valid", num_valid, torch.int32, [1])


def _output(features: Sequence[Tensor], boxes: Tensor, output_size: Sequence[int]) -> Tensor:
    if len(output_size) != 2 or min(output_size) < 1:
        raise ValueError(f"output_size: expected (height, width), each at least 1, got {tuple(output_size)}")
    shape = (len(boxes), features[0].shape[0], *output_size)
    return boxes.new_empty((shape[0], shape[2], shape[3], shape[1])).permute(0, 3, 1, 2)
