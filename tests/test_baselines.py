"""UPSNet and Panoptic FPN as networks and as pipelines: fixed numbers, costs, results that hold together."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from lpsnet.baselines.boxes import anchors_at, decode, suppress_to
from lpsnet.baselines.config import PanopticFPNConfig, UPSNetConfig
from lpsnet.baselines.panoptic_fpn import PanopticFPN
from lpsnet.baselines.pipeline import TwoStagePipeline
from lpsnet.baselines.two_stage import TwoStageNetwork, two_stage_costs
from lpsnet.baselines.upsnet import UPSNet
from lpsnet.config import RECIPES, Recipe
from lpsnet.inference import StageTimer
from lpsnet.models.macs import Cost
from lpsnet.ops import reference
from lpsnet.structures import PanopticResult

SHARED_STAGES = ["preprocess", "backbone", "fpn", "rpn_head", "proposals", "box_roi_align", "box_head", "detections"]
SHARED_STAGES += ["mask_roi_align", "mask_head", "semantic_head", "paste_masks"]


@pytest.fixture(scope="module")
def recipe(tiny_recipe) -> Recipe:
    return dataclasses.replace(tiny_recipe, model=dataclasses.replace(tiny_recipe.model, deform="v1"))


@pytest.fixture(scope="module", params=[UPSNet, PanopticFPN], ids=lambda n: n.__name__)
def model(request, recipe) -> TwoStageNetwork:
    torch.manual_seed(0)
    config = {UPSNet: UPSNetConfig, PanopticFPN: PanopticFPNConfig}[request.param]
    return request.param(recipe, config(mask_channels=16, box_channels=32)).eval()


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def check_result(result: PanopticResult, shape: tuple[int, int]) -> None:
    assert result.ids.shape == shape
    assert [s.id for s in result.segments] == list(range(1, len(result.segments) + 1))
    assert set(np.unique(result.ids)) - {0} == {s.id for s in result.segments}
    things = [s for s in result.segments if result.categories[s.label].isthing]
    stuff = [s for s in result.segments if not result.categories[s.label].isthing]
    assert [*things, *stuff] == list(result.segments)
    assert [s.label for s in stuff] == sorted({s.label for s in stuff})
    for segment in result.segments:
        ys, xs = np.nonzero(result.ids == segment.id)
        assert segment.area == len(ys)
        assert segment.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


@pytest.mark.parametrize("shape", [(128, 192), (97, 61), (300, 20), (1, 1)])
def test_any_image_gives_a_map_of_its_size(model, shape):
    result = TwoStagePipeline(model).predict(random_image(*shape))
    check_result(result, shape)
    assert result.detections is not None
    assert len(result.detections) == model.config.detections
    assert all(result.categories[label].isthing for label in result.detections.labels)
    height, width = shape
    assert (result.detections.boxes >= 0).all()
    assert (result.detections.boxes <= [width + 1e-3, height + 1e-3, width + 1e-3, height + 1e-3]).all()


def test_the_numbers_of_boxes_are_exact(model):
    seen: list[torch.Size] = []
    heads = model.box_head, model.mask_head
    handles = [head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape)) for head in heads]
    with torch.no_grad():
        outputs = model(torch.randn(1, 3, 128, 192))
    for handle in handles:
        handle.remove()
    channels = model.recipe.model.fpn_channels
    assert seen == [(1000, channels, 7, 7), (100, channels, 14, 14)]
    assert outputs.instances.boxes.shape == (100, 4)
    assert outputs.masks.shape == (100, 28, 28)
    assert outputs.logits.shape[1:] == (32, 48)


def test_every_stage_has_its_time(model):
    timer = StageTimer()
    result = TwoStagePipeline(model).predict(random_image(64, 96), timer)
    own = {
        UPSNet: ["panoptic_logits", "panoptic_argmax", "result"],
        PanopticFPN: ["upsample_argmax", "merge", "result"],
    }
    assert list(timer.timings) == SHARED_STAGES + own[type(model)]
    assert result.timings == timer.timings


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(model, dtype):
    result = TwoStagePipeline(model, dtype=dtype).predict(random_image(64, 96))
    check_result(result, (64, 96))


@pytest.mark.parametrize("norm", ["bn", "gn"])
def test_the_pipeline_folds_norms(recipe, norm):
    normed = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, norm=norm, norm_groups=8))
    torch.manual_seed(0)
    model = PanopticFPN(normed, PanopticFPNConfig(mask_channels=16, box_channels=32, semantic_channels=16)).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    images = torch.randn(1, 3, 64, 96)
    folded = TwoStagePipeline(model).model
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(folded(images).logits, model(images).logits, rtol=1e-3, atol=1e-4)


def test_the_same_image_gives_the_same_map(model):
    pipeline = TwoStagePipeline(model)
    first, second = (pipeline.predict(random_image(90, 120)) for _ in range(2))
    assert np.array_equal(first.ids, second.ids)
    assert first.segments == second.segments


def test_detections_are_best_first_within_the_image(model):
    with torch.no_grad():
        outputs = model(torch.randn(1, 3, 128, 192), (100, 150))
    boxes = outputs.instances.boxes
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] <= 150).all()
    assert (boxes[:, 3] <= 100).all()
    assert (outputs.instances.labels < len(model.things)).all()
    assert (outputs.instances.scores.diff() <= 0).all()


def test_no_detections_at_all(recipe):
    torch.manual_seed(0)
    for build, config in ((UPSNet, UPSNetConfig(detections=0)), (PanopticFPN, PanopticFPNConfig(detections=0))):
        result = TwoStagePipeline(build(recipe, config)).predict(random_image(128, 160))
        check_result(result, (128, 160))
        assert not any(result.categories[s.label].isthing for s in result.segments)


def test_what_does_not_fit_is_named(model, recipe):
    with pytest.raises(ValueError, match=r"images: expected \[1, 3, H, W\] with multiples of 32"):
        model(torch.zeros(2, 3, 64, 64))
    with pytest.raises(ValueError, match="images: expected"):
        model(torch.zeros(1, 3, 60, 64))
    with pytest.raises(ValueError, match="image_size: expected at most"):
        model(torch.zeros(1, 3, 64, 64), (65, 64))
    with pytest.raises(ValueError, match="image: expected uint8"):
        TwoStagePipeline(model).predict(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ValueError, match="detections: expected at most 255 panoptic logits a pixel, got"):
        UPSNet(recipe, UPSNetConfig(detections=255))


# Boxes ---------------------------------------------------------------------------------------------------------------


def test_anchors_by_hand():
    roots = torch.tensor([0.25, 1.0, 4.0]).sqrt()
    boxes = anchors_at(torch.tensor([0, 1, 2, 3 * 5 + 1]), width=4, stride=8, scale=4.0, roots=roots)
    assert boxes[1].tolist() == [4 - 16, 4 - 16, 4 + 16, 4 + 16]
    assert boxes[0].tolist() == [4 - 32, 4 - 8, 4 + 32, 4 + 8]  # half as high as a square, twice as wide
    assert boxes[2].tolist() == [4 - 8, 4 - 32, 4 + 8, 4 + 32]
    assert boxes[3].tolist() == [12 - 16, 12 - 16, 12 + 16, 12 + 16]


def test_deltas_by_hand():
    boxes = torch.tensor([[10.0, 20.0, 30.0, 60.0]]).expand(4, 4)
    deltas = torch.tensor([[0, 0, 0, 0], [1, -1, 0, 0], [0, 0, math.log(2) * 5, 0], [0, 0, 1e9, 0.0]])
    moved = decode(boxes, deltas, (10.0, 5.0), (100, 200))
    assert moved[0].tolist() == [10, 20, 30, 60]
    torch.testing.assert_close(moved[1], torch.tensor([12.0, 16.0, 32.0, 56.0]))
    torch.testing.assert_close(moved[2], torch.tensor([0.0, 20.0, 40.0, 60.0]))
    assert moved[3].tolist() == [0, 20, 200, 60]


@pytest.mark.parametrize("number", [0, 1, 7, 20, 50])
def test_suppression_to_a_number(number):
    g = torch.Generator().manual_seed(3)
    corner = torch.rand(20, 2, generator=g) * 20
    boxes = torch.cat([corner, corner + 15], 1)
    scores, labels = torch.rand(20, generator=g), torch.arange(20, dtype=torch.int32) % 2
    kept = reference.nms(boxes, scores, labels, 0.3, number)
    others = [i for i in scores.argsort(descending=True).tolist() if i not in kept]
    assert suppress_to(number, boxes, scores, labels, 0.3).tolist() == (kept + others)[: min(number, 20)]
    assert len(reference.nms(boxes, scores, labels, 0.3, 20)) < 20


# Costs ---------------------------------------------------------------------------------------------------------------


def costs(build, recipe: Recipe) -> dict[str, Cost]:
    return two_stage_costs(lambda: build(recipe), (800, 1344))


def test_costs_of_upsnet():
    """Published: 45.05 million parameters (UPSNet), 259 G (LPSNet's Table 1). The module says where ours differ."""
    recipe = RECIPES["lpsnet_r50_coco_800"]
    parts = costs(UPSNet, recipe)
    total = sum(parts.values(), Cost(0, 0))
    assert total.parameters == pytest.approx(45.05e6, rel=0.015)
    assert total.macs == pytest.approx(370.2e9, rel=1e-3)
    assert total.macs - total.deform_macs == pytest.approx(278.1e9, rel=1e-3)
    two_layers = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, semantic_channels=(128, 128)))
    narrow = sum(costs(UPSNet, two_layers).values(), Cost(0, 0))
    assert narrow.parameters == pytest.approx(45.05e6, rel=0.002)


def test_costs_of_panoptic_fpn():
    """Published: about 46 million parameters."""
    total = sum(costs(PanopticFPN, RECIPES["lpsnet_r50_coco_800"]).values(), Cost(0, 0))
    assert total.parameters == pytest.approx(46.0e6, rel=0.005)
    assert total.macs == pytest.approx(299.7e9, rel=1e-3)


def test_costs_of_the_heads_by_hand():
    parts = costs(PanopticFPN, RECIPES["lpsnet_r50_coco_800"])
    assert parts["box_head"].macs == 1000 * (256 * 49 * 1024 + 1024 * 1024 + 1024 * 401)
    assert parts["mask_head"].macs == 100 * 14 * 14 * (4 * 256 * 256 * 9 + 256 * 256 * 4)
    pixels = sum((800 >> i) * (1344 >> i) for i in (2, 3, 4, 5)) + 13 * 21
    assert parts["rpn"].macs == pixels * (256 * 256 * 9 + 256 * 15)
    stages = [(800 >> 2) * (1344 >> 2) * 256, (800 >> 3) * (1344 >> 3) * 256]
    stages += [(800 >> 4) * (1344 >> 4) * 256 + (800 >> 3) * (1344 >> 3) * 128]
    stages += [(800 >> 5) * (1344 >> 5) * 256 + ((800 >> 4) * (1344 >> 4) + (800 >> 3) * (1344 >> 3)) * 128]
    assert parts["semantic_head"].macs == sum(stages) * 128 * 9 + (800 >> 2) * (1344 >> 2) * 128 * 54
