"""The panoptic head as a torch operator of fixed output size."""

import torch
from torch import Tensor

from lpsnet.native.paste_boxes import PasteBoxesParams
from lpsnet.ops.device import call, expect

Pasted = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@torch.library.custom_op("lpsnet::paste_boxes", mutates_args=())
def paste_boxes(
    labels: Tensor,
    is_thing: Tensor,
    boxes: Tensor,
    scores: Tensor,
    box_labels: Tensor,
    box_levels: Tensor | None,
    num_valid: Tensor | None,
    borderness: list[Tensor],
    strides: list[int],
    scale: list[float],
    paste_score: float,
    overlap_threshold: float,
    assignment: str,
    stuff_area_limit: int,
    stuff_labels: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Boxes pasted onto the label map, without a data-dependent shape. `lpsnet.native.paste_boxes` says how.

    Args:
        labels: uint8[H, W], class of each pixel.
        is_thing: uint8 or bool [C], up to 255 classes.
        boxes: float32[N, 4], xyxy in pixels of the network's input, best first.
        scores: float32[N], descending.
        box_labels: int32[N].
        box_levels: int32[N], indices into `borderness`; only closest_borderness needs them.
        num_valid: int32[1] or None: only so many of the boxes are read.
        borderness: per level float32[h, w], probabilities; only closest_borderness needs them.
        strides: of each level, in input pixels.
        scale: (y, x), input pixels per output pixel.
        paste_score: boxes below it are not pasted.
        overlap_threshold: in [0, 1]; a box whose mask is occupied by more than this share is discarded.
        assignment: "closest_borderness", "highest_confidence" or "smallest_area".
        stuff_area_limit: in output pixels; a stuff segment below it becomes void.
        stuff_labels: uint8[H, W] or None: taken by thing pixels that no box claims, before areas are counted.

    Returns:
        ``ids``, int32[H, W], 0 for void. Then, row i describing id i + 1 and padded to N + C rows:
        ``segment_labels``, int32, then -1; ``segment_scores``, float32, then 0; ``segment_areas``, int32, then 0;
        ``segment_boxes``, int32[N + C, 4], then 0. Last ``num_segments``, int32[1].

    Raises:
        ValueError: a bad argument, named in the message.
    """
    _check(labels, is_thing, boxes, scores, box_labels, box_levels, num_valid, borderness, stuff_labels)
    params = PasteBoxesParams.of(
        len(boxes),
        len(is_thing),
        labels.shape,
        scale,
        [(b.shape[0], b.shape[1]) for b in borderness],
        strides,
        paste_score,
        overlap_threshold,
        assignment,
        stuff_area_limit,
    )
    outputs = _outputs(labels, is_thing, boxes)
    things = is_thing.view(torch.uint8)
    inputs = (labels, things, boxes, scores, box_labels, box_levels, num_valid, borderness, stuff_labels)
    call("paste_boxes", params, *inputs, *outputs)
    return outputs


@paste_boxes.register_fake
def _(
    labels: Tensor,
    is_thing: Tensor,
    boxes: Tensor,
    scores: Tensor,
    box_labels: Tensor,
    box_levels: Tensor | None,
    num_valid: Tensor | None,
    borderness: list[Tensor],
    strides: list[int],
    scale: list[float],
    paste_score: float,
    overlap_threshold: float,
    assignment: str,
    stuff_area_limit: int,
    stuff_labels: Tensor | None,
) -> Pasted:
    _check(labels, is_thing, boxes, scores, box_labels, box_levels, num_valid, borderness, stuff_labels)
    return _outputs(labels, is_thing, boxes)


def _check(
    labels: Tensor,
    is_thing: Tensor,
    boxes: Tensor,
    scores: Tensor,
    box_labels: Tensor,
    box_levels: Tensor | None,
    num_valid: Tensor | None,
    borderness: list[Tensor],
    stuff_labels: Tensor | None,
) -> None:
    expect("labels", labels, torch.uint8, ["H", "W"])
    expect("is_thing", is_thing, torch.bool if is_thing.dtype == torch.bool else torch.uint8, ["C"])
    expect("boxes", boxes, torch.float32, ["N", 4])
    expect("scores", scores, torch.float32, [len(boxes)])
    expect("box_labels", box_labels, torch.int32, [len(boxes)])
    if box_levels is not None:
        expect("box_levels", box_levels, torch.int32, [len(boxes)])
    if num_valid is not None:
        expect("num_valid", num_valid, torch.int32, [1])
    for i, level in enumerate(borderness):
        expect(f"borderness[{i}]", level, torch.float32, ["h", "w"])
    if stuff_labels is not None:
        expect("stuff_labels", stuff_labels, torch.uint8, labels.shape)


def _outputs(labels: Tensor, is_thing: Tensor, boxes: Tensor) -> Pasted:
    def new(*shape: int) -> Tensor:
        return labels.new_empty(shape, dtype=torch.int32)

    rows = len(boxes) + len(is_thing)
    scores = labels.new_empty(rows, dtype=torch.float32)
    return new(*labels.shape), new(rows), scores, new(rows), new(rows, 4), new(1)
