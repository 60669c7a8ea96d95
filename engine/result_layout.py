"""Where the parts of a panoptic map lie in memory that is copied at once. No torch, but for those who have tensors."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lpsnet.categories import Category
from lpsnet.inference import scaled_detections
from lpsnet.native.paste_boxes import SegmentTable
from lpsnet.structures import PanopticResult

if TYPE_CHECKING:
    from torch import Tensor

_ALIGNMENT = 64
"""Every field starts at a multiple of so many words of 4 bytes: what any vector load wants."""


class ResultFields(NamedTuple):
    """What `lpsnet.ops.postprocess` returns, as tensors or as arrays: M detections at most, C classes.

    Attributes:
        boxes: float32[M, 4], xyxy in pixels of the network's input, by descending score, then padding.
        scores: float32[M].
        labels: int32[M].
        num_detections: int32[1], rows of the three before that are filled.
        ids: int32[H, W], 0 for void.
        segment_labels: int32[M + C], of id 1, 2, ...
        segment_scores: float32[M + C].
        segment_areas: int32[M + C], pixels.
        segment_boxes: int32[M + C, 4], tight xyxy in pixels of the map.
        num_segments: int32[1], rows of the four before that are filled.
    """

    boxes: Any
    scores: Any
    labels: Any
    num_detections: Any
    ids: Any
    segment_labels: Any
    segment_scores: Any
    segment_areas: Any
    segment_boxes: Any
    num_segments: Any


class ResultLayout:
    """Where the fields of a result lie in one block of memory, so that it is copied at once.

    Attributes:
        words: int32 words of a block.
    """

    def __init__(self, num_classes: int, max_detections: int, output_size: tuple[int, int]) -> None:
        most = max(0, max_detections)  # the operator says what is wrong with less
        rows = most + num_classes
        integer, real = np.dtype(np.int32), np.dtype(np.float32)
        detections = ((real, (most, 4)), (real, (most,)), (integer, (most,)), (integer, (1,)))
        segments = ((integer, (rows,)), (real, (rows,)), (integer, (rows,)), (integer, (rows, 4)), (integer, (1,)))
        self._fields = (*detections, (integer, output_size), *segments)
        self._starts = [0]
        for _, shape in self._fields:
            self._starts.append(self._starts[-1] + -(-math.prod(shape) // _ALIGNMENT) * _ALIGNMENT)
        self.words = self._starts[-1]

    @property
    def starts(self) -> list[int]:
        """Of each field, in words."""
        return self._starts[:-1]

    def tensors(self, block: "Tensor") -> ResultFields:
        """The fields of int32[words], where they lie."""
        import torch

        dtypes = {np.dtype(np.int32): torch.int32, np.dtype(np.float32): torch.float32}
        return ResultFields(
            *(
                block[start : start + math.prod(shape)].view(dtypes[dtype]).view(shape)
                for start, (dtype, shape) in zip(self._starts, self._fields, strict=False)
            )
        )

    def arrays(self, block: np.ndarray) -> ResultFields:
        """The same over an array."""
        return ResultFields(
            *(
                block[start : start + math.prod(shape)].view(dtype).reshape(shape)
                for start, (dtype, shape) in zip(self._starts, self._fields, strict=False)
            )
        )


def panoptic_result(fields: ResultFields, categories: Sequence[Category], scale: tuple[float, float]) -> PanopticResult:
    """The panoptic map of arrays, which it keeps; `scale` is (y, x), pixels of the network's input per pixel of the
    image."""
    found = int(fields.num_detections[0])
    table = SegmentTable(
        fields.segment_labels, fields.segment_scores, fields.segment_areas, fields.segment_boxes
    ).first(int(fields.num_segments[0]))
    detections = scaled_detections(
        fields.boxes[:found], fields.scores[:found].copy(), fields.labels[:found].copy(), scale
    )
    return PanopticResult(fields.ids, table.segments(), tuple(categories), detections)
