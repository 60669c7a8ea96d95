"""Box and mask AP against plain loops over COCO's definition, which share nothing with the evaluator."""

import math

import numpy as np
import pytest

from lpsnet.categories import Category
from lpsnet.data.sample import Sample, TrueSegment
from lpsnet.evaluation.detection import BoxEvaluator, DetectionScores, MaskEvaluator
from lpsnet.structures import Detections, PanopticResult, Segment

CLASSES = tuple(Category(10 * i, f"class{i}", i != 1, (0, 0, 0)) for i in range(4))
THINGS = [i for i, c in enumerate(CLASSES) if c.isthing]
SIZE = (110, 130)
AREAS = {"all": (0, math.inf), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, math.inf)}
THRESHOLDS = [0.5 + 0.05 * i for i in range(10)]


def box_iou(a, b, iscrowd: bool) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = box_area(a) if iscrowd else box_area(a) + box_area(b) - shared
    return shared / union if union else 0.0


def box_area(box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def mask_iou(a, b, iscrowd: bool) -> float:
    shared = (a & b).sum()
    union = a.sum() if iscrowd else (a | b).sum()
    return shared / union if union else 0.0


def slow_precision(images, label: int, threshold: float, area: str, iou) -> float | None:
    """AP of one class: `images` are pairs of (shape, area, label, iscrowd) and (shape, area, label, score) lists."""
    low, high = AREAS[area]
    scored, objects = [], 0
    for truth, found in images:
        truth = [(shape, crowd, crowd or not low <= size <= high) for shape, size, of, crowd in truth if of == label]
        truth.sort(key=lambda t: t[2])  # those that count first
        objects += sum(not ignored for _, _, ignored in truth)
        taken = set()
        found = sorted((f for f in found if f[2] == label), key=lambda f: -f[3])[:100]
        for shape, size, _, score in found:
            best, match = threshold, None
            for i, (other, crowd, ignored) in enumerate(truth):
                if i in taken and not crowd:
                    continue
                if match is not None and not truth[match][2] and ignored:
                    break
                overlap = iou(shape, other, crowd)
                if overlap >= best:
                    best, match = overlap, i
            if match is not None:
                taken.add(match)
                if not truth[match][2]:
                    scored.append((score, True))
            elif low <= size <= high:
                scored.append((score, False))
    if objects == 0:
        return None
    scored.sort(key=lambda s: -s[0])
    recalls, precisions, hits = [], [], 0
    for count, (_, hit) in enumerate(scored, 1):
        hits += hit
        recalls.append(hits / objects)
        precisions.append(hits / count)
    total = 0.0
    for point in range(101):
        total += max((p for p, r in zip(precisions, recalls, strict=True) if r >= point / 100), default=0.0)
    return total / 101


def slow_scores(images, iou) -> list[float]:
    def mean(labels, thresholds, area: str) -> float:
        values = [slow_precision(images, label, t, area, iou) for label in labels for t in thresholds]
        values = [v for v in values if v is not None]
        return 100 * sum(values) / len(values) if values else math.nan

    return [
        mean(THINGS, THRESHOLDS, "all"),
        mean(THINGS, THRESHOLDS[:1], "all"),
        mean(THINGS, THRESHOLDS[5:6], "all"),
        *(mean(THINGS, THRESHOLDS, area) for area in ("small", "medium", "large")),
        *(mean([label], THRESHOLDS, "all") for label in THINGS),
    ]


def listed(scores: DetectionScores) -> list[float]:
    assert list(scores.per_class) == [CLASSES[i].name for i in THINGS]
    overall = [scores.ap, scores.ap50, scores.ap75, scores.ap_small, scores.ap_medium, scores.ap_large]
    return [*overall, *scores.per_class.values()]


def random_ids(rng: np.random.Generator, count: int) -> np.ndarray:
    ids = np.zeros(SIZE, np.int32)
    for i in range(1, count + 1):
        side = rng.choice([8, 25, 60, 105])
        y, x, h, w = rng.integers(0, 70), rng.integers(0, 70), *rng.integers(side // 2, side + 1, 2)
        ids[y : y + h, x : x + w] = i
    return ids


def make_sample(ids: np.ndarray, segments: list[tuple[int, bool]]) -> Sample:
    return Sample("name", np.zeros((*ids.shape, 3), np.uint8), ids, tuple(TrueSegment(*s) for s in segments))


def make_result(ids: np.ndarray, segments: list[tuple[int, float]]) -> PanopticResult:
    rows = tuple(Segment(i, label, score, 1, (0, 0, 1, 1)) for i, (label, score) in enumerate(segments, 1))
    return PanopticResult(ids, rows, CLASSES)


def tight_box(mask: np.ndarray) -> tuple[float, ...]:
    rows, columns = np.nonzero(mask)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def random_sample(rng: np.random.Generator) -> Sample:
    count = int(rng.integers(0, 7))
    return make_sample(
        random_ids(rng, count), [(int(rng.integers(0, 3)), bool(rng.random() < 0.2)) for _ in range(count)]
    )


def true_masks(sample: Sample) -> list[tuple]:
    masks = [(sample.ids == i, s) for i, s in enumerate(sample.segments, 1)]
    return [(m, m.sum(), s.label, s.iscrowd) for m, s in masks if m.any() and CLASSES[s.label].isthing]


def random_score(rng: np.random.Generator) -> float:
    return float(np.float32(rng.choice([0.5, 0.75]) if rng.random() < 0.2 else rng.random()))


@pytest.mark.parametrize("seed", range(6))
def test_box_ap_equals_the_definition(seed):
    rng = np.random.default_rng(seed)
    evaluator, images = BoxEvaluator(CLASSES), []
    for _ in range(6):
        sample = random_sample(rng)
        truth = [(tight_box(m), area, label, crowd) for m, area, label, crowd in true_masks(sample)]
        boxes, labels = [], []
        for box, _, label, _ in truth * 2:
            if rng.random() < 0.7:
                boxes.append(np.array(box) + rng.normal(0, 2, 4))
                labels.append(label if rng.random() < 0.8 else int(rng.choice(THINGS)))
        for _ in range(rng.integers(0, 4)):
            x, y, w, h = rng.uniform(0, 60, 4)
            boxes.append(np.array([x, y, x + w, y + h]))
            labels.append(int(rng.choice(THINGS)))  # class 3 is never in the truth
        scores = [random_score(rng) for _ in boxes]
        order = sorted(range(len(boxes)), key=lambda i: -scores[i])
        detections = Detections(
            np.array([boxes[i] for i in order], np.float32).reshape(-1, 4),
            np.array([scores[i] for i in order], np.float32),
            np.array([labels[i] for i in order], np.int32),
        )
        evaluator.update(sample, detections)
        rows = zip(detections.boxes.astype(float).tolist(), detections.labels, detections.scores, strict=True)
        images.append((truth, [(box, box_area(box), label, float(score)) for box, label, score in rows]))
    expected = slow_scores(images, box_iou)
    assert listed(evaluator.summary()) == pytest.approx(expected, nan_ok=True, abs=1e-9)
    assert 0 < expected[0] < 100
    assert math.isnan(expected[-1])


@pytest.mark.parametrize("seed", range(6))
def test_mask_ap_equals_the_definition(seed):
    rng = np.random.default_rng(100 + seed)
    evaluator, images = MaskEvaluator(CLASSES), []
    for _ in range(6):
        sample = random_sample(rng)
        ids = np.roll(sample.ids, rng.integers(-3, 4, 2), (0, 1))
        count = len(sample.segments)
        if rng.random() < 0.3:
            count = int(rng.integers(0, 6))
            ids = random_ids(rng, count)
        labels = [
            sample.segments[i].label if i < len(sample.segments) and rng.random() < 0.8 else int(rng.integers(0, 4))
            for i in range(count)
        ]
        segments = sorted(
            ((label, random_score(rng) if CLASSES[label].isthing else 1.0) for label in labels), key=lambda s: -s[1]
        )
        result = make_result(ids, segments)
        evaluator.update(sample, result)
        masks = [(ids == i, label, score) for i, (label, score) in enumerate(segments, 1)]
        found = [(m, m.sum(), label, score) for m, label, score in masks if m.any() and CLASSES[label].isthing]
        images.append((true_masks(sample), found))
    expected = slow_scores(images, mask_iou)
    assert listed(evaluator.summary()) == pytest.approx(expected, nan_ok=True, abs=1e-9)
    assert expected[1] > 0


def square(label: int = 0, iscrowd: bool = False, side: int = 40) -> Sample:
    ids = np.zeros(SIZE, np.int32)
    ids[10 : 10 + side, 10 : 10 + side] = 1
    return make_sample(ids, [(label, iscrowd)])


def boxes_of(*rows: tuple[tuple[float, ...], float, int]) -> Detections:
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(labels, np.int32)
    )


def box_scores(*pairs: tuple[Sample, Detections]) -> DetectionScores:
    evaluator = BoxEvaluator(CLASSES)
    for pair in pairs:
        evaluator.update(*pair)
    return evaluator.summary()


def test_the_truth_itself_is_perfect():
    sample = square()
    scores = box_scores((sample, boxes_of(((10, 10, 50, 50), 0.1, 0))))
    assert (scores.ap, scores.ap50, scores.ap75, scores.ap_medium) == pytest.approx((100,) * 4)
    assert math.isnan(scores.ap_small)
    assert math.isnan(scores.per_class["class2"])
    evaluator = MaskEvaluator(CLASSES)
    evaluator.update(sample, make_result(sample.ids, [(0, 0.1)]))
    assert evaluator.summary().ap == pytest.approx(100)


def test_nothing_found_and_nothing_to_find():
    assert box_scores((square(), boxes_of())).ap == 0
    assert math.isnan(box_scores().ap)
    empty = make_sample(np.zeros(SIZE, np.int32), [])
    assert math.isnan(box_scores((empty, boxes_of(((0, 0, 9, 9), 1, 0)))).ap)
    stuff = box_scores((square(label=1), boxes_of(((10, 10, 50, 50), 1, 0))))
    assert math.isnan(stuff.ap)


def test_a_false_box_on_another_image_costs_precision():
    empty = make_sample(np.zeros(SIZE, np.int32), [])
    right, wrong = ((10, 10, 50, 50), 0.5, 0), ((10, 10, 50, 50), 0.9, 0)
    assert box_scores((square(), boxes_of(right)), (empty, boxes_of(wrong))).ap == pytest.approx(50)


def test_boxes_on_a_crowd_do_not_count():
    sample = square(iscrowd=True, side=90)
    inside = boxes_of(((20, 20, 40, 40), 0.9, 0), ((50, 50, 80, 80), 0.8, 0))
    with_object = box_scores((square(), boxes_of(((10, 10, 50, 50), 0.5, 0))), (sample, inside))
    assert with_object.ap == pytest.approx(100)


def test_the_101st_box_of_an_image_is_not_scored():
    wrong = [((80, 80, 90, 90), 0.9, 0)] * 100
    assert box_scores((square(), boxes_of(*wrong, ((10, 10, 50, 50), 0.1, 0)))).ap == 0
    assert box_scores((square(), boxes_of(*wrong[1:], ((10, 10, 50, 50), 0.1, 0)))).ap == pytest.approx(1)


def test_a_summary_does_not_end_the_evaluation():
    evaluator = BoxEvaluator(CLASSES)
    evaluator.update(square(), boxes_of(((10, 10, 50, 50), 0.5, 0)))
    assert evaluator.summary().ap == evaluator.summary().ap == pytest.approx(100)
    evaluator.update(square(), boxes_of())
    assert evaluator.summary().ap == pytest.approx(100 * 51 / 101)


def test_classes_without_things():
    stuff = tuple(c for c in CLASSES if not c.isthing)
    evaluator = BoxEvaluator(stuff)
    evaluator.update(make_sample(np.zeros(SIZE, np.int32), []), boxes_of())
    assert math.isnan(evaluator.summary().ap)
    assert evaluator.summary().per_class == {}
