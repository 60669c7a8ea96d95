"""One image seen several times, at other sizes and mirrored: the views merged into what the panoptic head takes.

The reference is the unmirrored view at the scale nearest to 1. All that the head takes is in its frame:

- Semantics: the softmax of each view, read bilinearly at the cells of the reference's logits, and averaged. What is
  upsampled is the logarithm of that mean, as the logits are where there is one view.
- Boxes: each view is decoded by itself, its class probabilities with its boxes. The boxes of all views are brought to
  the reference, and one suppression decides among them.
- Border-ness: that of the reference, averaged with its mirrored twin where there is one. At other scales a level has
  learnt objects of another size, so their maps are comparable neither with the reference's nor with one another. A box
  of another scale is compared with the level that has learnt its size (`levels_of_size`), one of the reference's scale
  with the level that it came from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lpsnet.categories import Category
from lpsnet.config import BOX_STRIDES, SEMANTIC_STRIDE, InputConfig, PostprocessConfig
from lpsnet.evaluation.box_levels import levels_of_size
from lpsnet.inference import (
    BoxCandidates,
    DenseArrays,
    HeadInputs,
    NetworkInput,
    decode,
    prepare,
    semantic_labels,
    stuff_labels,
    suppress,
)

_SMALLEST_PROBABILITY = 1e-30
"""Keeps the logarithm finite; far below what float32's softmax tells from 0 in a mean of few views."""


@dataclass(frozen=True)
class View:
    """How an image is shown to the network.

    Attributes:
        scale: factor on both sides that `InputConfig` asks for.
        mirrored: left is right.
    """

    scale: float = 1.0
    mirrored: bool = False

    def prepare(self, image: np.ndarray, config: InputConfig) -> NetworkInput:
        """The image, uint8[H, W, 3] RGB, as the network takes it in this view."""
        scaled = replace(
            config,
            short_side=max(1, round(config.short_side * self.scale)),
            max_side=max(1, round(config.max_side * self.scale)),
        )
        return prepare(np.ascontiguousarray(image[:, ::-1]) if self.mirrored else image, scaled)


def views_of(scales: Sequence[float], flip: bool) -> tuple[View, ...]:
    """The views of a test, the reference first.

    Args:
        scales: distinct factors above 0, at least one.
        flip: whether each is taken mirrored as well.

    Raises:
        ValueError: scales that are not so.
    """
    if not scales or len(set(scales)) != len(scales) or not all(0 < s < math.inf for s in scales):
        raise ValueError(f"scales: expected distinct numbers above 0, got {list(scales)}")
    ordered = sorted(scales, key=lambda scale: abs(math.log(scale)))
    return tuple(View(scale, mirrored) for scale in ordered for mirrored in ((False, True) if flip else (False,)))


class ViewMerger:
    """Merges the views of one image as they come, so that one is in memory at a time.

    Args:
        categories: the classes.
        config: of the post-processing.
        level_bounds: `TargetConfig.level_bounds` of the network.
    """

    def __init__(
        self, categories: Sequence[Category], config: PostprocessConfig, level_bounds: Sequence[float]
    ) -> None:
        self._categories, self._config, self._level_bounds = categories, config, level_bounds
        self._candidates: list[BoxCandidates] = []

    def add(self, view: View, prepared: NetworkInput, dense: DenseArrays) -> None:
        """Adds what the network computes of the image in one view. The first is the reference."""
        candidates = decode(dense, prepared, self._categories, self._config)
        probabilities = torch.from_numpy(dense.logits).softmax(0)
        borderness = [torch.from_numpy(level) for level in dense.borderness]
        if not self._candidates:
            self._view, self._prepared, self._dense = view, prepared, dense
            self._probabilities, self._borderness, self._borderness_views = probabilities, borderness, 1
        else:
            warp = _Warp(prepared, self._prepared, view.mirrored != self._view.mirrored)
            boxes = warp.boxes(candidates.boxes)
            levels = candidates.levels
            self._probabilities = self._probabilities + warp.maps(
                probabilities, self._probabilities.shape[1:], SEMANTIC_STRIDE
            )
            if view.scale == self._view.scale:
                self._borderness = [
                    total + warp.maps(level[None], total.shape, stride)[0]
                    for total, level, stride in zip(self._borderness, borderness, BOX_STRIDES, strict=True)
                ]
                self._borderness_views += 1
            else:
                levels = levels_of_size(boxes, self._level_bounds)
            candidates = replace(candidates, boxes=boxes, levels=levels)
        self._candidates.append(candidates)

    def result(self) -> HeadInputs:
        """What the panoptic head takes, in the frame of the reference."""
        mean = self._probabilities / len(self._candidates)
        merged = replace(
            self._dense,
            logits=mean.clamp(min=_SMALLEST_PROBABILITY).log().numpy(),
            borderness=[(total / self._borderness_views).numpy() for total in self._borderness],
        )
        names = ("boxes", "scores", "labels", "levels")
        candidates = BoxCandidates(*(np.concatenate([getattr(c, name) for c in self._candidates]) for name in names))
        return HeadInputs(
            semantic_labels(merged, self._prepared),
            stuff_labels(merged, self._prepared, self._categories, self._config),
            suppress(candidates, self._config),
            merged.borderness,
            self._prepared,
        )


class _Warp:
    """From the frame of one network input to that of another of the same image, of which one may be mirrored."""

    def __init__(self, source: NetworkInput, target: NetworkInput, mirrored: bool) -> None:
        self._source, self._target, self._mirrored = source, target, mirrored

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """float32[N, 4], xyxy in pixels of the target, from xyxy in pixels of the source."""
        (source_y, source_x), (target_y, target_x) = self._source.scale, self._target.scale
        x1, y1, x2, y2 = boxes.astype(np.float64).T
        x1, x2 = x1 / source_x, x2 / source_x
        if self._mirrored:
            x1, x2 = self._source.output_size[1] - x2, self._source.output_size[1] - x1
        y1, y2 = y1 / source_y * target_y, y2 / source_y * target_y
        return np.stack([x1 * target_x, y1, x2 * target_x, y2], 1).astype(np.float32)

    def maps(self, maps: Tensor, size: Sequence[int], stride: int) -> Tensor:
        """float32[C, *size], the maps of the source, float32[C, h, w], read bilinearly at the target's cells."""
        (source_y, source_x), (target_y, target_x) = self._source.scale, self._target.scale
        y = (torch.arange(size[0], dtype=torch.float64) + 0.5) * stride / target_y
        x = (torch.arange(size[1], dtype=torch.float64) + 0.5) * stride / target_x
        if self._mirrored:
            x = self._source.output_size[1] - x
        # In grid_sample's frame the map reaches from -1 to 1.
        y = 2 * (y * source_y / stride) / maps.shape[1] - 1
        x = 2 * (x * source_x / stride) / maps.shape[2] - 1
        grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], -1).float()
        return functional.grid_sample(maps[None], grid[None], padding_mode="border", align_corners=False)[0]
