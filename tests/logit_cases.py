"""Cases of the operators that read class logits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from box_cases import check_pasted
from op_case import Inputs, OpCase, Outputs, in_layout
from torch import Tensor

from lpsnet import native, ops
from lpsnet.config import PostprocessConfig
from lpsnet.ops import reference

# Classes that fill warps and some that do not; odd maps; a row, a column, a pixel.
LOGIT_SIZES = [(5, 13, 18), (33, 5, 33), (161, 3, 9), (255, 2, 3), (9, 1, 17), (7, 19, 1), (1, 1, 1)]
STRIDES = [4, 8]


def random_logits(size: Sequence[int], dtype: torch.dtype, channels_last: bool, seed: int) -> Tensor:
    """A weak field for each class, a strong one for some, ties on purpose."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, size[0], 2, 3, generator=g) * 3
    field = torch.nn.functional.interpolate(coarse, size=tuple(size[1:]), mode="bilinear")[0]
    logits = ((field + torch.randn(*size, generator=g) / 2) * 8).round() / 8
    return in_layout(logits.to(dtype), channels_last)


def upsample_argmax_case(name: str, size: Sequence[int], dtype: torch.dtype, channels_last: bool) -> OpCase:
    num_classes, height, width = size
    out = (height * 4 - 1, width * 3 + 2)

    def inputs(seed: int) -> Inputs:
        g = torch.Generator().manual_seed(seed + 1)
        return {
            "logits": random_logits(size, dtype, channels_last, seed),
            "size": out,
            "scale": (height / out[0], width / out[1]),
            "allowed": torch.rand(num_classes, generator=g) < 0.8 if dtype == torch.float32 else None,
        }

    def check(given: Inputs, outputs: Outputs) -> None:
        allowed = None if given["allowed"] is None else given["allowed"].numpy()
        logits = given["logits"].float().contiguous().numpy()
        expected = reference.upsample_argmax(logits, given["size"], given["scale"], allowed)
        np.testing.assert_array_equal(outputs[0].numpy(), expected)

    return OpCase(name, inputs, lambda **given: (ops.upsample_argmax(**given),), check)


def dense_inputs(size: Sequence[int], dtype: torch.dtype, channels_last: bool, seed: int) -> Inputs:
    """What `decode` and `postprocess` read."""
    num_classes, height, width = size
    g = torch.Generator().manual_seed(seed + 1)
    sizes = [(-(-height * 4 // s), -(-width * 4 // s)) for s in STRIDES]
    return {
        "logits": random_logits(size, dtype, channels_last, seed),
        "is_thing": (torch.arange(num_classes) % 3 != 1).to(torch.uint8),
        "ltrb": [torch.rand(4, *s, generator=g) * 40 for s in sizes],
        "borderness": [torch.rand(*s, generator=g) for s in sizes],
        "strides": STRIDES,
        "image_size": [max(1, height * 4 - 3), max(1, width * 4 - 2)],
    }


def check_decoded(arguments: Inputs, outputs: Outputs) -> int:
    """Compares with the reference, candidate by candidate where no other score is as near. Returns their number."""
    expected = reference.decode(**arguments)
    size = arguments["topk"] * len(arguments["strides"])
    boxes, scores, labels, levels, num_boxes = outputs
    n = num_boxes.item()
    assert (len(boxes), len(scores), len(labels), len(levels)) == (size,) * 4
    assert not boxes[n:].any()
    assert not scores[n:].any()
    assert (labels[n:] == -1).all()
    assert (levels[n:] == -1).all()

    assert levels[:n].tolist() == [row[3] for row in expected]
    wanted = torch.tensor([row[1] for row in expected], dtype=torch.float64)
    torch.testing.assert_close(scores[:n].double(), wanted, rtol=2e-6, atol=0)
    for row, box, label in zip(expected, boxes.double(), labels, strict=False):
        if (abs(wanted - row[1]) < 1e-5 * row[1]).sum() == 1:
            assert label == row[2]
            torch.testing.assert_close(box, torch.tensor(row[0], dtype=torch.float64), rtol=0, atol=1e-4)
    return n


def decode_case(name: str, size: Sequence[int], dtype: torch.dtype, channels_last: bool) -> OpCase:
    options = {"score_threshold": 0.02, "topk": 30, "score_fusion": "sqrt", "logits_stride": 4}

    def inputs(seed: int) -> Inputs:
        return dense_inputs(size, dtype, channels_last, seed) | options

    def check(given: Inputs, outputs: Outputs) -> None:
        check_decoded(given | {"logits": given["logits"].float()}, outputs)

    return OpCase(name, inputs, ops.decode, check)


CONFIG = PostprocessConfig(
    score_threshold=0.02, topk=30, max_detections=20, paste_score=0.01, overlap_threshold=0.6, stuff_area_limit=30
)


def postprocess_case(name: str, size: Sequence[int], dtype: torch.dtype, channels_last: bool) -> OpCase:
    config = PostprocessConfig(**(vars(CONFIG) | {"fill_stuff": channels_last}))
    output_size = [max(1, size[1] * 4 - 2), max(1, size[2] * 3)]

    def inputs(seed: int) -> Inputs:
        return dense_inputs(size, dtype, channels_last, seed) | {"output_size": output_size, "config": config}

    def run(**given: Any) -> Outputs:
        """The decoded boxes are outputs too: the oracle goes on from them, for their floats are the operator's own."""
        names = ("logits", "is_thing", "ltrb", "borderness", "strides", "image_size")
        decoded = ops.decode(*(given[n] for n in names), config.score_threshold, config.topk, config.score_fusion)
        return *ops.postprocess(**given), *decoded

    def check(given: Inputs, outputs: Outputs) -> None:
        boxes, scores, labels, count, ids, *table, decoded_boxes, decoded_scores, decoded_labels, levels, found = (
            outputs
        )
        n = int(found)
        decoded = [t[:n] for t in (decoded_boxes, decoded_scores, decoded_labels, levels)]
        kept = reference.nms(*decoded[:3], config.iou_threshold, config.max_detections)
        decoded = [t[kept].numpy() for t in decoded]
        assert int(count) == len(kept)
        for got, want, padding in zip((boxes, scores, labels), decoded, (0, 0, -1), strict=False):
            np.testing.assert_array_equal(got[: len(kept)].numpy(), want)
            assert (got[len(kept) :] == padding).all()
        image_size, is_thing = given["image_size"], given["is_thing"].numpy()
        scale = [np.float32(i) / np.float32(o) for i, o in zip(image_size, output_size, strict=True)]
        logits, quarter = given["logits"].float().contiguous().numpy(), [s / np.float32(4) for s in scale]
        expected = reference.paste_boxes(
            reference.upsample_argmax(logits, output_size, quarter),
            is_thing,
            *decoded,
            [b.numpy() for b in given["borderness"]],
            STRIDES,
            scale,
            config.paste_score,
            config.overlap_threshold,
            config.assignment,
            native.output_area_limit(config.stuff_area_limit, image_size, output_size),
            reference.upsample_argmax(logits, output_size, quarter, 1 - is_thing) if config.fill_stuff else None,
        )
        check_pasted(expected, (ids, *table))

    return OpCase(name, inputs, run, check)
