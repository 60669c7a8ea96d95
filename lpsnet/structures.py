"""What passes between the parts of the project: validated dataclasses, free of torch at import."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lpsnet.categories import Category

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DenseOutputs:
    """What the dense network computes of a batch.

    Attributes:
        logits: float32[N, C, H / 4, W / 4], semantic logits; of 16 bits where a network was told so.
        ltrb: per level float32[N, 4, h, w], distances from the point to the left, top, right and bottom side of its
            box in input pixels, at least 0.
        borderness: per level float32[N, h, w]: probabilities, or logits in what the heads hand to the losses.
    """

    logits: "Tensor"
    ltrb: "tuple[Tensor, ...]"
    borderness: "tuple[Tensor, ...]"

    def __post_init__(self) -> None:
        if self.logits.ndim != 4:
            raise ValueError(f"logits: expected [N, C, H, W], got {list(self.logits.shape)}")
        if len(self.ltrb) != len(self.borderness):
            raise ValueError(f"ltrb, borderness: expected as many levels, got {len(self.ltrb)}, {len(self.borderness)}")
        for ltrb, borderness in zip(self.ltrb, self.borderness, strict=True):
            n, _, h, w = ltrb.shape
            if ltrb.shape[1] != 4 or tuple(borderness.shape) != (n, h, w):
                raise ValueError(
                    "ltrb, borderness: expected [N, 4, h, w] and [N, h, w], "
                    f"got {list(ltrb.shape)} and {list(borderness.shape)}"
                )


@dataclass(frozen=True)
class Detections:
    """Boxes by descending score.

    Attributes:
        boxes: float32[K, 4], xyxy in pixels of the output.
        scores: float32[K].
        labels: int32[K], index of the class.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        k = len(self.scores)
        if self.boxes.shape != (k, 4) or self.scores.shape != (k,) or self.labels.shape != (k,):
            raise ValueError(
                "boxes, scores, labels: expected [K, 4], [K], [K], "
                f"got {self.boxes.shape}, {self.scores.shape}, {self.labels.shape}"
            )

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Segment:
    """One region of a panoptic map.

    Attributes:
        id: its value in the map, from 1.
        label: index of its class.
        score: of its box; 1 for stuff.
        area: in pixels.
        box: x1, y1, x2, y2, the tight box in pixels, x2 and y2 exclusive.
    """

    id: int
    label: int
    score: float
    area: int
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class PanopticResult:
    """The panoptic map of one image.

    Attributes:
        ids: int32[H, W], id of the segment of each pixel; 0 is void.
        segments: things by descending score, then stuff by class.
        categories: the classes that `Segment.label` counts.
        detections: the boxes before they were pasted.
        timings: milliseconds per stage, in the order they ran.
    """

    ids: np.ndarray
    segments: tuple[Segment, ...]
    categories: tuple[Category, ...]
    detections: Detections | None = None
    timings: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or self.ids.dtype != np.int32:
            raise ValueError(f"ids: expected int32 [H, W], got {self.ids.dtype} {list(self.ids.shape)}")
        for segment in self.segments:
            if not 0 <= segment.label < len(self.categories):
                raise ValueError(f"segments: expected labels below {len(self.categories)}, got {segment.label}")

    @property
    def segmentation(self) -> np.ndarray:
        """The map under the name that Hugging Face's panoptic post-processing gives it."""
        return self.ids

    @property
    def segments_info(self) -> list[dict[str, Any]]:
        """The segments in the form of Hugging Face's panoptic post-processing, with a few fields more."""
        return [
            {
                "id": s.id,
                "label_id": s.label,
                "was_fused": False,
                "score": s.score,
                "label": self.categories[s.label].name,
                "isthing": self.categories[s.label].isthing,
                "area": s.area,
                "bbox": [s.box[0], s.box[1], s.box[2] - s.box[0], s.box[3] - s.box[1]],
            }
            for s in self.segments
        ]

    def labels(self, void: int = 255) -> np.ndarray:
        """uint8[H, W], the class of each pixel."""
        table = np.full(len(self.segments) + 1, void, np.uint8)
        for segment in self.segments:
            table[segment.id] = segment.label
        return table[self.ids]
