"""The whole post-processing as one torch operator of fixed output size."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lpsnet.config import PostprocessConfig
from lpsnet.native.postprocess import PostprocessParams
from lpsnet.ops.device import call, expect, expect_logits, logits_memory


def postprocess(
    logits: Tensor,
    is_thing: Tensor,
    ltrb: list[Tensor],
    borderness: list[Tensor],
    strides: list[int],
    image_size: list[int],
    output_size: list[int],
    config: PostprocessConfig,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`decode`, `nms`, `upsample_argmax` and `paste_boxes` in one call, without a data-dependent shape.

    Args:
        logits: float32, float16 or bfloat16 [C, h, w], of the semantic head, at 1/4 of the network's
            input; channels_last is read without a copy.
        is_thing: uint8 or bool [C].
        ltrb: per level float32[4, h, w], distances to the sides of the box in input pixels.
        borderness: per level float32[h, w], probabilities.
        strides: of each level, in input pixels.
        image_size: (height, width) of the part of the network's input that is image.
        output_size: (height, width) of the panoptic map, to which that part is stretched.
        config: thresholds and choices.

    Returns:
        ``boxes``, float32[M, 4], xyxy in input pixels with M = `config.max_detections`, by descending score, then 0;
        ``scores``, float32[M]; ``labels``, int32[M], then -1; ``num_detections``, int32[1]; ``ids``, int32[H, W]. Then
        ``segment_labels``, ``segment_scores``, ``segment_areas``, ``segment_boxes`` and ``num_segments`` of M + C rows
        as `paste_boxes` gives them.

    Raises:
        ValueError: a bad argument, named in the message.
    """
    return _postprocess(
        logits,
        is_thing,
        ltrb,
        borderness,
        strides,
        image_size,
        output_size,
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


def postprocess_into(
    outputs: Sequence[Tensor],
    logits: Tensor,
    is_thing: Tensor,
    ltrb: list[Tensor],
    borderness: list[Tensor],
    strides: list[int],
    image_size: list[int],
    output_size: list[int],
    config: PostprocessConfig,
) -> None:
    """`postprocess` into tensors that the caller has: no operator of torch, so torch.compile does not see it.

    Args:
        outputs: contiguous, of the dtypes and shapes that `postprocess` returns.

    Raises:
        ValueError: a bad argument, named in the message.
    """
    _check(logits, is_thing, ltrb, borderness)
    expected = _outputs(torch.empty_like(logits, device="meta"), output_size, config.max_detections)
    if len(outputs) != len(expected):
        raise ValueError(f"outputs: expected {len(expected)} tensors, got {len(outputs)}")
    for i, (output, like) in enumerate(zip(outputs, expected, strict=True)):
        expect(f"outputs[{i}]", output, like.dtype, like.shape)
        if not output.is_contiguous():
            raise ValueError(f"outputs[{i}]: expected a contiguous tensor, got strides {output.stride()}")
    _call(outputs, logits, is_thing, ltrb, borderness, strides, image_size, output_size, config)


def _call(
    outputs: Sequence[Tensor],
    logits: Tensor,
    is_thing: Tensor,
    ltrb: list[Tensor],
    borderness: list[Tensor],
    strides: list[int],
    image_size: list[int],
    output_size: list[int],
    config: PostprocessConfig,
) -> None:
    sizes = [(b.shape[0], b.shape[1]) for b in borderness]
    memory, dtype, channels_last = logits_memory(logits)
    params = PostprocessParams.of(logits.shape, sizes, image_size, output_size, config, strides, dtype, channels_last)
    call("postprocess", params, memory, is_thing.view(torch.uint8), ltrb, borderness, *outputs)


@torch.library.custom_op("lpsnet::postprocess", mutates_args=())
def _postprocess(
    logits: Tensor,
    is_thing: Tensor,
    ltrb: list[Tensor],
    borderness: list[Tensor],
    strides: list[int],
    image_size: list[int],
    output_size: list[int],
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
    _check(logits, is_thing, ltrb, borderness)
    outputs = _outputs(logits, output_size, max_detections)
    _call(outputs, logits, is_thing, ltrb, borderness, strides, image_size, output_size, config)
    return outputs


@_postprocess.register_fake
def _(
    logits: Tensor,
    is_thing: Tensor,
    ltrb: list[Tensor],
    borderness: list[Tensor],
    strides: list[int],
    image_size: list[int],
    output_size: list[int],
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
    return _outputs(logits, output_size, max_detections)


def _check(logits: Tensor, is_thing: Tensor, ltrb: list[Tensor], borderness: list[Tensor]) -> None:
    expect_logits(logits)
    expect("is_thing", is_thing, torch.bool if is_thing.dtype == torch.bool else torch.uint8, [logits.shape[0]])
    if len(ltrb) != len(borderness):
        raise ValueError(f"ltrb: expected {len(borderness)} levels like borderness, got {len(ltrb)}")
    for i, (distances, b) in enumerate(zip(ltrb, borderness, strict=True)):
        expect(f"borderness[{i}]", b, torch.float32, ["h", "w"])
        expect(f"ltrb[{i}]", distances, torch.float32, [4, *b.shape])


def _outputs(
    logits: Tensor, output_size: list[int], most: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    def integers(*shape: int) -> Tensor:
        return logits.new_empty(shape, dtype=torch.int32)

    def floats(*shape: int) -> Tensor:
        return logits.new_empty(shape, dtype=torch.float32)

    rows = most + logits.shape[0]
    detections = floats(most, 4), floats(most), integers(most), integers(1)
    segments = integers(rows), floats(rows), integers(rows), integers(rows, 4), integers(1)
    return (*detections, integers(*output_size), *segments)
