"""Boxes from the dense outputs as a torch operator of fixed output size."""

import torch
from torch import Tensor

from lpsnet.config import SEMANTIC_STRIDE
from lpsnet.native.decode import DecodeParams
from lpsnet.ops.device import call, expect, expect_logits, logits_memory

Decoded = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@torch.library.custom_op("lpsnet::decode", mutates_args=())
def decode(
    logits: Tensor,
    is_thing: Tensor,
    ltrb: list[Tensor],
    borderness: list[Tensor],
    strides: list[int],
    image_size: list[int],
    score_threshold: float,
    topk: int,
    score_fusion: str,
    logits_stride: int = SEMANTIC_STRIDE,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Boxes of the thing classes that the semantic head sees at the locations of the box head, without a
    data-dependent shape. `lpsnet.native.decode` says what is computed.

    Args:
        logits: float32, float16 or bfloat16 [C, h, w], of the semantic head; channels_last is read without a copy.
        is_thing: uint8 or bool [C].
        ltrb: per level float32[4, height, width], distances to the sides of the box in input pixels.
        borderness: per level float32[height, width], probabilities.
        strides: of each level, in input pixels.
        image_size: (height, width) of the part of the network's input that is image.
        score_threshold: in [0, 1], of the class probability before the fusion.
        topk: at most so many boxes come from each level.
        score_fusion: "product" (p * b) or "sqrt" (its square root).
        logits_stride: input pixels per pixel of the logits.

    Returns:
        With N = levels * topk: ``boxes``, float32[N, 4], then 0; ``scores``, float32[N], then 0; ``labels``,
        int32[N], then -1; ``box_levels``, int32[N], then -1; ``num_boxes``, int32[1].

    Raises:
        ValueError: a tensor of another dtype or shape, a threshold outside [0, 1], an unknown fusion.
    """
    _check(logits, is_thing, ltrb, borderness, strides)
    sizes = [(b.shape[0], b.shape[1]) for b in borderness]
    memory, dtype, channels_last = logits_memory(logits)
    options = (score_threshold, topk, score_fusion, dtype, channels_last)
    params = DecodeParams.of(logits.shape, logits_stride, sizes, strides, image_size, *options)
    outputs = _outputs(logits, strides, topk)
    call("decode", params, memory, is_thing.view(torch.uint8), ltrb, borderness, *outputs)
    return outputs


@decode.register_fake
def _(
    logits: Tensor,
    is_thing: Tensor,
    ltrb: list[Tensor],
    borderness: list[Tensor],
    strides: list[int],
    image_size: list[int],
    score_threshold: float,
    topk: int,
    score_fusion: str,
    logits_stride: int = SEMANTIC_STRIDE,
) -> Decoded:
    _check(logits, is_thing, ltrb, borderness, strides)
    return _outputs(logits, strides, topk)


def _check(logits: Tensor, is_thing: Tensor, ltrb: list[Tensor], borderness: list[Tensor], strides: list[int]) -> None:
    expect_logits(logits)
    expect("is_thing", is_thing, torch.bool if is_thing.dtype == torch.bool else torch.uint8, [len(logits)])
    if not len(ltrb) == len(borderness) == len(strides):
        lengths = f"{len(ltrb)}, {len(borderness)}, {len(strides)}"
        raise ValueError(f"ltrb, borderness, strides: expected one of each per level, got {lengths}")
    for i, (sides, border) in enumerate(zip(ltrb, borderness, strict=True)):
        expect(f"borderness[{i}]", border, torch.float32, ["height", "width"])
        expect(f"ltrb[{i}]", sides, torch.float32, [4, *border.shape])


def _outputs(logits: Tensor, strides: list[int], topk: int) -> Decoded:
    size = len(strides) * max(topk, 0)
    boxes, scores = (logits.new_empty(shape, dtype=torch.float32) for shape in ((size, 4), (size,)))
    labels, levels = (logits.new_empty(size, dtype=torch.int32) for _ in range(2))
    return boxes, scores, labels, levels, logits.new_empty(1, dtype=torch.int32)
