"""The confusion of segments against plain loops and against panoptic quality, and the picture of it."""

import cv2
import numpy as np
import pytest

from lpsnet.categories import Category
from lpsnet.data.sample import Sample, TrueSegment
from lpsnet.evaluation.confusion import Confusion
from lpsnet.evaluation.evaluate import ScoredImage
from lpsnet.evaluation.panoptic import PanopticEvaluator
from lpsnet.evaluation.segment_confusion import SegmentConfusion
from lpsnet.structures import PanopticResult, Segment

CLASSES = tuple(Category(10 * i, f"class{i}", i < 2, (40 * i, 90, 200)) for i in range(4))


def slow_matrix(sample: Sample, result: PanopticResult) -> list[list[int]]:
    matrix = [[0] * (len(CLASSES) + 1) for _ in range(len(CLASSES) + 1)]
    true = {i: sample.ids == i for i in range(1, len(sample.segments) + 1) if (sample.ids == i).any()}
    predicted = {s.id: (s.label, result.ids == s.id) for s in result.segments if (result.ids == s.id).any()}
    void = sample.ids == 0

    def ignored(label: int, mask: np.ndarray) -> bool:
        hidden = void.copy()
        for i, other in true.items():
            if sample.segments[i - 1].iscrowd and sample.segments[i - 1].label == label:
                hidden |= other
        return (mask & hidden).sum() / mask.sum() > 0.5

    matched = set()
    for i, true_mask in true.items():
        segment = sample.segments[i - 1]
        if segment.iscrowd:
            continue
        for j, (label, mask) in predicted.items():
            if (true_mask & mask).sum() / (true_mask | (mask & ~void)).sum() <= 0.5:
                continue
            if label == segment.label or not ignored(label, mask):
                matrix[segment.label][label] += 1
                matched.add(j)
                break
        else:
            matrix[segment.label][-1] += 1
    for j, (label, mask) in predicted.items():
        if j not in matched and not ignored(label, mask):
            matrix[-1][label] += 1
    return matrix


def rectangles(rng: np.random.Generator, count: int) -> np.ndarray:
    ids = np.zeros((30, 41), np.int32)
    for i in range(1, count + 1):
        y, x, h, w = rng.integers(0, 25), rng.integers(0, 35), *rng.integers(3, 25, 2)
        ids[y : y + h, x : x + w] = i
    return ids


def random_image(rng: np.random.Generator) -> tuple[Sample, PanopticResult]:
    count = int(rng.integers(0, 8))
    ids = rectangles(rng, count)
    segments = tuple(TrueSegment(int(rng.integers(0, 4)), bool(rng.random() < 0.25)) for _ in range(count))
    predicted = np.roll(ids, rng.integers(-2, 3, 2), (0, 1))
    labels = [s.label if rng.random() < 0.6 else int(rng.integers(0, 4)) for s in segments]
    if rng.random() < 0.2:
        predicted, labels = rectangles(rng, 5), [int(rng.integers(0, 4)) for _ in range(5)]
    rows = tuple(Segment(i, label, 1.0, 1, (0, 0, 1, 1)) for i, label in enumerate(labels, 1))
    return Sample("name", np.zeros((30, 41, 3), np.uint8), ids, segments), PanopticResult(predicted, rows, CLASSES)


def test_equals_the_definition_and_adds_up_to_panoptic_quality():
    rng = np.random.default_rng(0)
    confusion, quality, expected = SegmentConfusion(CLASSES), PanopticEvaluator(CLASSES), np.zeros((5, 5), int)
    for _ in range(300):
        sample, result = random_image(rng)
        one = SegmentConfusion(CLASSES)
        one.update(sample, result)
        slow = slow_matrix(sample, result)
        assert one.matrix.tolist() == slow
        expected += slow
        confusion.update(sample, result)
        quality.update(sample, result)
    assert np.array_equal(confusion.matrix, expected)
    assert (expected[:4, :4] > 0).all()
    for i, scores in enumerate(quality.summary().per_class.values()):
        assert confusion.matrix[i, i] == scores.tp
        assert confusion.matrix[i].sum() - scores.tp == scores.fn
        assert confusion.matrix[:, i].sum() - scores.tp == scores.fp


def test_empty_images():
    confusion = SegmentConfusion(CLASSES)
    nothing = np.zeros((4, 5), np.int32)
    confusion.update(Sample("a", np.zeros((4, 5, 3), np.uint8), nothing, ()), PanopticResult(nothing, (), CLASSES))
    assert confusion.matrix.sum() == 0


def scored(sample: Sample, result: PanopticResult) -> ScoredImage:
    return ScoredImage(sample, result, result.labels(), PanopticEvaluator(CLASSES).update(sample, result))


def test_the_picture(tmp_path):
    confusion = Confusion(CLASSES)
    empty = confusion.picture()
    rng = np.random.default_rng(1)
    for _ in range(20):
        confusion.update(scored(*random_image(rng)))
    confusion.write(tmp_path / "confusion.png")
    picture = cv2.imread(str(tmp_path / "confusion.png"))
    assert picture.shape == empty.shape
    assert np.array_equal(picture[..., ::-1], confusion.picture())
    greens = (picture[..., 1].astype(int) > picture[..., 2].astype(int) + 30).sum()
    reds = (picture[..., 2].astype(int) > picture[..., 1].astype(int) + 30).sum()
    assert greens > 500
    assert reds > 500
    assert (np.abs(np.diff(empty.astype(int), axis=-1)).max()) == 0  # nothing counted: no colour
    document = confusion.to_dict()
    assert document["classes"] == [c.name for c in CLASSES]
    assert np.array_equal(document["segments"], confusion.segments)
    assert np.shape(document["pixels"]) == (4, 5)


@pytest.mark.parametrize("count", [1, 133])
def test_a_picture_of_few_and_of_many_classes(count):
    classes = tuple(Category(i, f"a class of a long name {i}", i % 2 == 0, (0, 0, 0)) for i in range(count))
    picture = Confusion(classes).picture()
    assert picture.dtype == np.uint8
    assert max(picture.shape) < 5000
