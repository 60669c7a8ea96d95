"""Cases of the operators over boxes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from op_case import Inputs, OpCase, Outputs
from torch import Tensor

from lpsnet import ops
from lpsnet.ops import reference

PASTE_STRIDES = [8, 16]


def random_boxes(n: int, extent: float, generator: torch.Generator) -> Tensor:
    """float32[n, 4], some far out, some empty."""
    corner = torch.rand(n, 2, generator=generator) * extent * 1.2 - extent * 0.1
    size = torch.rand(n, 2, generator=generator) * extent * 0.6
    return torch.cat([corner, corner + size * (torch.rand(n, 1, generator=generator) < 0.95)], 1)


def nms_case(n: int, num_classes: int, max_kept: int, valid: int | None) -> OpCase:
    """Boxes of some classes, `num_classes` of them, with equal scores and ones that are not numbers."""

    def inputs(seed: int) -> Inputs:
        g = torch.Generator().manual_seed(seed)
        scores = (torch.rand(n, generator=g) * 50).round() / 50
        scores[torch.rand(n, generator=g) < 0.02] = torch.nan
        return {
            "boxes": random_boxes(n, 200, g),
            "scores": scores,
            "labels": torch.randint(-1, num_classes - 1, (n,), generator=g, dtype=torch.int32),
            "num_valid": None if valid is None else torch.tensor([valid], dtype=torch.int32),
            "iou_threshold": 0.5,
            "max_kept": max_kept,
        }

    def check(given: Inputs, outputs: Outputs) -> None:
        read = [given[k][:valid] for k in ("boxes", "scores", "labels")]
        expected = reference.nms(*read, given["iou_threshold"], max_kept)
        assert outputs[0].tolist() == expected + [-1] * (max_kept - len(expected))
        assert outputs[1].item() == len(expected)

    return OpCase(f"nms-{n}-classes{num_classes}-kept{max_kept}-valid{valid}", inputs, ops.nms, check)


def nms_cases() -> list[OpCase]:
    """None, one, at the borders of words of 64 boxes, none kept, none valid, one class and several."""
    sizes = [(0, 3, 4, None), (1, 1, 1, None), (63, 3, 100, None), (64, 1, 10, 40), (129, 2, 0, None), (200, 80, 50, 0)]
    return [nms_case(*size) for size in [*sizes, (700, 1, 700, None), (1100, 4, 300, 1090)]]


def check_pasted(expected: tuple[np.ndarray, list[Any]], outputs: Sequence[Tensor]) -> None:
    """Ids and table of a paste, padding included, beside those of the reference."""
    ids, labels, scores, areas, boxes, num_segments = (o.numpy() for o in outputs)
    expected_ids, rows = expected
    np.testing.assert_array_equal(ids, expected_ids)
    n = int(num_segments[0])
    got = zip(labels[:n].tolist(), scores[:n].tolist(), areas[:n].tolist(), map(tuple, boxes[:n].tolist()), strict=True)
    assert list(got) == rows
    for column, padding in ((labels, -1), (scores, 0), (areas, 0), (boxes, 0)):
        assert (column[n:] == padding).all()


def paste_boxes_case(n: int, height: int, width: int, assignment: str, valid: int | None) -> OpCase:
    """Boxes over regions of 5 x 7 pixels; filled with stuff where `n` is odd."""

    def inputs(seed: int) -> Inputs:
        g = torch.Generator().manual_seed(seed)
        coarse = torch.randint(0, 6, (height // 5 + 1, width // 7 + 1), generator=g)
        labels = coarse.repeat_interleave(5, 0).repeat_interleave(7, 1)[:height, :width].contiguous()
        labels[labels == 5] = 255
        extent = max(height, width) * 1.5
        maps = [(max(1, int(extent) // s), max(1, int(extent) // s + 1)) for s in PASTE_STRIDES]
        return {
            "labels": labels.to(torch.uint8),
            "is_thing": torch.tensor([1, 0, 1, 0, 1], dtype=torch.uint8),
            "boxes": random_boxes(n, extent, g),
            "scores": torch.rand(n, generator=g).round(decimals=1).sort(descending=True).values,
            "box_labels": torch.randint(-1, 6, (n,), generator=g, dtype=torch.int32),
            "box_levels": torch.randint(0, 2, (n,), generator=g, dtype=torch.int32),
            "num_valid": None if valid is None else torch.tensor([valid], dtype=torch.int32),
            "borderness": [torch.rand(*s, generator=g) for s in maps],
            "strides": PASTE_STRIDES,
            "scale": [1.5, 1.25],
            "paste_score": 0.1,
            "overlap_threshold": 0.5,
            "assignment": assignment,
            "stuff_area_limit": 20,
            "stuff_labels": torch.randint(0, 6, labels.shape, generator=g).to(torch.uint8) if n % 2 else None,
        }

    def check(given: Inputs, outputs: Outputs) -> None:
        arrays = {k: v.numpy() if isinstance(v, Tensor) else v for k, v in given.items()}
        arrays["borderness"] = [b.numpy() for b in given["borderness"]]
        del arrays["num_valid"]
        for name in ("boxes", "scores", "box_labels", "box_levels"):
            arrays[name] = arrays[name][:valid]
        check_pasted(reference.paste_boxes(**arrays), outputs)

    return OpCase(f"paste_boxes-{n}-{height}x{width}-{assignment}-valid{valid}", inputs, ops.paste_boxes, check)


def paste_boxes_cases() -> list[OpCase]:
    """No box, a pixel, more boxes than fit, less valid ones."""
    sizes = [(0, 9, 11, None), (1, 1, 1, None), (25, 37, 61, None), (40, 33, 64, 21), (300, 20, 31, None)]
    ways = ["closest_borderness", "highest_confidence", "smallest_area"]
    return [paste_boxes_case(n, height, width, way, valid) for n, height, width, valid in sizes for way in ways]
