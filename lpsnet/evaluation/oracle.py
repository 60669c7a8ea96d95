"""The panoptic head with a part of the truth in place of the network's (paper, section 4.4, Table 6)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from lpsnet.categories import VOID, Category
from lpsnet.data.sample import Sample
from lpsnet.evaluation.box_levels import levels_of_size
from lpsnet.inference import BoxCandidates, HeadInputs
from lpsnet.targets import object_shapes

Oracle = Literal["semantic", "boxes"]


def with_truth(
    inputs: HeadInputs,
    sample: Sample,
    oracle: Oracle,
    categories: Sequence[Category],
    level_bounds: Sequence[float],
) -> HeadInputs:
    """What the panoptic head takes, with the true label map or the true boxes.

    Args:
        inputs: the network's.
        sample: the image with its truth.
        oracle: "semantic": the true label map. Void stays void, and so do crowds, which have no box.
            "boxes": the tight boxes of the true objects. They all have the score 1; the larger objects come first, as
            they are mostly nearer and a detector is surest of them. Each is compared with the border-ness of the level
            that learns objects of its size.
        categories: the classes.
        level_bounds: `TargetConfig.level_bounds` of the network.
    """
    if oracle == "semantic":
        return replace(inputs, labels=_true_labels(sample))
    return replace(inputs, boxes=_true_boxes(inputs, sample, categories, level_bounds))


def _true_labels(sample: Sample) -> np.ndarray:
    table = [VOID, *(VOID if s.iscrowd else s.label for s in sample.segments)]
    return np.array(table, np.uint8)[sample.ids]


def _true_boxes(
    inputs: HeadInputs, sample: Sample, categories: Sequence[Category], level_bounds: Sequence[float]
) -> BoxCandidates:
    objects = sample.object_ids([c.isthing for c in categories])
    shapes = sorted(object_shapes(sample.ids, objects).items(), key=lambda item: -item[1].area)
    boxes = np.array([shape.box for _, shape in shapes], np.float32).reshape(-1, 4)
    boxes *= np.tile(inputs.prepared.scale[::-1], 2).astype(np.float32)
    return BoxCandidates(
        boxes,
        np.ones(len(boxes), np.float32),
        np.array([sample.segments[i - 1].label for i, _ in shapes], np.int32),
        levels_of_size(boxes, level_bounds),
    )
