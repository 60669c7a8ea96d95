"""Average precision of boxes and of masks (COCO's detection metrics), matched image by image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hotcoco import StreamingEval, mask

from lpsnet.categories import Category
from lpsnet.data.sample import Sample
from lpsnet.evaluation.run_lengths import run_lengths
from lpsnet.structures import Detections, PanopticResult

MAX_DETECTIONS = 100
"""COCO scores so many detections of an image and class, the best ones."""
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)
_IOU_50, _IOU_75 = 0, 5


@dataclass(frozen=True)
class DetectionScores:
    """Of a data set, in percent; NaN where the truth has no object that counts.

    Attributes:
        ap: mean over the classes in the truth and over the IoU thresholds 0.50, 0.55 .. 0.95.
        ap50, ap75: at that IoU.
        ap_small, ap_medium, ap_large: of objects whose mask has less than 32^2 pixels, up to 96^2, and more.
        per_class: `ap` by the name of each thing class.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    per_class: dict[str, float]


class _Evaluator:
    """Matches the detections of an image as it comes.

    What is kept is the score and the matches of each detection, 20 to 45 bytes, no box and no mask: some 21 MB for 5000
    images with 100 detections each.
    """

    def __init__(self, categories: Sequence[Category], iou_type: str) -> None:
        self._things = {label: c.name for label, c in enumerate(categories) if c.isthing}
        self._images = 0
        rows = [{"id": label + 1, "name": name} for label, name in self._things.items()]
        self._stream = StreamingEval(rows, iou_type)

    def _update(self, sample: Sample, truth: list[dict[str, Any]], detections: list[dict[str, Any]]) -> None:
        self._images += 1
        height, width = sample.ids.shape
        image = {"id": self._images, "height": height, "width": width}
        for row in (*truth, *detections):
            row["image_id"] = self._images
        self._stream.update([image], truth, detections)

    def size(self) -> int:
        """Bytes of what is kept of all images so far."""
        return len(self._stream.to_bytes())

    def summary(self) -> DetectionScores:
        """The scores of all images so far."""
        # A copy is finished, so that more images may follow.
        evaluation = StreamingEval.from_bytes(self._stream.to_bytes()).finalize()
        evaluation.accumulate()
        # [IoU threshold, recall, class, area, number of detections]; -1 where the truth has none.
        precision = evaluation.eval["precision"][..., -1]  # type: ignore[index]
        return DetectionScores(
            _mean(precision[..., _ALL]),
            _mean(precision[_IOU_50, ..., _ALL]),
            _mean(precision[_IOU_75, ..., _ALL]),
            _mean(precision[..., _SMALL]),
            _mean(precision[..., _MEDIUM]),
            _mean(precision[..., _LARGE]),
            {name: _mean(precision[:, :, i, _ALL]) for i, name in enumerate(self._things.values())},
        )


class BoxEvaluator(_Evaluator):
    """Box AP of the detections before they were pasted.

    The truth are the tight boxes of the panoptic segments. An object of COCO that another one covers in part has a
    larger box in COCO's own detection annotations, so this is not exactly COCO's box AP.
    """

    def __init__(self, categories: Sequence[Category]) -> None:
        super().__init__(categories, "bbox")

    def update(self, sample: Sample, detections: Detections) -> None:
        """Adds one image."""
        truth = _truth(sample, self._things)
        for row in truth:
            row["bbox"] = mask.to_bbox(row.pop("segmentation")).tolist()
        boxes = detections.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        found = zip(boxes.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True)
        self._update(
            sample, truth, [{"bbox": box, "score": score, "category_id": label + 1} for box, score, label in found]
        )


class MaskEvaluator(_Evaluator):
    """Mask AP of the pasted instances.

    The network has no masks of its own: an instance's mask are the pixels that the panoptic head gives to its box, its
    score is the box's. So masks do not overlap, and boxes below `paste_score` have none.
    """

    def __init__(self, categories: Sequence[Category]) -> None:
        super().__init__(categories, "segm")

    def update(self, sample: Sample, result: PanopticResult) -> None:
        """Adds one image."""
        masks = _masks(result.ids)
        found = [
            {"segmentation": masks[s.id], "score": s.score, "category_id": s.label + 1}
            for s in result.segments
            if s.label in self._things and s.id in masks
        ]
        self._update(sample, _truth(sample, self._things), found)


def _truth(sample: Sample, things: dict[int, str]) -> list[dict[str, Any]]:
    masks = _masks(sample.ids)
    return [
        {
            "id": key,
            "category_id": segment.label + 1,
            "iscrowd": int(segment.iscrowd),
            "area": float(sum(masks[key]["counts"][1::2])),
            "segmentation": masks[key],
        }
        for key, segment in enumerate(sample.segments, 1)
        if segment.label in things and key in masks
    ]


def _masks(ids: np.ndarray) -> dict[int, dict[str, Any]]:
    return {key: {"size": list(ids.shape), "counts": counts} for key, counts in run_lengths(ids).items()}


def _mean(precision: np.ndarray) -> float:
    counted = precision[precision > -1]
    return 100 * float(counted.mean()) if counted.size else math.nan
