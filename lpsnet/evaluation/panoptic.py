"""Panoptic quality (Kirillov et al., Panoptic Segmentation, CVPR 2019), counted image by image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hotcoco import COCO, metrics
from hotcoco.panoptic import PanopticEval

from lpsnet.categories import Category
from lpsnet.data.sample import Sample
from lpsnet.evaluation.run_lengths import run_lengths
from lpsnet.structures import PanopticResult


@dataclass(frozen=True)
class ClassQuality:
    """Of one class.

    Attributes:
        pq, sq, rq: in percent; NaN where the class is neither in the truth nor predicted.
        tp: pairs of a true and a predicted segment that match: their IoU is above 0.5.
        fp: predicted segments without a match, but for those that lie mostly on void or on a crowd of the class.
        fn: true segments without a match; crowds do not count.
        iou: sum over the matches.
    """

    pq: float
    sq: float
    rq: float
    tp: int
    fp: int
    fn: int
    iou: float


@dataclass(frozen=True)
class PanopticScores:
    """Of a data set: means over the classes that are in the truth or predicted, in percent; NaN where there are none.

    Attributes:
        pq, sq, rq: over all such classes.
        pq_thing, sq_thing, rq_thing: over the things.
        pq_stuff, sq_stuff, rq_stuff: over the stuff.
        images: number of images.
        per_class: by the name of the class, all of them, in the order of the categories.
    """

    pq: float
    sq: float
    rq: float
    pq_thing: float
    sq_thing: float
    rq_thing: float
    pq_stuff: float
    sq_stuff: float
    rq_stuff: float
    images: int
    per_class: dict[str, ClassQuality]


class PanopticEvaluator:
    """Adds up matches over a data set; what it keeps does not grow with the number of images.

    hotcoco, which is checked against the reference implementation of the metric, matches the segments of one image at a
    time. It gets them as run lengths, so no PNG is written.

    Args:
        categories: of the labels, in their order.
    """

    def __init__(self, categories: Sequence[Category]) -> None:
        self._categories = tuple(categories)
        self._rows = [{"id": i, "name": c.name, "isthing": int(c.isthing)} for i, c in enumerate(self._categories)]
        self._counts = np.zeros((len(self._categories), 3), np.int64)
        self._iou = np.zeros(len(self._categories))
        self._images = 0

    def update(self, sample: Sample, result: PanopticResult) -> PanopticScores:
        """Adds one image, and returns the scores of it alone.

        Void pixels of the truth count for no segment. Crowds of one class count as one region, where the
        reference implementation reads the last of them only; COCO has at most one in an image.

        Raises:
            ValueError: maps of different sizes, other classes than the evaluator's, or ids without a segment.
        """
        if sample.ids.shape != result.ids.shape:
            raise ValueError(
                f"result: expected a map of {list(sample.ids.shape)} for {sample.name}, got {list(result.ids.shape)}"
            )
        if len(result.categories) != len(self._categories):
            raise ValueError(f"result: expected {len(self._categories)} classes, got {len(result.categories)}")
        true_ids, true_segments = _merge_crowds(sample)
        predicted = {segment.id: (segment.label, False) for segment in result.segments}
        evaluation = PanopticEval(self._coco(true_ids, true_segments), self._coco(result.ids, predicted))
        evaluation.evaluate()
        per_class = evaluation.results()["per_class"]
        rows = [per_class[index] for index in range(len(self._categories))]
        counts = np.array([(row["tp"], row["fp"], row["fn"]) for row in rows], np.int64)
        iou = np.array([row["iou"] for row in rows])
        self._counts += counts
        self._iou += iou
        self._images += 1
        return self._scores(counts, iou, 1)

    def summary(self) -> PanopticScores:
        """The scores of all images so far."""
        return self._scores(self._counts, self._iou, self._images)

    def _scores(self, counts: np.ndarray, iou: np.ndarray, images: int) -> PanopticScores:
        per_class = [_quality(*row) for row in zip(iou.tolist(), *counts.T.tolist(), strict=True)]
        isthing = np.array([c.isthing for c in self._categories], bool)
        table = np.array([(q.pq, q.sq, q.rq) for q in per_class]).reshape(-1, 3)
        return PanopticScores(
            *_mean(table),
            *_mean(table[isthing]),
            *_mean(table[~isthing]),
            images=images,
            per_class={c.name: quality for c, quality in zip(self._categories, per_class, strict=True)},
        )

    def _coco(self, ids: np.ndarray, segments: dict[int, tuple[int, bool]]) -> COCO:
        runs = run_lengths(ids)
        stray = set(runs) - set(segments)
        if stray:
            raise ValueError(f"ids: expected ids of segments, got {min(stray)}")
        height, width = ids.shape
        annotations = [
            {
                "id": key,
                "image_id": 1,
                "category_id": segments[key][0],
                "iscrowd": int(segments[key][1]),
                "segmentation": {"size": [height, width], "counts": counts},
            }
            for key, counts in runs.items()
        ]
        image = {"id": 1, "file_name": "image", "height": height, "width": width}
        return COCO({"images": [image], "categories": self._rows, "annotations": annotations})


def _merge_crowds(sample: Sample) -> tuple[np.ndarray, dict[int, tuple[int, bool]]]:
    table = np.arange(len(sample.segments) + 1, dtype=np.int32)
    crowd_of: dict[int, int] = {}
    for key, segment in enumerate(sample.segments, 1):
        if segment.iscrowd:
            table[key] = crowd_of.setdefault(segment.label, key)
    segments = {key: (segment.label, segment.iscrowd) for key, segment in enumerate(sample.segments, 1)}
    return table[sample.ids], segments


def _quality(iou: float, tp: int, fp: int, fn: int) -> ClassQuality:
    if tp + fp + fn == 0:
        return ClassQuality(math.nan, math.nan, math.nan, 0, 0, 0, 0.0)
    pq, sq, rq = metrics.panoptic_quality(iou, tp, fp, fn)
    return ClassQuality(100 * pq, 100 * sq, 100 * rq, tp, fp, fn, float(iou))


def _mean(rows: np.ndarray) -> tuple[float, float, float]:
    counted = rows[~np.isnan(rows[:, 0])]
    if len(counted) == 0:
        return math.nan, math.nan, math.nan
    pq, sq, rq = counted.mean(0).tolist()
    return pq, sq, rq
