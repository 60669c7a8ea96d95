"""Panoptic quality against plain loops over the definition of the PQ paper (section 4, with its rules for void and
crowds), which share nothing with the evaluator."""

import math

import numpy as np
import pytest

from lpsnet.categories import Category
from lpsnet.data.sample import Sample, TrueSegment
from lpsnet.evaluation.panoptic import PanopticEvaluator
from lpsnet.structures import PanopticResult, Segment

CLASSES = tuple(Category(10 * i, f"class{i}", i < 2, (0, 0, 0)) for i in range(4))


def slow_counts(sample: Sample, result: PanopticResult) -> list[list[float]]:
    """tp, fp, fn and the sum of the IoU of each class."""
    counts = [[0, 0, 0, 0.0] for _ in CLASSES]
    true = {i: sample.ids == i for i in range(1, len(sample.segments) + 1) if (sample.ids == i).any()}
    predicted = {s.id: (s.label, result.ids == s.id) for s in result.segments if (result.ids == s.id).any()}
    void = sample.ids == 0
    matched = set()
    for i, true_mask in true.items():
        segment = sample.segments[i - 1]
        if segment.iscrowd:
            continue
        for j, (label, mask) in predicted.items():
            union = (true_mask | (mask & ~void)).sum()
            iou = (true_mask & mask).sum() / union
            if label == segment.label and iou > 0.5:
                counts[label][0] += 1
                counts[label][3] += iou
                matched.add(j)
                break
        else:
            counts[segment.label][2] += 1
    for j, (label, mask) in predicted.items():
        if j in matched:
            continue
        ignored = void.copy()
        for i, true_mask in true.items():
            if sample.segments[i - 1].iscrowd and sample.segments[i - 1].label == label:
                ignored |= true_mask
        if (mask & ignored).sum() / mask.sum() <= 0.5:
            counts[label][1] += 1
    return counts


def make_sample(ids: np.ndarray, segments: list[tuple[int, bool]]) -> Sample:
    image = np.zeros((*ids.shape, 3), np.uint8)
    return Sample("name", image, ids.astype(np.int32), tuple(TrueSegment(*s) for s in segments))


def make_result(ids: np.ndarray, labels: list[int]) -> PanopticResult:
    segments = tuple(Segment(i, label, 1.0, int((ids == i).sum()), (0, 0, 0, 0)) for i, label in enumerate(labels, 1))
    return PanopticResult(ids.astype(np.int32), segments, CLASSES)


def evaluate(*pairs: tuple[Sample, PanopticResult]):
    evaluator = PanopticEvaluator(CLASSES)
    for sample, result in pairs:
        evaluator.update(sample, result)
    return evaluator.summary()


def rectangles(rng: np.random.Generator, count: int) -> np.ndarray:
    ids = np.zeros((30, 41), np.int32)
    for i in range(1, count + 1):
        y, x, h, w = rng.integers(0, 25), rng.integers(0, 35), *rng.integers(3, 25, 2)
        ids[y : y + h, x : x + w] = i
    return ids


def random_pair(rng: np.random.Generator) -> tuple[Sample, PanopticResult]:
    count = int(rng.integers(0, 8))
    ids = rectangles(rng, count)
    segments = [(int(rng.integers(0, 4)), bool(rng.random() < 0.3)) for _ in range(count)]
    if rng.random() < 0.6:  # the truth, shifted, with some classes wrong
        predicted = np.roll(ids, rng.integers(-3, 4, 2), (0, 1))
        labels = [label if rng.random() < 0.8 else int(rng.integers(0, 4)) for label, _ in segments]
    else:
        labels = [int(rng.integers(0, 4)) for _ in range(int(rng.integers(0, 8)))]
        predicted = rectangles(rng, len(labels))
    return make_sample(ids, segments), make_result(predicted, labels)


def test_equals_the_definition_on_random_maps():
    rng = np.random.default_rng(0)
    total = np.zeros((len(CLASSES), 4))
    pairs = [random_pair(rng) for _ in range(300)]
    for pair in pairs:
        expected = slow_counts(*pair)
        found = [[q.tp, q.fp, q.fn, q.iou] for q in evaluate(pair).per_class.values()]
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        total += expected
    assert (total > 20).all()  # each kind of count occurs in each class

    scores = evaluate(*pairs)
    tp, fp, fn, iou = total.T
    pq, sq, rq = iou / (tp + fp / 2 + fn / 2), iou / tp, tp / (tp + fp / 2 + fn / 2)
    assert scores.images == 300
    assert (scores.pq, scores.sq, scores.rq) == pytest.approx((100 * pq.mean(), 100 * sq.mean(), 100 * rq.mean()))
    for part, found in (
        (slice(0, 2), (scores.pq_thing, scores.sq_thing, scores.rq_thing)),
        (slice(2, 4), (scores.pq_stuff, scores.sq_stuff, scores.rq_stuff)),
    ):
        assert found == pytest.approx((100 * pq[part].mean(), 100 * sq[part].mean(), 100 * rq[part].mean()))


def halves(left: int, right: int) -> np.ndarray:
    return np.repeat([[left, right]], 10, 0).repeat(10, 1)


def test_the_truth_itself_is_perfect():
    scores = evaluate((make_sample(halves(1, 2), [(0, False), (3, False)]), make_result(halves(1, 2), [0, 3])))
    assert (scores.pq, scores.pq_thing, scores.pq_stuff) == (100, 100, 100)
    assert scores.per_class["class0"].tp == 1


def test_classes_in_neither_map_do_not_count():
    scores = evaluate((make_sample(halves(1, 1), [(0, False)]), make_result(halves(1, 1), [0])))
    assert scores.pq == 100
    assert math.isnan(scores.per_class["class1"].pq)
    assert math.isnan(scores.pq_stuff)


def test_predicted_class_absent_from_the_truth_is_zero():
    scores = evaluate((make_sample(halves(1, 1), [(0, False)]), make_result(halves(1, 2), [0, 1])))
    assert (scores.per_class["class1"].fp, scores.per_class["class1"].pq) == (1, 0)
    # The left half alone has an IoU of exactly 0.5, which is no match.
    assert (scores.per_class["class0"].tp, scores.per_class["class0"].fp, scores.per_class["class0"].fn) == (0, 1, 1)


def test_empty_prediction_and_empty_truth():
    something, nothing = halves(1, 1), halves(0, 0)
    scores = evaluate((make_sample(something, [(0, False)]), make_result(nothing, [])))
    assert (scores.per_class["class0"].fn, scores.pq) == (1, 0)
    scores = evaluate((make_sample(nothing, []), make_result(something, [0])))
    assert math.isnan(scores.pq)  # all void: nothing to be wrong about
    assert math.isnan(evaluate().pq)


def test_segments_without_pixels_do_not_count():
    sample = make_sample(halves(1, 1), [(0, False), (1, False), (2, True)])
    scores = evaluate((sample, make_result(halves(1, 1), [0, 3])))
    assert (scores.pq, sum(q.tp + q.fp + q.fn for q in scores.per_class.values())) == (100, 1)


@pytest.mark.parametrize(("void_columns", "fp"), [(10, 1), (11, 0)])
def test_prediction_mostly_on_void(void_columns, fp):
    truth = np.ones((10, 20), np.int32)
    truth[:, :void_columns] = 0
    scores = evaluate((make_sample(truth, [(0, False)]), make_result(halves(1, 1), [1])))
    assert scores.per_class["class1"].fp == fp


@pytest.mark.parametrize(("label", "fp"), [(0, 0), (1, 1)])
def test_prediction_on_a_crowd_needs_its_class(label, fp):
    sample = make_sample(halves(1, 2), [(0, True), (3, False)])
    scores = evaluate((sample, make_result(halves(1, 2), [label, 3])))
    quality = scores.per_class[f"class{label}"]
    assert (quality.tp, quality.fp, quality.fn) == (0, fp, 0)


def test_void_is_taken_from_the_union():
    truth, prediction = np.zeros((10, 20), np.int32), np.ones((10, 20), np.int32)
    truth[:, :6] = 1  # 30 % of the prediction; the rest is void
    assert evaluate((make_sample(truth, [(0, False)]), make_result(prediction, [0]))).pq == 100


def test_two_crowds_of_a_class_are_one_region():
    truth = np.repeat([[1, 2, 3]], 10, 0).repeat(4, 1)
    sample = make_sample(truth, [(0, True), (0, True), (3, False)])
    scores = evaluate((sample, make_result(np.ones((10, 12), np.int32), [0])))
    assert scores.per_class["class0"].fp == 0  # a third on each crowd: more than half only in all


def test_bad_arguments():
    sample, result = make_sample(halves(1, 1), [(0, False)]), make_result(halves(1, 1), [0])
    with pytest.raises(ValueError, match=r"result: expected a map of \[10, 20\] for name, got \[5, 20\]"):
        evaluate((sample, make_result(halves(1, 1)[:5], [0])))
    with pytest.raises(ValueError, match="result: expected 2 classes, got 4"):
        PanopticEvaluator(CLASSES[:2]).update(sample, result)
    with pytest.raises(ValueError, match="ids: expected ids of segments, got 1"):
        evaluate((sample, make_result(halves(1, 1), [])))
