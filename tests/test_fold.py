import dataclasses

import pytest
import torch
from torch import nn

from lpsnet.config import RECIPES
from lpsnet.models.fold import fold_batch_norms
from lpsnet.models.lpsnet import LPSNet
from lpsnet.models.sync_norm import synchronize_batch_norm
from lpsnet.structures import DenseOutputs

SIZE = (32, 64)
IMAGE_SIZE = (30, 50)


def shaken(recipe) -> LPSNet:
    """With statistics and affine parameters far from those at the start, and offsets that are not 0."""
    torch.manual_seed(0)
    model = LPSNet(recipe)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.3, 2)
            nn.init.uniform_(module.weight, 0.2, 0.8)  # deep residual sums stay small, as in a trained network
            nn.init.normal_(module.bias, 0, 0.2)
        if hasattr(module, "offset"):
            nn.init.normal_(module.offset.weight, 0, 0.02)
    return model.eval()


def tensors(outputs: DenseOutputs) -> tuple[torch.Tensor, ...]:
    return (outputs.logits, *outputs.ltrb, *outputs.borderness)


def check(model: LPSNet) -> LPSNet:
    folded = fold_batch_norms(model)
    images = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        for got, expected in zip(tensors(folded(images, IMAGE_SIZE)), tensors(model(images, IMAGE_SIZE)), strict=True):
            assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    return folded


# Recipes that differ in the input alone have the same network.
NETWORKS = {(r.model, len(r.categories)): name for name, r in reversed(RECIPES.items())}


@pytest.mark.parametrize("name", NETWORKS.values())
def test_a_folded_network_computes_the_same(name):
    check(shaken(RECIPES[name]))


@pytest.mark.parametrize("context", ["ppm", "gap", "none"])
@pytest.mark.parametrize("norm", ["bn", "gn"])
@pytest.mark.parametrize("deform", ["v1", "v2", "off"])
def test_every_option_folds(tiny_recipe, context, norm, deform):
    fields = {"context": context, "norm": norm, "deform": deform, "norm_groups": 4, "freeze_backbone_norm": True}
    model = shaken(dataclasses.replace(tiny_recipe, model=dataclasses.replace(tiny_recipe.model, **fields)))
    folded = check(model)
    kept = [sum(isinstance(m, nn.GroupNorm) for m in network.modules()) for network in (model, folded)]
    assert kept[0] == kept[1]
    assert (kept[0] > 0) == (norm == "gn")


def test_what_was_folded_stays_as_it_is(tiny_recipe):
    model = shaken(tiny_recipe).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folded = fold_batch_norms(model)
    assert model.training
    assert not folded.training
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(p.requires_grad for p in folded.parameters())
    assert folded.recipe == model.recipe


def test_synchronized_norms_fold_too(tiny_recipe):
    model = shaken(tiny_recipe)
    synchronize_batch_norm(model)
    check(model)


def test_a_folded_network_under_autocast_keeps_its_biases(tiny_recipe):
    model = shaken(tiny_recipe)
    folded = fold_batch_norms(model)
    images = torch.randn(1, 3, *SIZE)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        got, expected = folded(images).logits, model(images).logits
    assert (got - expected).abs().max() < 0.05 * expected.abs().max()


def test_a_norm_in_an_unknown_place_is_refused(tiny_recipe):
    model = shaken(tiny_recipe)
    model.fpn.p6 = nn.Sequential(model.fpn.p6, nn.ReLU(), nn.BatchNorm2d(tiny_recipe.model.fpn_channels))
    with pytest.raises(TypeError, match=r"each BatchNorm behind a convolution .* got \['fpn.p6.2'\]"):
        fold_batch_norms(model)
