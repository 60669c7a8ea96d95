"""The losses (paper, sections 3.2 and 3.3; GIoU and its weighting as in FCOS)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lpsnet.categories import VOID
from lpsnet.config import LossConfig
from lpsnet.structures import DenseOutputs


@dataclass(frozen=True)
class BatchTargets:
    """The targets of a batch.

    Attributes:
        labels: uint8[N, H, W], classes at the size of the input; 255 is ignored.
        positive: per level bool[N, h, w].
        ltrb: per level float32[N, 4, h, w].
        borderness: per level float32[N, h, w].
    """

    labels: Tensor
    positive: tuple[Tensor, ...]
    ltrb: tuple[Tensor, ...]
    borderness: tuple[Tensor, ...]

    def to(self, device: torch.device) -> "BatchTargets":
        """The same on another device."""

        def move(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(t.to(device, non_blocking=True) for t in tensors)

        return BatchTargets(
            self.labels.to(device, non_blocking=True), move(self.positive), move(self.ltrb), move(self.borderness)
        )


@dataclass(frozen=True)
class Normalizers:
    """What the losses are divided by: sums over all that one step of the optimiser learns from.

    Attributes:
        positives: points that learn an object; divides border-ness.
        borderness: sum of their border-ness; divides GIoU.
        pixels: that have a class; divides the semantic loss.
        classes: that an image shows, summed over the images; divides Dice.
    """

    positives: float
    borderness: float
    pixels: float
    classes: float

    @classmethod
    def of(cls, targets: BatchTargets) -> "Normalizers":
        """Those of a batch alone."""
        pairs = list(zip(targets.positive, targets.borderness, strict=True))
        pixels = [image.flatten().bincount(minlength=VOID + 1)[:VOID] for image in targets.labels]
        return cls(
            positives=sum(p.count_nonzero().item() for p, _ in pairs),
            borderness=sum(b[p].sum(dtype=torch.float64).item() for p, b in pairs),
            pixels=sum(p.sum().item() for p in pixels),
            classes=sum(p.count_nonzero().item() for p in pixels),
        )


def losses(
    outputs: DenseOutputs, targets: BatchTargets, config: LossConfig, normalizers: Normalizers | None = None
) -> dict[str, Tensor]:
    """Each loss, weighted, so that their sum is what is minimised.

    Args:
        outputs: of `LPSNet.heads`: border-ness as logits.
        targets: of the same batch.
        config: the weights.
        normalizers: of the whole, where this batch is a part of it: the losses of the parts then add up to those of
            the whole, and so do their gradients. None: the batch is all there is.

    Returns:
        ``semantic``, ``giou``, ``borderness`` and, where it has a weight, ``dice``: float32 scalars, 0 where there is
        nothing to learn from.
    """
    if normalizers is None:
        normalizers = Normalizers.of(targets)
    positive = torch.cat([p.flatten() for p in targets.positive])
    predicted = torch.cat([t.permute(0, 2, 3, 1).reshape(-1, 4) for t in outputs.ltrb])[positive]
    true = torch.cat([t.permute(0, 2, 3, 1).reshape(-1, 4) for t in targets.ltrb])[positive]
    logits = torch.cat([b.flatten() for b in outputs.borderness])[positive]
    borderness = torch.cat([b.flatten() for b in targets.borderness])[positive]
    giou = (giou_loss(predicted, true) * borderness).sum() / max(1e-6, normalizers.borderness)
    bce = F.binary_cross_entropy_with_logits(logits, borderness, reduction="sum")
    bce = bce / max(1, normalizers.positives)
    log_probabilities = upsampled_log_softmax(outputs.logits, targets.labels)
    parts = {
        "semantic": config.semantic * semantic_loss(log_probabilities, targets.labels, normalizers.pixels),
        "giou": config.giou * giou,
        "borderness": config.borderness * bce,
    }
    if config.dice > 0:
        parts["dice"] = config.dice * dice_loss(log_probabilities, targets.labels, normalizers.classes)
    return parts


def upsampled_log_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Logarithms of the class probabilities at the size of the labels, float32[N, C, H, W].

    Args:
        logits: float32[N, C, h, w], read bilinearly.
        labels: [N, H, W].
    """
    return F.interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False).log_softmax(1)


def semantic_loss(log_probabilities: Tensor, labels: Tensor, pixels: float | None = None) -> Tensor:
    """Pixel-wise cross entropy.

    Args:
        log_probabilities: float32[N, C, H, W].
        labels: uint8[N, H, W]; 255 is ignored.
        pixels: what the sum is divided by; None: the number of labels that are not ignored.
    """
    total = F.nll_loss(log_probabilities, labels.long(), ignore_index=VOID, reduction="sum")
    return total / ((labels != VOID).sum().clamp(min=1) if pixels is None else max(1, pixels))


def dice_loss(log_probabilities: Tensor, labels: Tensor, classes: float | None = None) -> Tensor:
    """1 - soft Dice coefficient (Milletari et al., V-Net, 3DV 2016), the mean over the classes that each image shows.

    A class weighs the same however few pixels it has, unlike in the cross entropy.

    Args:
        log_probabilities: float32[N, C, H, W].
        labels: uint8[N, H, W]; 255 is ignored.
        classes: what the sum over images and classes is divided by; None: the number of its terms.
    """
    valid = (labels != VOID).flatten(1)
    index = torch.where(labels != VOID, labels, 0).long().flatten(1)
    probabilities = log_probabilities.exp().flatten(2)
    of_truth = probabilities.gather(1, index[:, None])[:, 0] * valid
    predicted = (probabilities * valid[:, None]).sum(2)
    overlap = torch.zeros_like(predicted).scatter_add(1, index, of_truth)
    true = torch.zeros_like(predicted).scatter_add(1, index, valid.float())
    dice = 2 * overlap / (predicted + true).clamp(min=1)
    shown = true > 0
    return ((1 - dice) * shown).sum() / (shown.sum().clamp(min=1) if classes is None else max(1, classes))


def giou_loss(predicted: Tensor, true: Tensor) -> Tensor:
    """1 - GIoU of boxes that share their point: [K, 4] distances l, t, r, b (Rezatofighi et al., CVPR 2019), to [K]."""
    low = torch.minimum(predicted, true)
    high = torch.maximum(predicted, true)
    intersection = (low[:, 0] + low[:, 2]) * (low[:, 1] + low[:, 3])
    hull = (high[:, 0] + high[:, 2]) * (high[:, 1] + high[:, 3])
    union = _area(predicted) + _area(true) - intersection
    iou = intersection / union.clamp(min=1e-6)
    return 1 - iou + (hull - union) / hull.clamp(min=1e-6)


def _area(ltrb: Tensor) -> Tensor:
    return (ltrb[:, 0] + ltrb[:, 2]) * (ltrb[:, 1] + ltrb[:, 3])
