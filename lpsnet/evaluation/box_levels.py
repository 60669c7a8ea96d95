"""Which level of the box head a box belongs to by its size alone."""

from collections.abc import Sequence

import numpy as np


def levels_of_size(boxes: np.ndarray, level_bounds: Sequence[float]) -> np.ndarray:
    """The level that learns an object of this size, seen from its middle, where it reaches half its longer side.

    Args:
        boxes: float32[N, 4], xyxy in pixels of the network's input.
        level_bounds: `TargetConfig.level_bounds`: level i learns objects that reach so far as to be in
            (bounds[i], bounds[i + 1]].

    Returns:
        int32[N].
    """
    reach = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) / 2
    return np.searchsorted(np.asarray(level_bounds[1:]), reach).astype(np.int32)
