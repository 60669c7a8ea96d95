"""Scores of a predictor over a data set, image by image."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lpsnet import atomic
from lpsnet.categories import Category
from lpsnet.data.sample import Dataset
from lpsnet.evaluation.panoptic import PanopticEvaluator, PanopticScores
from lpsnet.evaluation.semantic import SemanticEvaluator, SemanticScores
from lpsnet.structures import PanopticResult


@dataclass(frozen=True)
class Scores:
    """Panoptic quality, and the mIoU of the semantic head's label maps."""

    panoptic: PanopticScores
    semantic: SemanticScores

    def to_dict(self) -> dict:
        """Plain data, fit for JSON."""
        return dataclasses.asdict(self)


def evaluate(
    predict: Callable[[np.ndarray], tuple[PanopticResult, np.ndarray]],
    dataset: Dataset,
    categories: Sequence[Category],
    on_image: Callable[[int], None] = lambda _: None,
) -> Scores:
    """Scores a predictor. Memory does not grow with the number of images.

    Args:
        predict: from uint8[H, W, 3] RGB to a panoptic result and the semantic label map, uint8[H, W].
        dataset: with ground truth of the same classes.
        categories: those classes.
        on_image: called with the number of images done after each.
    """
    panoptic, semantic = PanopticEvaluator(categories), SemanticEvaluator(categories)
    for index in range(len(dataset)):
        sample = dataset[index]
        result, labels = predict(sample.image)
        panoptic.update(sample, result)
        semantic.update(sample.labels(), labels)
        on_image(index + 1)
    return Scores(panoptic.summary(), semantic.summary())


def write_scores(path: Path, scores: Scores) -> None:
    """Writes the scores as JSON, whole or not at all; a score that is not defined is null."""
    atomic.write_bytes(path, (json.dumps(_strict(scores.to_dict()), indent=2) + "\n").encode())


def _strict(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, dict):
        return {k: _strict(v) for k, v in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
