"""The slow, readable twin of `roi_align` in float64: what the tests hold it against."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lpsnet.ops.reference import bilinear


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
    """float64[N, C, height, width]."""
    maps = [[plane.tolist() for plane in level.double()] for level in features]
    out = torch.zeros(len(boxes), len(maps[0]), *output_size, dtype=torch.float64)
    count = len(boxes) if num_valid is None else int(num_valid)
    for n, box in enumerate(boxes.double().tolist()[: max(count, 0)]):
        if not all(map(math.isfinite, box)):
            continue
        level = level_of(box, canonical_level, canonical_size, len(maps))
        if box_levels is not None:
            level = int(box_levels[n])
        if not 0 <= level < len(maps):
            continue
        for c, plane in enumerate(maps[level]):
            out[n, c] = torch.tensor(_bins(plane, [side / strides[level] for side in box], output_size, sampling_ratio))
    return out


def level_of(box: Sequence[float], canonical_level: int, canonical_size: float, num_levels: int) -> int:
    """Equation 1 of FPN, clamped to the levels."""
    side = math.sqrt(max(box[2] - box[0], 0) * max(box[3] - box[1], 0))
    if side == 0:
        return 0
    return min(max(math.floor(canonical_level + math.log2(side / canonical_size)), 0), num_levels - 1)


def _bins(plane: list[list[float]], box: Sequence[float], output_size: Sequence[int], ratio: int) -> list[list[float]]:
    x1, y1, x2, y2 = box
    height, width = max(y2 - y1, 0) / output_size[0], max(x2 - x1, 0) / output_size[1]
    rows = ratio or min(max(math.ceil(height), 1), len(plane))
    columns = ratio or min(max(math.ceil(width), 1), len(plane[0]))
    return [
        [
            sum(
                _sample(plane, y1 + (i + (a + 0.5) / rows) * height, x1 + (j + (b + 0.5) / columns) * width)
                for a in range(rows)
                for b in range(columns)
            )
            / (rows * columns)
            for j in range(output_size[1])
        ]
        for i in range(output_size[0])
    ]


def _sample(plane: list[list[float]], y: float, x: float) -> float:
    inside = -0.5 <= y <= len(plane) + 0.5 and -0.5 <= x <= len(plane[0]) + 0.5
    return bilinear(plane, y, x) if inside else 0.0
