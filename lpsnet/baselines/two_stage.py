"""What UPSNet and Panoptic FPN share: backbone, feature pyramid, region proposals and the heads of Mask R-CNN."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpsnet.baselines.config import TwoStageConfig
from lpsnet.baselines.roi_heads import BoxHead, Instances, MaskHead, detect
from lpsnet.baselines.rpn import STRIDES, RPNHead, propose
from lpsnet.config import Recipe
from lpsnet.inference import NetworkInput
from lpsnet.models.backbone import build_backbone
from lpsnet.models.fpn import FeaturePyramid
from lpsnet.models.lpsnet import STRIDE
from lpsnet.models.macs import Cost, count_costs
from lpsnet.ops.roi_align import roi_align
from lpsnet.structures import PanopticResult

Stages = Callable[[str], AbstractContextManager]
"""Called with the name of a stage, a context around its work: a `StageTimer`, or `untimed`."""
_ROI_LEVELS = 4
"""P2..P5."""


def untimed(stage: str) -> AbstractContextManager:
    """A context that does nothing."""
    return nullcontext()


@dataclass(frozen=True)
class TwoStageOutputs:
    """What a two-stage network computes of one image, before its panoptic head.

    Attributes:
        instances: the detections, `config.detections` of them, in pixels of the network's input.
        masks: float32[K, m, m], logits of the instances' masks over their boxes.
        logits: float32[C, H / 4, W / 4], semantic logits.
    """

    instances: Instances
    masks: Tensor
    logits: Tensor


class DetectionPyramid(FeaturePyramid):
    """The same feature pyramid as ours as Mask R-CNN has it: no context, and P6 is every second pixel of P5."""

    def __init__(self, recipe: Recipe, in_channels: Sequence[int]) -> None:
        super().__init__(replace(recipe.model, context="none"), in_channels)
        del self.p6, self.p7

    def forward(self, features: Sequence[Tensor], valid: tuple[int, int] = (0, 0)) -> tuple[Tensor, ...]:
        """C2..C5 to P2..P6. Without context `valid` means nothing."""
        levels = self.top_down(features, valid)
        return (*levels, functional.max_pool2d(levels[-1], 1, 2))


class TwoStageNetwork(nn.Module):
    """The network of a recipe's backbone, norms and classes, with random weights; one image at a time.

    Args:
        recipe: of ours, for backbone, norms, classes and input.
        config: of the two stages.
        semantic_head: P2..P5 to logits at 1/4.

    Attributes:
        things: per thing class its index among the classes.
    """

    PARTS = ("backbone", "fpn", "rpn", "box_head", "mask_head", "semantic_head")

    def __init__(self, recipe: Recipe, config: TwoStageConfig, semantic_head: nn.Module) -> None:
        super().__init__()
        self.recipe, self.config = recipe, config
        self.things = [i for i, c in enumerate(recipe.categories) if c.isthing]
        channels = recipe.model.fpn_channels
        self.backbone = build_backbone(recipe.model)
        self.fpn = DetectionPyramid(recipe, self.backbone.channels)
        self.rpn = RPNHead(channels, config.anchor_ratios)
        self.box_head = BoxHead(channels, len(self.things), config)
        self.mask_head = MaskHead(channels, len(self.things), config)
        self.semantic_head = semantic_head

    def forward(
        self, images: Tensor, image_size: tuple[int, int] | None = None, stages: Stages = untimed
    ) -> TwoStageOutputs:
        """What the panoptic head needs.

        Args:
            images: float[1, 3, H, W], normalised as the recipe's `input` says; H and W are multiples of 32.
            image_size: height and width of the image, at the top left of the padded input; None: it fills it.
            stages: what times each stage by its name.

        Raises:
            ValueError: another shape, or an image larger than the input.
        """
        size = _image_size(images, image_size)
        config = self.config
        with stages("backbone"):
            features = list(self.backbone(images))
        with stages("fpn"):
            levels = self.fpn(features)
            maps = [level[0].float() for level in levels[:_ROI_LEVELS]]
        with stages("rpn_head"):
            rpn = self.rpn(levels)
        with stages("proposals"):
            proposals = propose(rpn, [level.shape[3] for level in levels], self.rpn.roots, size, config)
        with stages("box_roi_align"):
            rois = self._align(maps, proposals, config.box_bins)
        with stages("box_head"):
            logits, deltas = self.box_head(rois)
        with stages("detections"):
            instances = detect(logits, deltas, proposals, size, config)
        with stages("mask_roi_align"):
            rois = self._align(maps, instances.boxes, config.mask_bins)
        with stages("mask_head"):
            masks = self.mask_head(rois, instances.labels)
        with stages("semantic_head"):
            finer = list(levels[:_ROI_LEVELS])
            del levels, maps, rpn
            semantic = self.semantic_head(finer)[0]
        return TwoStageOutputs(instances, masks, semantic)

    def panoptic(self, outputs: TwoStageOutputs, prepared: NetworkInput, stages: Stages = untimed) -> PanopticResult:
        """The panoptic map of an image, at the image's own size, by the panoptic head of the network.

        Args:
            outputs: of `forward`.
            prepared: the input that they are of.
            stages: as in `forward`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no panoptic head")

    def _align(self, maps: list[Tensor], boxes: Tensor, bins: int) -> Tensor:
        config = self.config
        strides = STRIDES[:_ROI_LEVELS]
        size = [bins, bins]
        rois = roi_align(
            maps, boxes, strides, size, config.sampling_ratio, config.canonical_level, config.canonical_size
        )
        return rois.to(self.box_head.fc1.weight.dtype)


def two_stage_costs(build: Callable[[], TwoStageNetwork], size: tuple[int, int]) -> dict[str, Cost]:
    """Parameters and multiply-accumulates of each part, `TwoStageNetwork.PARTS`, for one image of (height, width).

    The heads over boxes count for all the boxes they get.

    Args:
        build: makes the network; it is called where tensors have no values.
        size: of the network's input, multiples of 32.
    """
    with torch.device("meta"):
        model = build().eval()
        images = torch.empty(1, 3, *size)
        return count_costs(model, model.PARTS, images)


def _image_size(images: Tensor, image_size: tuple[int, int] | None) -> tuple[int, int]:
    shape = images.shape
    if images.ndim != 4 or shape[:2] != (1, 3) or shape[2] % STRIDE or shape[3] % STRIDE or 0 in shape:
        raise ValueError(f"images: expected [1, 3, H, W] with multiples of {STRIDE} for H and W, got {list(shape)}")
    height, width = image_size or shape[2:]
    if not (0 < height <= shape[2] and 0 < width <= shape[3]):
        raise ValueError(f"image_size: expected at most {tuple(shape[2:])} and at least (1, 1), got {image_size}")
    return height, width
