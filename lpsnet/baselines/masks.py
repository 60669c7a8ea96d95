"""Masks of boxes in the pixels of the output, and which of them are kept where they overlap."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lpsnet.baselines.roi_heads import Instances


@dataclass(frozen=True)
class PastedMasks:
    """The masks of K instances, each where its box is.

    Attributes:
        regions: per instance (y1, y2, x1, x2), the pixels of the output whose centres are in its box, ends exclusive.
        logits: per instance float32[y2 - y1, x2 - x1].
        labels: per instance its index among the thing classes.
        scores: per instance.
    """

    regions: list[tuple[int, int, int, int]]
    logits: list[Tensor]
    labels: list[int]
    scores: list[float]

    def take(self, indices: Sequence[int]) -> "PastedMasks":
        """Those at these indices, in their order."""
        lists = (self.regions, self.logits, self.labels, self.scores)
        return PastedMasks(*([values[i] for i in indices] for values in lists))  # type: ignore[arg-type]


def paste_masks(
    instances: Instances, masks: Tensor, scale: tuple[float, float], output_size: tuple[int, int]
) -> PastedMasks:
    """The masks, stretched bilinearly over their boxes: at the pixels of the boxes alone.

    The first and the last mask pixel reach to the sides of the box. Bilinear reading is two matrix products, with the
    weights of the rows and of the columns, which are made for all boxes at once. The boxes go to the host here.

    Args:
        instances: in pixels of the network's input.
        masks: float32[K, m, m], logits.
        scale: (y, x), input pixels per output pixel.
        output_size: (height, width).
    """
    boxes = instances.boxes / instances.boxes.new_tensor([scale[1], scale[0], scale[1], scale[0]])
    size = masks.shape[1]
    rows = _weights(boxes[:, 1], boxes[:, 3], output_size[0], size)
    columns = _weights(boxes[:, 0], boxes[:, 2], output_size[1], size)
    regions, logits = [], []
    first_pixels = (boxes - 0.5).ceil()  # pixel i has its centre at i + 0.5: in a box from there on
    for i, (x1, y1, x2, y2) in enumerate(first_pixels.tolist()):
        top, bottom = (round(min(max(y, 0), output_size[0])) for y in (y1, y2))
        left, right = (round(min(max(x, 0), output_size[1])) for x in (x1, x2))
        regions.append((top, max(top, bottom), left, max(left, right)))
        logits.append(rows[i, top:bottom] @ masks[i] @ columns[i, left:right].T)
    return PastedMasks(regions, logits, instances.labels.tolist(), instances.scores.tolist())


def _weights(low: Tensor, high: Tensor, pixels: int, size: int) -> Tensor:
    """float32[K, pixels, size]: how much of each of `size` values from low to high a pixel reads."""
    centres = torch.arange(pixels, device=low.device) + 0.5
    positions = (centres - low[:, None]) / (high - low).clamp(min=1e-6)[:, None] * size - 0.5
    distance = positions.clamp(0, size - 1)[..., None] - torch.arange(size, device=low.device)
    return (1 - distance.abs_()).clamp_(min=0)


def keep_visible(masks: PastedMasks, output_size: tuple[int, int], threshold: float, per_class: bool) -> list[int]:
    """The instances that are kept, in descending score: the others are empty, or too much of them is taken.

    An instance is dropped when the share of its mask (logit above 0) that better instances that were kept have taken
    is above the threshold.

    Args:
        masks: best first.
        per_class: only instances of the same class take pixels from each other.
    """
    device = masks.logits[0].device if masks.logits else None
    canvases: dict[int, Tensor] = {}
    kept = []
    for i, ((y1, y2, x1, x2), logits) in enumerate(zip(masks.regions, masks.logits, strict=True)):
        label = masks.labels[i] if per_class else 0
        if label not in canvases:
            canvases[label] = torch.zeros(output_size, dtype=torch.bool, device=device)
        taken = canvases[label][y1:y2, x1:x2]
        mask = logits > 0
        area, shared = torch.stack([mask.count_nonzero(), (mask & taken).count_nonzero()]).tolist()
        if area and shared <= threshold * area:
            taken |= mask
            kept.append(i)
    return kept
