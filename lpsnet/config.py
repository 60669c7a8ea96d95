"""Every default of the project and the named recipes. What the paper leaves open says here where its value is from.

Nothing here imports torch. A recipe is made of frozen dataclasses, so the command lines are made from it and a
checkpoint carries it as JSON.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from lpsnet.categories import Category, categories

Backbone = Literal["resnet50", "resnet101", "efficientnet_lite0", "efficientnet_lite2"]
Assignment = Literal["closest_borderness", "highest_confidence", "smallest_area"]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
BOX_STRIDES = (8, 16, 32, 64, 128)
"""P3..P7 (paper, section 3.2; FCOS)."""
SEMANTIC_STRIDE = 4
"""The semantic logits are at 1/4 of the input (paper, section 3.3)."""
DEFAULT_MODEL = "lpsnet_lite0_camvid"
"""The packaged model that commands take unless another is named."""


@dataclass(frozen=True)
class ModelConfig:
    """The dense network.

    Attributes:
        backbone: paper: resnet50, resnet101; the EfficientNet-Lites are for the edge.
        fpn_channels: width of P2..P7 (paper: 256).
        context: what is added to P5: pyramid pooling, global average pooling or nothing (Table 5's ablation).
        ppm_bins: side lengths of the pooled grids (PSPNet; the paper does not say).
        ppm_channels: width of each pooled branch (PSPNet, UPerNet).
        norm: of FPN context and heads: GroupNorm (FCOS) or BatchNorm, which folds away at deployment.
        norm_groups: groups of GroupNorm (FCOS).
        freeze_backbone_norm: keep the statistics and affine parameters of the backbone's BatchNorm (FCOS).
        box_channels: width of the box tower (paper: 256).
        box_layers: depth of the box tower (paper: 4).
        semantic_channels: width of each layer of the semantic head (UPSNet's paper: 256-128-128 on COCO, 128-128 on
            Cityscapes).
        deform: deformable convolution in the semantic head, v1 (UPSNet's paper), v2 (with masks), or plain.
    """

    backbone: Backbone = "resnet50"
    fpn_channels: int = 256
    context: Literal["ppm", "gap", "none"] = "ppm"
    ppm_bins: tuple[int, ...] = (1, 2, 3, 6)
    ppm_channels: int = 512
    norm: Literal["gn", "bn"] = "gn"
    norm_groups: int = 32
    freeze_backbone_norm: bool = True
    box_channels: int = 256
    box_layers: int = 4
    semantic_channels: tuple[int, ...] = (256, 128, 128)
    deform: Literal["v1", "v2", "off"] = "v1"


@dataclass(frozen=True)
class InputConfig:
    """How an image becomes the network's input.

    Attributes:
        short_side: length of the image's shorter side after the resize, in pixels (paper: 800, 882, 964 on COCO).
        max_side: no side gets longer than this; the short side gives way.
        mean, std: of R, G, B in units of 0..255.
        size_divisor: the input is padded at the bottom and at the right to a multiple of this, the stride of C5.
    """

    short_side: int = 800
    max_side: int = 1333
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    size_divisor: int = 32

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of an image of this size after the resize, in its own proportions."""
        scale = min(self.short_side / min(height, width), self.max_side / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the network's input for a resized image of this size."""
        return tuple(-(-side // self.size_divisor) * self.size_divisor for side in (height, width))  # type: ignore[return-value]


@dataclass(frozen=True)
class PostprocessConfig:
    """From the dense outputs to the panoptic map.

    Attributes:
        score_threshold: a class at a point is a candidate when its probability is above this (FCOS).
        topk: candidates kept per level (FCOS).
        score_fusion: score of a box from class probability p and border-ness b: p * b (paper) or sqrt(p * b).
        iou_threshold: of the NMS within a class (FCOS).
        max_detections: boxes kept after NMS (FCOS).
        paste_score: boxes below it are not pasted; not in the paper, tuned on validation data.
        overlap_threshold: a box is discarded when more of its mask is occupied (paper: 0.3).
        assignment: who gets a pixel that several boxes claim (paper: closest_borderness).
        stuff_area_limit: stuff segments below it become void, in pixels of the resized image (UPSNet's paper: 4096 on
            COCO, 2048 on Cityscapes).
        fill_stuff: thing pixels that no box claims take the best stuff class instead of void.
    """

    score_threshold: float = 0.05
    topk: int = 1000
    score_fusion: Literal["product", "sqrt"] = "product"
    iou_threshold: float = 0.6
    max_detections: int = 100
    paste_score: float = 0.2
    overlap_threshold: float = 0.3
    assignment: Assignment = "closest_borderness"
    stuff_area_limit: int = 4096
    fill_stuff: bool = False


@dataclass(frozen=True)
class TargetConfig:
    """What each point of the box head learns.

    Attributes:
        positives: a point is positive inside the mask of an object (paper, Figure 3) or inside its box (FCOS).
        borderness: distances to the border of the mask (paper, equation 1) or of the box (FCOS' centre-ness).
        level_bounds: a point of level i learns an object when max(l, t, r, b) is in (bounds[i], bounds[i + 1]] (FCOS).
    """

    positives: Literal["mask", "box"] = "mask"
    borderness: Literal["mask", "box"] = "mask"
    level_bounds: tuple[float, ...] = (0, 64, 128, 256, 512, float("inf"))


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses (paper: semantic 0.7 on COCO, 1.0 on Cityscapes; the rest from FCOS).

    Attributes:
        semantic: of the pixel-wise cross entropy.
        giou: of the GIoU loss of the boxes, itself weighted by the border-ness target.
        borderness: of the binary cross entropy of border-ness.
        dice: of the soft Dice loss of the classes (not in the paper), for classes of few pixels.
    """

    semantic: float = 0.7
    giou: float = 1.0
    borderness: float = 1.0
    dice: float = 0.0


@dataclass(frozen=True)
class AugmentConfig:
    """What happens to a training image.

    Attributes:
        crop: (height, width) of the training crop in pixels; None trains on whole resized images.
        scale: range of the random factor on the size that `InputConfig` asks for.
        flip: probability of a horizontal flip.
        brightness, contrast, saturation: greatest relative change. hue: greatest change in degrees.
        gamma: greatest change of log2 of the exponent, for scenes darker or lighter than those seen.
    """

    crop: tuple[int, int] | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    gamma: float = 0.0


@dataclass(frozen=True)
class TrainConfig:
    """The schedule (paper, section 4) and the machinery around it.

    Attributes:
        iterations: optimiser steps in all.
        batch_size: images per step.
        optimizer: sgd (paper: momentum 0.9) or adamw.
        learning_rate: its highest value.
        backbone_learning_rate: factor on it for the backbone.
        schedule: `steps` divides it by 10 at each of `steps` (paper); `cosine` lets it fall to 0 along a cosine.
        steps: see schedule.
        warmup: steps during which it rises linearly from a thousandth (FCOS).
        weight_decay: not on biases and norms.
        momentum: of SGD.
        clip_norm: greatest norm of the gradient; 0 does not clip.
        amp: autocast to bfloat16 or not.
        ema: decay of the moving average of the weights; 0 keeps none. Ramped up over the first steps.
        seed: of initialisation, order and augmentation.
        workers: processes that load data.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of the log.
    """

    iterations: int = 90_000
    batch_size: int = 16
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.01
    backbone_learning_rate: float = 1.0
    schedule: Literal["steps", "cosine"] = "steps"
    steps: tuple[int, ...] = (60_000, 80_000)
    warmup: int = 500
    weight_decay: float = 1e-4
    momentum: float = 0.9
    clip_norm: float = 0.0
    amp: Literal["off", "bf16"] = "off"
    ema: float = 0.0
    seed: int = 0
    workers: int = 2
    checkpoint_every: int = 1000
    log_every: int = 20


@dataclass(frozen=True)
class Recipe:
    """All that makes one model: the network, its data, its training and its post-processing.

    Attributes:
        name: of the recipe.
        dataset: name of the data set.
        classes: of a data set of the user's own, which a checkpoint thus brings with it; none for a packaged data set.
    """

    name: str
    dataset: str
    model: ModelConfig = field(default_factory=ModelConfig)
    input: InputConfig = field(default_factory=InputConfig)
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    targets: TargetConfig = field(default_factory=TargetConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    classes: tuple[Category, ...] = ()

    @property
    def categories(self) -> tuple[Category, ...]:
        """The classes in the order of the semantic logits."""
        return self.classes or categories(self.dataset)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Recipe":
        """The inverse of `to_dict`, also after a trip through JSON.

        Raises:
            ValueError: a field that no recipe has.
        """
        recipe = _from_dict(cls, data)
        return dataclasses.replace(recipe, classes=tuple(_from_dict(Category, row) for row in recipe.classes))


def _from_dict(cls: type, data: dict[str, Any]) -> Any:
    if not isinstance(data, dict):
        raise ValueError(f"{cls.__name__}: expected a mapping of its fields, got {type(data).__name__}")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise ValueError(f"{cls.__name__}: expected fields among {sorted(fields)}, got {unknown}")
    values = {}
    for name, value in data.items():
        kind = fields[name].type
        if dataclasses.is_dataclass(kind):
            values[name] = _from_dict(kind, value)  # type: ignore[arg-type]
        else:
            values[name] = tuple(value) if isinstance(value, list) else value
    return cls(**values)


_EFFICIENTNET_INPUT = InputConfig(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))

_LITE = ModelConfig(
    backbone="efficientnet_lite0",
    fpn_channels=96,
    ppm_channels=96,
    norm="bn",
    freeze_backbone_norm=False,
    box_channels=96,
    box_layers=3,
    semantic_channels=(96, 96),
    deform="off",
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("lpsnet_r50_coco_800", "coco"),
        Recipe(
            "lpsnet_r101_coco_800",
            "coco",
            model=ModelConfig(backbone="resnet101"),
        ),
        Recipe(
            "lpsnet_r50_cityscapes_1024",
            "cityscapes",
            model=ModelConfig(semantic_channels=(128, 128)),
            input=InputConfig(short_side=1024, max_side=2048),
            postprocess=PostprocessConfig(stuff_area_limit=2048),
            loss=LossConfig(semantic=1.0),
            train=TrainConfig(iterations=12_000, steps=(9_000,)),
        ),
        Recipe(
            "lpsnet_lite0_camvid",
            "camvid",
            model=_LITE,
            input=dataclasses.replace(_EFFICIENTNET_INPUT, short_side=360, max_side=480),
            postprocess=PostprocessConfig(stuff_area_limit=256, paste_score=0.4),
            targets=TargetConfig(level_bounds=(0, 32, 64, 128, 256, float("inf"))),
            loss=LossConfig(semantic=1.0),
            augment=AugmentConfig(
                crop=(320, 448),
                scale=(0.75, 1.75),
                brightness=0.3,
                contrast=0.3,
                saturation=0.3,
                hue=10.0,
                gamma=0.7,
            ),
            train=TrainConfig(
                iterations=1150,
                batch_size=8,
                optimizer="adamw",
                learning_rate=1.5e-3,
                backbone_learning_rate=0.5,
                schedule="cosine",
                warmup=100,
                weight_decay=0.02,
                clip_norm=10.0,
                amp="bf16",
                ema=0.995,
                checkpoint_every=100,
            ),
        ),
        Recipe(
            "lpsnet_tiny_synthetic",
            "synthetic",
            model=dataclasses.replace(
                _LITE, fpn_channels=48, ppm_channels=32, box_channels=48, box_layers=2, semantic_channels=(48, 48)
            ),
            input=dataclasses.replace(_EFFICIENTNET_INPUT, short_side=128, max_side=192),
            postprocess=PostprocessConfig(stuff_area_limit=64),
            targets=TargetConfig(level_bounds=(0, 32, 64, 128, 256, float("inf"))),
            loss=LossConfig(semantic=1.0),
            train=TrainConfig(
                iterations=600,
                batch_size=8,
                optimizer="adamw",
                learning_rate=3e-3,
                schedule="cosine",
                warmup=50,
                weight_decay=0.02,
                clip_norm=10.0,
                ema=0.99,
                checkpoint_every=200,
            ),
        ),
    )
}

RECIPES["lpsnet_lite2_camvid"] = dataclasses.replace(
    RECIPES["lpsnet_lite0_camvid"],
    name="lpsnet_lite2_camvid",
    model=dataclasses.replace(_LITE, backbone="efficientnet_lite2"),
)


def get_recipe(name: str) -> Recipe:
    """The recipe of this name. Raises ValueError, which lists the names, where there is none."""
    try:
        return RECIPES[name]
    except KeyError:
        raise ValueError(f"recipe: expected one of {sorted(RECIPES)}, got {name!r}") from None
