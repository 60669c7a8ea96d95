"""How alike two panoptic maps of an image are."""

import numpy as np

from lpsnet.structures import PanopticResult


def agreement(expected: PanopticResult, got: PanopticResult) -> float:
    """The share of pixels that are in the same segment in both, or void in both, from 0 to 1.

    Ids may be numbered otherwise: a segment corresponds to the one of its class with which it shares most pixels, the
    larger share first, each at most once.

    Raises:
        ValueError: maps of different sizes.
    """
    if expected.ids.shape != got.ids.shape:
        raise ValueError(f"ids: expected {list(expected.ids.shape)}, got {list(got.ids.shape)}")
    width = len(got.segments) + 1
    pairs = np.bincount((expected.ids.astype(np.int64) * width + got.ids).ravel(), minlength=width)
    shared = pairs[0]  # void in both
    taken: set[tuple[str, int]] = set()
    for pair in np.argsort(-pairs, kind="stable"):
        a, b = divmod(int(pair), width)
        if pairs[pair] == 0:
            break
        if a == 0 or b == 0 or {("expected", a), ("got", b)} & taken:
            continue
        if expected.segments[a - 1].label == got.segments[b - 1].label:
            taken |= {("expected", a), ("got", b)}
            shared += pairs[pair]
    return float(shared / expected.ids.size)
