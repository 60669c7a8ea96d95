"""The steps around the dense network, over numpy arrays: what evaluation and every backend share. No torch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from lpsnet import native
from lpsnet.categories import Category
from lpsnet.config import BOX_STRIDES, SEMANTIC_STRIDE, InputConfig, PostprocessConfig
from lpsnet.structures import Detections, PanopticResult

if TYPE_CHECKING:
    from lpsnet.structures import DenseOutputs


@dataclass
class StageTimer:
    """Milliseconds per stage, in the order they ran.

    >>> timer = StageTimer()
    >>> with timer("decode"):
    ...     pass
    >>> list(timer.timings)
    ['decode']
    """

    timings: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = perf_counter()
        yield
        self.timings[stage] = 1e3 * (perf_counter() - start)


@dataclass(frozen=True)
class NetworkInput:
    """An image as the network takes it.

    Attributes:
        images: float32[1, 3, H, W], normalised, padded at the bottom and at the right.
        image_size: (height, width) of the part of it that is image.
        output_size: (height, width) of the image before the resize, and of the panoptic map.
    """

    images: np.ndarray
    image_size: tuple[int, int]
    output_size: tuple[int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """(y, x), input pixels per output pixel."""
        return self.image_size[0] / self.output_size[0], self.image_size[1] / self.output_size[1]


@dataclass(frozen=True)
class DenseArrays:
    """What the dense network computes of one image.

    Attributes:
        logits: float32[C, H / 4, W / 4].
        ltrb: per level float32[4, h, w], pixels of the network's input.
        borderness: per level float32[h, w], probabilities.
    """

    logits: np.ndarray
    ltrb: Sequence[np.ndarray]
    borderness: Sequence[np.ndarray]

    @classmethod
    def of(cls, outputs: "DenseOutputs", index: int = 0) -> "DenseArrays":
        """Those of one image of a batch."""
        return cls(
            outputs.logits[index].contiguous().cpu().numpy(),
            [t[index].contiguous().cpu().numpy() for t in outputs.ltrb],
            [t[index].contiguous().cpu().numpy() for t in outputs.borderness],
        )


def prepare(image: np.ndarray, config: InputConfig) -> NetworkInput:
    """Resizes, normalises and pads an image, uint8[H, W, 3] RGB. Raises ValueError for any other."""
    expect_image(image)
    resized = config.resized(*image.shape[:2])
    pixels = native.resize_normalize(image, resized, config.padded(*resized), config.mean, config.std)
    return NetworkInput(pixels[None], resized, (image.shape[0], image.shape[1]))


def expect_image(image: np.ndarray) -> None:
    """Raises ValueError unless the image is uint8[H, W, 3] and not empty."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(f"image: expected uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")


def semantic_labels(dense: DenseArrays, prepared: NetworkInput, allowed: np.ndarray | None = None) -> np.ndarray:
    """uint8[H, W], the best class of every pixel of the image; `allowed`, bool[C], restricts the classes."""
    scale_y, scale_x = prepared.scale
    scale = (scale_y / SEMANTIC_STRIDE, scale_x / SEMANTIC_STRIDE)
    return native.upsample_argmax(dense.logits, prepared.output_size, scale, allowed)


@dataclass(frozen=True)
class BoxCandidates:
    """Boxes in pixels of a network's input.

    Attributes:
        boxes: float32[N, 4], xyxy.
        scores: float32[N].
        labels: int32[N], index of the class.
        levels: int32[N], index into `BOX_STRIDES`: the level whose border-ness a box is compared with.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    levels: np.ndarray

    def take(self, indices: np.ndarray) -> "BoxCandidates":
        """Those at these indices, in their order."""
        return BoxCandidates(self.boxes[indices], self.scores[indices], self.labels[indices], self.levels[indices])


@dataclass(frozen=True)
class HeadInputs:
    """What the panoptic head makes a panoptic map of.

    Attributes:
        labels: uint8[H, W], the class of each pixel of the image.
        stuff_labels: uint8[H, W], the best stuff class of each pixel; None unless `fill_stuff` is set.
        boxes: after the suppression, best first.
        borderness: per level float32[h, w], probabilities.
        prepared: the input of the network that boxes and border-ness refer to.
    """

    labels: np.ndarray
    stuff_labels: np.ndarray | None
    boxes: BoxCandidates
    borderness: Sequence[np.ndarray]
    prepared: NetworkInput


def decode(
    dense: DenseArrays, prepared: NetworkInput, categories: Sequence[Category], config: PostprocessConfig
) -> BoxCandidates:
    """The boxes that the network sees, level after level, before any suppression."""
    return BoxCandidates(
        *native.decode(
            dense.logits,
            _is_thing(categories),
            dense.ltrb,
            dense.borderness,
            BOX_STRIDES,
            prepared.image_size,
            config.score_threshold,
            config.topk,
            config.score_fusion,
        )
    )


def suppress(candidates: BoxCandidates, config: PostprocessConfig) -> BoxCandidates:
    """The boxes that are left of the candidates, best first, `config.max_detections` at most."""
    kept = native.nms(
        candidates.boxes, candidates.scores, candidates.labels, config.iou_threshold, config.max_detections
    )
    return candidates.take(kept)


def stuff_labels(
    dense: DenseArrays, prepared: NetworkInput, categories: Sequence[Category], config: PostprocessConfig
) -> np.ndarray | None:
    """`HeadInputs.stuff_labels`."""
    return semantic_labels(dense, prepared, 1 - _is_thing(categories)) if config.fill_stuff else None


def paste(inputs: HeadInputs, categories: Sequence[Category], config: PostprocessConfig) -> PanopticResult:
    """The panoptic head: boxes pasted onto the label map."""
    boxes, prepared = inputs.boxes, inputs.prepared
    ids, table = native.paste_boxes(
        inputs.labels,
        _is_thing(categories),
        boxes.boxes,
        boxes.scores,
        boxes.labels,
        boxes.levels,
        inputs.borderness,
        BOX_STRIDES,
        prepared.scale,
        config.paste_score,
        config.overlap_threshold,
        config.assignment,
        native.output_area_limit(config.stuff_area_limit, prepared.image_size, prepared.output_size),
        inputs.stuff_labels,
    )
    return PanopticResult(ids, table.segments(), tuple(categories), detections(boxes, prepared))


def detections(boxes: BoxCandidates, prepared: NetworkInput) -> Detections:
    """The boxes in pixels of the image."""
    return scaled_detections(boxes.boxes, boxes.scores, boxes.labels, prepared.scale)


def postprocess_by_stage(
    dense: DenseArrays,
    prepared: NetworkInput,
    categories: Sequence[Category],
    config: PostprocessConfig,
    timer: StageTimer,
) -> PanopticResult:
    """Like `postprocess`, one operator at a time, each timed."""
    with timer("decode"):
        candidates = decode(dense, prepared, categories, config)
    with timer("nms"):
        boxes = suppress(candidates, config)
    with timer("upsample_argmax"):
        labels = semantic_labels(dense, prepared)
        stuff = stuff_labels(dense, prepared, categories, config)
    with timer("paste_boxes"):
        return paste(HeadInputs(labels, stuff, boxes, dense.borderness, prepared), categories, config)


def postprocess(
    dense: DenseArrays, prepared: NetworkInput, categories: Sequence[Category], config: PostprocessConfig
) -> PanopticResult:
    """The panoptic map from the dense outputs, in one call of liblpsnet."""
    (boxes, scores, labels), ids, table = native.postprocess(
        dense.logits,
        _is_thing(categories),
        dense.ltrb,
        dense.borderness,
        prepared.image_size,
        prepared.output_size,
        config,
    )
    return PanopticResult(
        ids, table.segments(), tuple(categories), scaled_detections(boxes, scores, labels, prepared.scale)
    )


def scaled_detections(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, scale: tuple[float, float]
) -> Detections:
    """Boxes in pixels of the network's input as boxes in pixels of the image; `scale` is `NetworkInput.scale`."""
    return Detections(boxes / np.tile(scale[::-1], 2).astype(np.float32), scores, labels)


def _is_thing(categories: Sequence[Category]) -> np.ndarray:
    return np.array([c.isthing for c in categories], np.uint8)
