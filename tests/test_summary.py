import dataclasses
import sys

import pytest
import torch
from torch import nn

from lpsnet.config import RECIPES, ModelConfig
from lpsnet.models import summary
from lpsnet.models.backbone import build_backbone
from lpsnet.models.context import PyramidPooling
from lpsnet.models.deform import DeformConv2d
from lpsnet.models.macs import PARTS, Cost, module_macs, network_costs


@pytest.fixture(autouse=True)
def on_meta():
    with torch.device("meta"):
        yield


def test_single_layers_by_hand():
    x = torch.empty(2, 6, 10, 8)
    assert module_macs(nn.Conv2d(6, 4, 3, stride=2, padding=1), x) == 2 * 4 * 5 * 4 * 6 * 9
    assert module_macs(nn.Conv2d(6, 6, 5, padding=2, groups=6), x) == 2 * 6 * 80 * 25
    assert module_macs(nn.Linear(8, 3), x) == 2 * 6 * 10 * 3 * 8
    assert module_macs(nn.Sequential(nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4), nn.ReLU()), x) == 2 * 80 * 24
    convolution, offsets = 2 * 80 * 5 * 6 * 9, 2 * 80 * 6 * 9
    assert module_macs(DeformConv2d(6, 5, modulated=False), x) == convolution + 18 * offsets
    assert module_macs(DeformConv2d(6, 5, modulated=True), x) == convolution + 27 * offsets


def test_a_layer_that_runs_twice_counts_twice():
    conv = nn.Conv2d(3, 3, 1)
    assert module_macs(nn.Sequential(conv, conv), torch.empty(1, 3, 4, 4)) == 2 * 16 * 9


def test_pyramid_pooling_by_hand():
    config = ModelConfig(fpn_channels=8, ppm_channels=4, ppm_bins=(1, 2), norm="bn")
    module = PyramidPooling(config, 16)
    pooling = 5 * 16 * 30  # 1 + 4 cells, each a sum over 5 x 6
    reduce = 5 * 16 * 4
    upsampling = 5 * 4 * 30
    fuse = 30 * 8 * (16 + 4 + 4) * 9
    assert module_macs(module, torch.empty(1, 16, 5, 6), (5, 6)) == pooling + reduce + upsampling + fuse


def test_resnet50_is_as_published():
    """4.1 GMAC at 224 x 224 and 25.6 million parameters, 2.05 million of each in the classifier (torchvision)."""
    backbone = build_backbone(ModelConfig(backbone="resnet50"))
    assert module_macs(backbone, torch.empty(1, 3, 224, 224)) == pytest.approx(4.09e9, rel=0.01)
    assert sum(p.numel() for p in backbone.parameters()) == 25_557_032 - 2_049_000


def test_efficientnet_lite0_is_as_published():
    """407 MMAC at 224 x 224 (TensorFlow's EfficientNet-Lite page), 20 + 1.3 million of them in the classifier."""
    backbone = build_backbone(ModelConfig(backbone="efficientnet_lite0"))
    classifier = 7 * 7 * 320 * 1280 + 1280 * 1000
    assert module_macs(backbone, torch.empty(1, 3, 224, 224)) + classifier == pytest.approx(407e6, rel=0.06)


@pytest.mark.parametrize("deform", ["v1", "v2"])
def test_the_parts_of_a_network(deform):
    recipe = RECIPES["lpsnet_tiny_synthetic"]
    with_deform = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, deform=deform))
    costs, plain = network_costs(with_deform, (128, 192)), network_costs(recipe, (128, 192))
    assert costs.keys() == PARTS.keys()
    head = costs["semantic_head"]
    pixels = sum((128 >> i) * (192 >> i) for i in (2, 3, 4, 5))
    assert head.deform_macs == pixels * 2 * 48 * 48 * 9
    assert head.offset_macs == pixels * 2 * 48 * 9 * (18 if deform == "v1" else 27)
    assert head.macs == head.deform_macs + head.offset_macs + pixels * 48 * len(recipe.categories)
    assert head.macs - head.offset_macs == plain["semantic_head"].macs
    assert plain["semantic_head"] == Cost(plain["semantic_head"].parameters, plain["semantic_head"].macs, 0, 0)
    assert {k: v for k, v in costs.items() if k != "semantic_head"} == {
        k: v for k, v in plain.items() if k != "semantic_head"
    }


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["lpsnet-summary", *arguments])
    monkeypatch.setenv("COLUMNS", "140")
    summary.main()


def test_command_prints_the_table(monkeypatch, capsys):
    run(monkeypatch, "lpsnet_tiny_synthetic", "--size", "128", "192")
    out = capsys.readouterr().out
    costs = network_costs(RECIPES["lpsnet_tiny_synthetic"], (128, 192))
    assert "lpsnet_tiny_synthetic at 128 x 192" in out
    assert f"{sum(c.parameters for c in costs.values()):,}" in out
    assert f"{sum(c.macs for c in costs.values()) / 1e9:.3f}" in out
    assert all(title in out for title in PARTS.values())


def test_command_takes_the_largest_input_of_the_recipe(monkeypatch, capsys):
    run(monkeypatch, "lpsnet_lite0_camvid")
    assert "at 384 x 480" in capsys.readouterr().out


def test_command_prints_all_recipes(monkeypatch, capsys):
    few = {name: RECIPES[name] for name in ("lpsnet_tiny_synthetic", "lpsnet_lite0_camvid")}
    monkeypatch.setattr(summary, "RECIPES", few)
    run(monkeypatch, "--all", "--markdown")
    lines = capsys.readouterr().out.splitlines()
    assert lines == summary.markdown([summary.overview_row(r) for r in few.values()]).splitlines()
    assert len(lines) == 4
    assert lines[3] == "| `lpsnet_lite0_camvid` | 384 x 480 | 4.66 M | 6.3 | - | 6.3 | packaged |"
    run(monkeypatch, "--all")
    out = capsys.readouterr().out
    assert all(value in out for value in ("lpsnet_tiny_synthetic", "384 x 480", "4.66 M", "packaged"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected the name of a recipe, or --all"),
        (["lpsnet_tiny_synthetic", "--markdown"], "expected the name of a recipe, or --all"),
        (["lpsnet_tiny_synthetic", "--all"], "--all: expected neither a recipe nor --size beside it"),
        (["--all", "--size", "64", "64"], "--all: expected neither a recipe nor --size beside it"),
        (["nope"], "lpsnet-summary: recipe: expected one of"),
        (["lpsnet_tiny_synthetic", "--size", "100", "100"], "multiples of 32"),
    ],
)
def test_command_names_mistakes(monkeypatch, capsys, arguments, message):
    with pytest.raises(SystemExit) as exit_:
        run(monkeypatch, *arguments)
    assert exit_.value.code == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
