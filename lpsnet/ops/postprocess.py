"""From the dense outputs of the network to the panoptic map as one torch operator of fixed output size."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lpsnet.config import SEMANTIC_STRIDE, PostprocessConfig
from lpsnet.native.postprocess import PostprocessParams
from lpsnet.ops.device import call, expect


class PanopticTensors(NamedTuple):
    """One image's panoptic map and what it was made of; K = max_detections, C classes.

    Attributes:
        boxes: float32[K, 4], the detections, xyxy in pixels of the network's input, by descending score; then 0.
        scores: float32[K], then 0.
        labels: int32[K], then -1.
        num_detections: int32[1].
        ids: int32[H, W], 0 for void.
        segment_labels: int32[K + C], row i describing id i + 1: things by score, then stuff by class; then -1.
        segment_scores: float32[K + C], 1 for stuff; then 0.
        segment_areas: int32[K + C], output pixels; then 0.
        segment_boxes: int32[K + C, 4], tight xyxy in output pixels, x2 and y2 exclusive; then 0.
        num_segments: int32[1].
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    num_detections: Tensor
    ids: Tensor
    segment_labels: Tensor
    segment_scores: Tensor
    segment_areas: Tensor
    segment_boxes: Tensor
    num_segments: Tensor


def postprocess(
    logits: Tensor,
    is_thing: Tensor,
    ltrb: Sequence[Tensor],
    borderness: Sequence[Tensor],
    strides: Sequence[int],
    image_size: Sequence[int],
    out_size: Sequence[int],
    config: PostprocessConfig,
    logits_stride: int = SEMANTIC_STRIDE,
) -> PanopticTensors:
    """The whole post-processing of one image, without a data-dependent shape: `decode`, `nms`, `upsample_argmax` and
    `paste_boxes` in one call, ``torch.ops.lpsnet.postprocess``.

    Args:
        logits: float32[C, h, w], of the semantic head; up to 255 classes.
        is_thing: uint8 or bool [C].
        ltrb: per level float32[4, height, width], distances to the sides of the box in input pixels.
        borderness: per level float32[height, width], probabilities.
        strides: of each level, in input pixels.
        image_size: (height, width) of the part of the network's input that is image; the rest is padding.
        out_size: (height, width) of the panoptic map; the image is stretched to it.
        config: thresholds and choices. `stuff_area_limit` is scaled by `lpsnet.native.postprocess.output_area`.
        logits_stride: input pixels per pixel of the logits.

    Raises:
        ValueError: a bad argument, named in the message.
    """
    return PanopticTensors(
        *_postprocess(
            logits,
            is_thing,
            list(ltrb),
            list(borderness),
            list(strides),
            list(image_size),
            list(out_size),
            logits_stride,
            config.score_threshold,
            config.topk,
            config.score_fusion,
            config.iou_threshold,
            config.max_detections,
            config.paste_score,
            config.overlap_threshold,
            config.assignment,
            config.stuff_area_limit,
            config.fill_stuff,
        )
    )


Outputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


# The schema has no place for a dataclass: its fields come one by one, in its order.
@torch.library.custom_op("lpsnet::postprocess", mutates_args=())
def _postprocess(
    logits: Tensor,
    is_thing: Tensor,
    ltrb: list[Tensor],
    borderness: list[Tensor],
    strides: list[int],
    image_size: list[int],
    out_size: list[int],
    logits_stride: int,
    score_threshold: float,
    topk: int,
    score_fusion: str,
    iou_threshold: float,
    max_detections: int,
    paste_score: float,
    overlap_threshold: float,
    assignment: str,
    stuff_area_limit: int,
    fill_stuff: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    _check(logits, is_thing, ltrb, borderness)
    config = PostprocessConfig(
        score_threshold,
        topk,
        score_fusion,  # type: ignore[arg-type]
        iou_threshold,
        max_detections,
        paste_score,
        overlap_threshold,
        assignment,  # type: ignore[arg-type]
        stuff_area_limit,
        fill_stuff,
    )
    sizes = [(b.shape[0], b.shape[1]) for b in borderness]
    params = PostprocessParams.of(logits.shape, logits_stride, sizes, strides, image_size, out_size, config)
    outputs = _outputs(logits, out_size, max_detections)
    call("postprocess", params, logits, is_thing.view(torch.uint8), ltrb, borderness, *outputs)
    return outputs


@_postprocess.register_fake
def _(
    logits: Tensor,
    is_thing: Tensor,
    ltrb: list[Tensor],
    borderness: list[Tensor],
    strides: list[int],
    image_size: list[int],
    out_size: list[int],
    logits_stride: int,
    score_threshold: float,
    topk: int,
    score_fusion: str,
    iou_threshold: float,
    max_detections: int,
    paste_score: float,
    overlap_threshold: float,
    assignment: str,
    stuff_area_limit: int,
    fill_stuff: bool,
) -> Outputs:
    _check(logits, is_thing, ltrb, borderness)
    return _outputs(logits, out_size, max_detections)


def _check(logits: Tensor, is_thing: Tensor, ltrb: list[Tensor], borderness: list[Tensor]) -> None:
    expect("logits", logits, torch.float32, ["C", "h", "w"])
    expect("is_thing", is_thing, torch.bool if is_thing.dtype == torch.bool else torch.uint8, [len(logits)])
    if len(ltrb) != len(borderness):
        raise ValueError(f"ltrb, borderness: expected as many levels, got {len(ltrb)} and {len(borderness)}")
    for i, (sides, border) in enumerate(zip(ltrb, borderness, strict=True)):
        expect(f"borderness[{i}]", border, torch.float32, ["height", "width"])
        expect(f"ltrb[{i}]", sides, torch.float32, [4, *border.shape])


def _outputs(logits: Tensor, out_size: Sequence[int], max_detections: int) -> Outputs:
    def ints(*shape: int) -> Tensor:
        return logits.new_empty(shape, dtype=torch.int32)

    kept = max(max_detections, 0)
    rows = kept + len(logits)
    detections = logits.new_empty(kept, 4), logits.new_empty(kept), ints(kept), ints(1)
    table = ints(rows), logits.new_empty(rows), ints(rows), ints(rows, 4), ints(1)
    return *detections, ints(*out_size), *table
