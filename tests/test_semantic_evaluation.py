import math

import numpy as np
import pytest

from lpsnet.categories import VOID, Category
from lpsnet.evaluation.semantic import SemanticEvaluator

CLASSES = tuple(Category(i, f"class{i}", False, (0, 0, 0)) for i in range(4))


def test_equals_the_definition_over_several_images():
    rng = np.random.default_rng(0)
    evaluator = SemanticEvaluator(CLASSES)
    values = np.array([0, 1, 2, VOID], np.uint8)  # class 3 is only ever predicted
    pairs = [(rng.choice(values, (9, 13)), rng.choice(np.append(values, np.uint8(3)), (9, 13))) for _ in range(5)]
    for true, predicted in pairs:
        evaluator.update(true, predicted)
    true, predicted = (np.concatenate([p[i].ravel() for p in pairs]).tolist() for i in (0, 1))
    expected = []
    for label in range(3):
        inter = sum(t == label == p for t, p in zip(true, predicted, strict=True))
        union = sum(t != VOID and label in (t, p) for t, p in zip(true, predicted, strict=True))
        expected.append(100 * inter / union)
    scores = evaluator.summary()
    assert [scores.per_class[f"class{i}"] for i in range(3)] == pytest.approx(expected)
    assert math.isnan(scores.per_class["class3"])
    assert scores.miou == pytest.approx(sum(expected) / 3)
    valid = [(t, p) for t, p in zip(true, predicted, strict=True) if t != VOID]
    assert scores.pixel_accuracy == pytest.approx(100 * sum(t == p for t, p in valid) / len(valid))
    assert evaluator.confusion.sum() == len(valid)


def test_void():
    evaluator = SemanticEvaluator(CLASSES)
    void = np.full((4, 4), VOID, np.uint8)
    evaluator.update(void, np.zeros((4, 4), np.uint8))
    assert math.isnan(evaluator.summary().miou)
    evaluator.update(np.zeros((4, 4), np.uint8), void)
    assert evaluator.summary().miou == 0


def test_255_classes():
    evaluator = SemanticEvaluator([Category(i, str(i), False, (0, 0, 0)) for i in range(255)])
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    evaluator.update(labels, labels)
    assert evaluator.summary().miou == 100


@pytest.mark.parametrize(
    ("true", "predicted", "message"),
    [
        (np.zeros((2, 2), np.int64), np.zeros((2, 2), np.uint8), r"labels_true: expected uint8 \[H, W\], got int64"),
        (np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), r"labels_pred: expected \[2, 2\], got \[2, 3\]"),
        (
            np.zeros((2, 2), np.uint8),
            np.full((2, 2), 4, np.uint8),
            "labels_pred: expected labels below 4 or 255, got 4",
        ),
    ],
)
def test_bad_arguments(true, predicted, message):
    with pytest.raises(ValueError, match=message):
        SemanticEvaluator(CLASSES).update(true, predicted)
