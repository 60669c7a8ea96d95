"""Scores of a predictor over a data set, image by image."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lpsnet import atomic
from lpsnet.categories import Category
from lpsnet.data.sample import Dataset, Sample
from lpsnet.evaluation.detection import BoxEvaluator, DetectionScores, MaskEvaluator
from lpsnet.evaluation.panoptic import PanopticEvaluator, PanopticScores
from lpsnet.evaluation.semantic import SemanticEvaluator, SemanticScores
from lpsnet.structures import PanopticResult

Prediction = tuple[PanopticResult, np.ndarray]
"""The panoptic map of an image, and the label map of the semantic head, uint8[H, W]."""


@dataclass(frozen=True)
class Scores:
    """Of a data set.

    Attributes:
        panoptic: panoptic quality of the panoptic maps.
        semantic: mIoU of the semantic head's label maps.
        box: AP of the detections; NaN for a predictor that gives none.
        mask: AP of the instances of the panoptic maps.
    """

    panoptic: PanopticScores
    semantic: SemanticScores
    box: DetectionScores
    mask: DetectionScores

    def to_dict(self) -> dict:
        """Plain data, fit for JSON but for its NaN."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class ScoredImage:
    """What is known of an image after it was scored.

    Attributes:
        sample: the image and its truth.
        result: its panoptic map.
        labels: uint8[H, W], the label map of the semantic head.
        panoptic: the scores of this image alone.
    """

    sample: Sample
    result: PanopticResult
    labels: np.ndarray
    panoptic: PanopticScores


class Observer(Protocol):
    """Sees each image once, in the order of the data set."""

    def update(self, image: ScoredImage) -> None: ...


def evaluate(
    predict: Callable[[np.ndarray], Prediction],
    dataset: Dataset,
    categories: Sequence[Category],
    on_image: Callable[[int], None] = lambda _: None,
) -> Scores:
    """Like `evaluate_samples` for a predictor that sees the image alone, uint8[H, W, 3] RGB."""
    return evaluate_samples(lambda sample: predict(sample.image), dataset, categories, on_image=on_image)


def evaluate_samples(
    predict: Callable[[Sample], Prediction],
    dataset: Dataset,
    categories: Sequence[Category],
    observers: Sequence[Observer] = (),
    on_image: Callable[[int], None] = lambda _: None,
) -> Scores:
    """Scores a predictor. One image is in memory at a time; what grows with their number is said at `BoxEvaluator`.

    Args:
        predict: gives the prediction for a sample.
        dataset: with ground truth of the same classes. A sample without any, all void, counts for no score.
        categories: those classes.
        observers: see each image after it was scored.
        on_image: called with the number of images done after each.
    """
    panoptic, semantic = PanopticEvaluator(categories), SemanticEvaluator(categories)
    boxes, masks = BoxEvaluator(categories), MaskEvaluator(categories)
    for index in range(len(dataset)):
        sample = dataset[index]
        result, labels = predict(sample)
        alone = panoptic.update(sample, result)
        semantic.update(sample.labels(), labels)
        if result.detections is not None:
            boxes.update(sample, result.detections)
        masks.update(sample, result)
        for observer in observers:
            observer.update(ScoredImage(sample, result, labels, alone))
        on_image(index + 1)
    return Scores(panoptic.summary(), semantic.summary(), boxes.summary(), masks.summary())


def write_scores(path: Path, scores: Scores, extra: Mapping[str, Any] | None = None) -> None:
    """Writes the scores as JSON, whole or not at all; a score that is not defined is null.

    Args:
        path: of the file.
        scores: its entries `panoptic`, `semantic`, `box` and `mask`.
        extra: further entries.
    """
    atomic.write_bytes(path, json_bytes({**(extra or {}), **scores.to_dict()}))


def json_bytes(value: Any) -> bytes:
    """A file of plain data, with null for NaN, which JSON does not know."""
    return (json.dumps(_strict(value), indent=2, allow_nan=False) + "\n").encode()


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _strict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
