"""Scores of a predictor over a data set, image by image."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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
    """Writes the scores as JSON, beside their place first."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(scores.to_dict(), indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
