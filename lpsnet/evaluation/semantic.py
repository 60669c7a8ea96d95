"""Mean intersection over union of label maps, counted image by image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lpsnet.categories import VOID, Category


@dataclass(frozen=True)
class SemanticScores:
    """Of a data set, in percent.

    Attributes:
        miou: mean IoU over the classes that are in the truth; NaN where none is.
        pixel_accuracy: share of the pixels that are not void in the truth; NaN where there are none.
        per_class: IoU by the name of the class, all of them; NaN where the truth has no pixel of it.
    """

    miou: float
    pixel_accuracy: float
    per_class: dict[str, float]


class SemanticEvaluator:
    """Adds up a confusion matrix over a data set.

    Pixels that are void in the truth count for nothing. Void in the prediction is a miss of the true class.

    Attributes:
        confusion: int64[C, C + 1], pixels by true class and predicted class; the last column is predicted void.
    """

    def __init__(self, categories: Sequence[Category]) -> None:
        self._categories = tuple(categories)
        self.confusion = np.zeros((len(self._categories), len(self._categories) + 1), np.int64)

    def update(self, labels_true: np.ndarray, labels_pred: np.ndarray) -> None:
        """Adds one image.

        Args:
            labels_true, labels_pred: uint8[H, W], the class of each pixel; 255 is void.

        Raises:
            ValueError: another type, different sizes, or labels that are no class.
        """
        for name, labels in (("labels_true", labels_true), ("labels_pred", labels_pred)):
            if labels.dtype != np.uint8 or labels.ndim != 2:
                raise ValueError(f"{name}: expected uint8 [H, W], got {labels.dtype} {list(labels.shape)}")
            if np.any((labels >= len(self._categories)) & (labels != VOID)):
                wrong = labels[(labels >= len(self._categories)) & (labels != VOID)][0]
                raise ValueError(f"{name}: expected labels below {len(self._categories)} or {VOID}, got {wrong}")
        if labels_true.shape != labels_pred.shape:
            raise ValueError(f"labels_pred: expected {list(labels_true.shape)}, got {list(labels_pred.shape)}")
        valid = labels_true != VOID
        rows, columns = self.confusion.shape
        pairs = labels_true[valid].astype(np.int64) * columns + np.minimum(labels_pred[valid], rows)
        self.confusion += np.bincount(pairs, minlength=rows * columns).reshape(rows, columns)

    def summary(self) -> SemanticScores:
        """The scores of all images so far."""
        hits = self.confusion.diagonal()
        true, predicted = self.confusion.sum(1), self.confusion[:, :-1].sum(0)
        iou = [100 * int(h) / int(t + p - h) if t else math.nan for h, t, p in zip(hits, true, predicted, strict=True)]
        present = [value for value in iou if not math.isnan(value)]
        return SemanticScores(
            miou=sum(present) / len(present) if present else math.nan,
            pixel_accuracy=100 * int(hits.sum()) / int(true.sum()) if present else math.nan,
            per_class={c.name: value for c, value in zip(self._categories, iou, strict=True)},
        )
