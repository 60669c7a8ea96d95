"""The recipes against the paper, whose numbers are typed here once more, and against docs/models.md."""

import dataclasses
import re
from pathlib import Path

import pytest
import torch

from lpsnet.categories import categories
from lpsnet.config import RECIPES, TrainConfig, get_recipe
from lpsnet.models.macs import network_costs
from lpsnet.models.summary import HEADS, largest_input, markdown, overview_row
from lpsnet.packaged import packaged_models

DOCS = Path(__file__).resolve().parents[1] / "docs" / "models.md"

COCO = {"lpsnet_r50_coco_800", "lpsnet_r50_coco_882", "lpsnet_r50_coco_964"}
COCO |= {"lpsnet_r101_coco_736", "lpsnet_r101_coco_818", "lpsnet_r101_coco_900"}
CITYSCAPES = {"lpsnet_r50_cityscapes_1024", "lpsnet_r50_cityscapes_1200"}
VISTAS = {"lpsnet_r50_vistas"}
PAPER = COCO | CITYSCAPES | VISTAS


@pytest.mark.parametrize("name", sorted(PAPER))
def test_what_all_models_of_the_paper_share(name):
    recipe = get_recipe(name)
    train = recipe.train
    # Section 4: SGD, momentum 0.9, weight decay 0.0001, rate 0.01, batch 16 (8 GPUs with 2 images each, section 3.5).
    assert (train.optimizer, train.schedule, train.momentum, train.weight_decay) == ("sgd", "steps", 0.9, 1e-4)
    assert (train.learning_rate, train.batch_size) == (0.01, 16)
    model = recipe.model
    # Sections 3.1-3.3: 256 channels, 4 layers, pyramid pooling, deformable semantic head.
    assert (model.fpn_channels, model.box_channels, model.box_layers) == (256, 256, 4)
    assert (model.context, model.deform) == ("ppm", "v1")
    assert (recipe.targets.positives, recipe.targets.borderness) == ("mask", "mask")
    # Section 3.4: 0.3, closest border-ness.
    assert recipe.postprocess.overlap_threshold == 0.3
    assert recipe.postprocess.assignment == "closest_borderness"
    # The paper names no photometric augmentation.
    augment = recipe.augment
    assert (augment.brightness, augment.contrast, augment.saturation, augment.hue, augment.gamma) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("name", sorted(COCO))
def test_coco_is_tables_1_and_2(name):
    recipe = get_recipe(name)
    backbone, side = re.fullmatch(r"lpsnet_(r50|r101)_coco_(\d+)", name).groups()
    assert recipe.dataset == "coco"
    assert recipe.model.backbone == {"r50": "resnet50", "r101": "resnet101"}[backbone]
    assert recipe.input.short_side == int(side)
    # 1333 belongs to 800 (FCOS); 1470 and 1606 keep its ratio.
    ratio = recipe.input.max_side / recipe.input.short_side
    assert ratio == pytest.approx(1333 / 800, rel=1e-3)
    assert (recipe.train.iterations, recipe.train.steps) == (90_000, (60_000, 80_000))
    assert recipe.loss.semantic == 0.7
    assert (recipe.augment.crop, recipe.augment.long_side, recipe.augment.scale) == (None, None, (1.0, 1.0))


def test_longer_sides():
    sides = {side: get_recipe(f"lpsnet_r50_coco_{side}").input.max_side for side in (800, 882, 964)}
    assert sides == {800: 1333, 882: 1470, 964: 1606}


@pytest.mark.parametrize(("name", "size"), [("1024", (1024, 2048)), ("1200", (1200, 2400))])
def test_cityscapes_is_table_3(name, size):
    recipe = get_recipe(f"lpsnet_r50_cityscapes_{name}")
    assert (recipe.dataset, recipe.model.backbone) == ("cityscapes", "resnet50")
    assert recipe.input.resized(1024, 2048) == size
    assert (recipe.train.iterations, recipe.train.steps) == (12_000, (9_000,))
    assert recipe.loss.semantic == 1.0
    assert recipe.augment.crop is None


def test_vistas_is_table_4():
    recipe = get_recipe("lpsnet_r50_vistas")
    assert (recipe.dataset, recipe.model.backbone) == ("mapillary", "resnet50")
    assert (recipe.augment.long_side, recipe.augment.crop) == ((500, 2200), (400, 800))
    assert (recipe.train.iterations, recipe.train.steps) == (192_000, (144_000, 176_000))


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("lpsnet_r50_coco_800_bn", "lpsnet_r50_coco_800"),
        ("lpsnet_r50_coco_800_bn_plain", "lpsnet_r50_coco_800"),
        ("lpsnet_r50_coco_800_slim", "lpsnet_r50_coco_800"),
        ("lpsnet_r50_cityscapes_1024_bn", "lpsnet_r50_cityscapes_1024"),
        ("lpsnet_r50_cityscapes_1024_bn_plain", "lpsnet_r50_cityscapes_1024"),
        ("lpsnet_r50_cityscapes_1024_slim", "lpsnet_r50_cityscapes_1024"),
    ],
)
def test_variants_differ_from_the_paper_in_the_network_alone(name, base):
    variant, base = get_recipe(name), get_recipe(base)
    assert dataclasses.replace(variant, name=base.name, model=base.model) == base
    assert variant.model.norm == "bn"
    assert (variant.model.deform == "v1") == name.endswith("_bn")


@pytest.mark.parametrize("dataset", ["coco", "cityscapes"])
@pytest.mark.parametrize("backbone", ["lite0", "lite2"])
def test_lites_see_as_many_images_as_the_paper(dataset, backbone):
    recipe = get_recipe(f"lpsnet_{backbone}_{dataset}_512")
    paper = {"coco": "lpsnet_r50_coco_800", "cityscapes": "lpsnet_r50_cityscapes_1024"}[dataset]
    expected = get_recipe(paper)
    assert recipe.train.iterations * recipe.train.batch_size == expected.train.iterations * expected.train.batch_size
    assert recipe.model == dataclasses.replace(
        get_recipe("lpsnet_lite0_camvid").model, backbone=f"efficientnet_{backbone}"
    )
    assert recipe.input.short_side == 512
    # The limit is an area: it falls with the square of the side.
    shrink = (512 / expected.input.short_side) ** 2
    assert recipe.postprocess.stuff_area_limit == round(expected.postprocess.stuff_area_limit * shrink)
    assert recipe.loss == expected.loss


def test_schedules_end():
    for recipe in RECIPES.values():
        train: TrainConfig = recipe.train
        assert train.warmup < train.iterations, recipe.name
        if train.schedule == "steps":
            assert all(train.warmup < step < train.iterations for step in train.steps), recipe.name


@pytest.fixture(scope="module")
def rows() -> dict[str, tuple[str, ...]]:
    """Each recipe's network, built and run on the meta device at the recipe's largest input."""
    return {name: overview_row(recipe) for name, recipe in RECIPES.items()}


def test_every_recipe_builds_and_the_page_has_its_costs(rows):
    page = DOCS.read_text(encoding="utf-8")
    assert markdown(list(rows.values())) in page, "run: lpsnet-summary --all --markdown"


def test_columns_of_a_row(rows):
    name = "lpsnet_r50_cityscapes_1024"
    recipe = get_recipe(name)
    plain = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, deform="off"))
    assert largest_input(recipe) == (1024, 2048)
    costs, without = (network_costs(r, (1024, 2048)).values() for r in (recipe, plain))
    row = dict(zip(HEADS, rows[name], strict=True))
    assert row == {
        "recipe": name,
        "input": "1024 x 2048",
        "parameters": f"{sum(c.parameters for c in costs) / 1e6:.2f} M",
        "GMAC": f"{sum(c.macs for c in costs) / 1e9:.1f}",
        "of them deformable": f"{sum(c.deform_macs for c in costs) / 1e9:.1f}",
        "GMAC with deform off": f"{sum(c.macs for c in without) / 1e9:.1f}",
        "weights": "none",
    }
    assert rows["lpsnet_r50_coco_800_bn_plain"][4] == "-"


def test_the_page_says_which_weights_there_are(rows):
    packaged = {name for name in packaged_models() if not name.endswith(".onnx")}
    assert {name for name, row in rows.items() if row[-1] == "packaged"} == packaged & set(RECIPES)


@pytest.mark.parametrize("name", sorted(PAPER))
def test_the_page_names_every_model_of_the_paper(name):
    assert f"`{name}`" in DOCS.read_text(encoding="utf-8")


def test_networks_follow_the_numbers_of_classes():
    with torch.device("meta"):
        from lpsnet.models.lpsnet import LPSNet

        for name in ("lpsnet_lite0_coco_512", "lpsnet_lite0_cityscapes_512"):
            recipe = get_recipe(name)
            outputs = LPSNet(recipe).eval()(torch.empty(1, 3, 64, 64))
            assert outputs.logits.shape[1] == len(categories(recipe.dataset))
