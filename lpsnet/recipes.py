"""The named recipes: every model of the paper's tables, and ours for deployment and for small data.

The paper's numbers stand here as they are in the paper (section 4, Tables 1-4); what it does not say is the default in
`lpsnet.config`, or has a comment. What the paper trained and what was trained here is in docs/models.md.
"""

from dataclasses import replace
from typing import Any

from lpsnet.config import (
    AugmentConfig,
    InputConfig,
    LossConfig,
    ModelConfig,
    PostprocessConfig,
    Recipe,
    TargetConfig,
    TrainConfig,
)

_HALVED_BOUNDS = TargetConfig(level_bounds=(0, 32, 64, 128, 256, float("inf")))
"""For images of half the size that the bounds of FCOS are for, so that each level still has objects to learn."""

_EFFICIENTNET_INPUT = InputConfig(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))
"""What the published weights of the EfficientNet-Lites were trained with."""

# The paper's, COCO: batch 16, learning rate 0.01, 90k steps, a tenth of it from 60k and 80k, semantic loss 0.7.
_COCO = Recipe(
    "",
    "coco",
    loss=LossConfig(semantic=0.7),
    train=TrainConfig(iterations=90_000, batch_size=16, learning_rate=0.01, steps=(60_000, 80_000)),
)

# The paper's, Cityscapes: 12k steps, a tenth of the rate from 9k, semantic loss 1.0. Whole images of 1:2.
# Batch size and learning rate are COCO's: the paper gives no others.
_CITYSCAPES = Recipe(
    "",
    "cityscapes",
    model=ModelConfig(semantic_channels=(128, 128)),
    postprocess=PostprocessConfig(stuff_area_limit=2048),
    loss=LossConfig(semantic=1.0),
    train=replace(_COCO.train, iterations=12_000, steps=(9_000,)),
)

# The paper's, Mapillary Vistas: longer side 500 to 2200, crops of 400 x 800, 192k steps, a tenth of the rate from 144k
# and 176k. Semantic head and loss weight are those of Cityscapes, the other street scenes; the size in test is ours.
_VISTAS = replace(
    _CITYSCAPES,
    dataset="mapillary",
    input=InputConfig(short_side=1024, max_side=2200),
    augment=AugmentConfig(long_side=(500, 2200), crop=(400, 800)),
    train=replace(_COCO.train, iterations=192_000, steps=(144_000, 176_000)),
)

# Ours: all widths of the demo model.
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

# Ours, for the Lites: the optimiser of the demo model, whose rate is for batches of 8.
_LITE_TRAIN = TrainConfig(
    batch_size=8,
    optimizer="adamw",
    learning_rate=1.5e-3,
    backbone_learning_rate=0.5,
    schedule="cosine",
    weight_decay=0.02,
    clip_norm=10.0,
    amp="bf16",
    ema=0.995,
)

_CAMVID = Recipe(
    "",
    "camvid",
    model=_LITE,
    input=replace(_EFFICIENTNET_INPUT, short_side=360, max_side=480),
    postprocess=PostprocessConfig(stuff_area_limit=256, paste_score=0.4),
    targets=_HALVED_BOUNDS,
    loss=LossConfig(semantic=1.0, dice=0.5),
    augment=AugmentConfig(
        crop=(320, 448),
        scale=(0.75, 2.0),
        brightness=0.3,
        contrast=0.3,
        saturation=0.3,
        hue=10.0,
        gamma=0.7,
    ),
    train=replace(
        _LITE_TRAIN, iterations=2400, learning_rate=1.2e-3, warmup=100, ema=0.998, seed=1, checkpoint_every=200
    ),
)

_TINY = Recipe(
    "",
    "synthetic",
    model=replace(_LITE, fpn_channels=48, ppm_channels=32, box_channels=48, box_layers=2, semantic_channels=(48, 48)),
    input=replace(_EFFICIENTNET_INPUT, short_side=128, max_side=192),
    postprocess=PostprocessConfig(stuff_area_limit=64),
    targets=_HALVED_BOUNDS,
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
)


def _coco(recipe: Recipe, short_side: int) -> Recipe:
    # The paper gives the shorter side. The longer is at most 1333 at 800, as in FCOS, and in proportion elsewhere.
    return replace(recipe, input=replace(recipe.input, short_side=short_side, max_side=round(short_side * 1333 / 800)))


def _cityscapes(recipe: Recipe, short_side: int) -> Recipe:
    return replace(recipe, input=replace(recipe.input, short_side=short_side, max_side=2 * short_side))


def _network(recipe: Recipe, **fields: Any) -> Recipe:
    return replace(recipe, model=replace(recipe.model, **fields))


def _slim(recipe: Recipe) -> Recipe:
    """Half the widths, BatchNorm, no deformable layers."""
    halved = tuple(c // 2 for c in recipe.model.semantic_channels)
    return _network(
        recipe, fpn_channels=128, ppm_channels=256, box_channels=128, semantic_channels=halved, norm="bn", deform="off"
    )


def _lite(recipe: Recipe, backbone: Any, area_limit: int) -> Recipe:
    """An EfficientNet-Lite with the widths of the demo model, for images of about half the paper's size.

    As many images are seen as the recipe says, in batches of 8.
    """
    steps = recipe.train.iterations * recipe.train.batch_size // _LITE_TRAIN.batch_size
    return replace(
        recipe,
        model=replace(_LITE, backbone=backbone),
        input=_EFFICIENTNET_INPUT,
        postprocess=replace(recipe.postprocess, stuff_area_limit=area_limit),
        targets=_HALVED_BOUNDS,
        train=replace(_LITE_TRAIN, iterations=steps),
    )


_R101 = _network(_COCO, backbone="resnet101")

_NAMED = {
    # Table 1
    "lpsnet_r50_coco_800": _coco(_COCO, 800),
    "lpsnet_r50_coco_882": _coco(_COCO, 882),
    "lpsnet_r50_coco_964": _coco(_COCO, 964),
    # Table 2
    "lpsnet_r101_coco_736": _coco(_R101, 736),
    "lpsnet_r101_coco_818": _coco(_R101, 818),
    "lpsnet_r101_coco_900": _coco(_R101, 900),
    # Table 3: ResNet-50 (section 4.2)
    "lpsnet_r50_cityscapes_1024": _cityscapes(_CITYSCAPES, 1024),
    "lpsnet_r50_cityscapes_1200": _cityscapes(_CITYSCAPES, 1200),
    # Table 4
    "lpsnet_r50_vistas": _VISTAS,
    # For deployment: BatchNorm in the heads, which folds into the convolutions; then without deformable layers, which
    # not every runtime has; then narrower; then for the edge. Stuff limits fall with the area of the image.
    "lpsnet_r50_coco_800_bn": _network(_coco(_COCO, 800), norm="bn"),
    "lpsnet_r50_coco_800_bn_plain": _network(_coco(_COCO, 800), norm="bn", deform="off"),
    "lpsnet_r50_coco_800_slim": _slim(_coco(_COCO, 800)),
    "lpsnet_lite2_coco_512": _coco(_lite(_COCO, "efficientnet_lite2", 1678), 512),
    "lpsnet_lite0_coco_512": _coco(_lite(_COCO, "efficientnet_lite0", 1678), 512),
    "lpsnet_r50_cityscapes_1024_bn": _network(_cityscapes(_CITYSCAPES, 1024), norm="bn"),
    "lpsnet_r50_cityscapes_1024_bn_plain": _network(_cityscapes(_CITYSCAPES, 1024), norm="bn", deform="off"),
    "lpsnet_r50_cityscapes_1024_slim": _slim(_cityscapes(_CITYSCAPES, 1024)),
    "lpsnet_lite2_cityscapes_512": _cityscapes(_lite(_CITYSCAPES, "efficientnet_lite2", 512), 512),
    "lpsnet_lite0_cityscapes_512": _cityscapes(_lite(_CITYSCAPES, "efficientnet_lite0", 512), 512),
    # For a demonstration, and for tests
    "lpsnet_lite0_camvid": _CAMVID,
    "lpsnet_lite2_camvid": _network(_CAMVID, backbone="efficientnet_lite2"),
    "lpsnet_tiny_synthetic": _TINY,
}

RECIPES: dict[str, Recipe] = {name: replace(recipe, name=name) for name, recipe in _NAMED.items()}


def get_recipe(name: str) -> Recipe:
    """The recipe of this name. Raises ValueError, which lists the names, where there is none."""
    if name not in RECIPES:
        raise ValueError(f"recipe: expected one of {sorted(RECIPES)}, got {name!r}")
    return RECIPES[name]
