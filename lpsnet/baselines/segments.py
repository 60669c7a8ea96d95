"""From a map of instances and stuff classes to ids and a table of segments."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lpsnet.structures import Segment


@dataclass(frozen=True)
class Entry:
    """What a value of the map stands for.

    Attributes:
        label: index of the class.
        score: of an instance; None for stuff.
    """

    label: int
    score: float | None = None


def make_segments(
    slots: Tensor, entries: Sequence[Entry], stuff_area_limit: int
) -> tuple[np.ndarray, tuple[Segment, ...]]:
    """The ids and the segments, things by descending score, then stuff by class.

    Args:
        slots: int64[H, W], index into `entries`; len(entries) is void.
        entries: best instances first.
        stuff_area_limit: stuff of fewer pixels becomes void.

    Returns:
        int32[H, W], 0 for void, and the segments, whose ids count from 1.
    """
    height, width = slots.shape
    rows = _counts(slots, torch.arange(height, device=slots.device)[:, None], height, len(entries))
    columns = _counts(slots, torch.arange(width, device=slots.device), width, len(entries))
    areas = rows.sum(1)
    present = [i for i, e in enumerate(entries) if areas[i] >= (1 if e.score is not None else max(1, stuff_area_limit))]
    things = [i for i in present if entries[i].score is not None]
    stuff = sorted((i for i in present if entries[i].score is None), key=lambda i: entries[i].label)
    ids = torch.zeros(len(entries) + 1, dtype=torch.int32)
    segments = []
    for number, i in enumerate([*things, *stuff], 1):
        ids[i] = number
        y, x = rows[i].nonzero()[0], columns[i].nonzero()[0]
        box = int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1
        score = entries[i].score
        segments.append(Segment(number, entries[i].label, 1.0 if score is None else score, int(areas[i]), box))
    return ids.to(slots.device)[slots].cpu().numpy(), tuple(segments)


def _counts(slots: Tensor, position: Tensor, length: int, num_entries: int) -> np.ndarray:
    """int64[num_entries, length]: pixels of each entry in each row, or in each column."""
    counts = torch.bincount((slots * length + position).flatten(), minlength=(num_entries + 1) * length)
    return counts.view(num_entries + 1, length)[:num_entries].cpu().numpy()
