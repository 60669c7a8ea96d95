import dataclasses
import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from lpsnet import checkpoint, packaged
from lpsnet.checkpoint import assign_state, load_checkpoint, save_checkpoint
from lpsnet.config import RECIPES, Recipe
from lpsnet.models.lpsnet import LPSNet


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    recipe = RECIPES["lpsnet_tiny_synthetic"]
    model = dataclasses.replace(recipe.model, fpn_channels=16, ppm_channels=8, box_channels=16, semantic_channels=(16,))
    return dataclasses.replace(recipe, model=model)


@pytest.fixture(scope="module")
def model(recipe) -> LPSNet:
    torch.manual_seed(0)
    return LPSNet(recipe).eval()


@pytest.fixture
def path(tmp_path, model, recipe):
    save_checkpoint(tmp_path / "model.safetensors", model.state_dict(), recipe, extra={"miou": "0.5"})
    return tmp_path / "model.safetensors"


def metadata_of(recipe: Recipe) -> dict[str, str]:
    return {"format": "lpsnet", "version": "1", "recipe": json.dumps(recipe.to_dict())}


def test_round_trip(path, model, recipe):
    loaded_recipe, state = load_checkpoint(path)
    assert loaded_recipe == recipe  # infinite level bounds and tuples included
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


def test_channels_last_weights_are_stored_as_they_are(tmp_path, model, recipe):
    other = LPSNet(recipe).to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "a.safetensors", other.state_dict(), recipe)
    state = load_checkpoint(tmp_path / "a.safetensors")[1]
    assert all(torch.equal(state[key], value) for key, value in other.state_dict().items())


def test_from_pretrained_computes_the_same(path, model):
    loaded = LPSNet.from_pretrained(path)
    assert not loaded.training
    assert {p.device.type for p in loaded.parameters()} == {"cpu"}
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in model.parameters()]
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(loaded(images).logits, model(images).logits)


def test_frozen_norms_stay_frozen(tmp_path, recipe):
    frozen = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, freeze_backbone_norm=True))
    model = LPSNet(frozen)
    save_checkpoint(tmp_path / "a.safetensors", model.state_dict(), frozen)
    loaded = LPSNet.from_pretrained(tmp_path / "a.safetensors")
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in model.parameters()]


def test_half_stores_weights_small_and_norms_exactly(tmp_path, path, model, recipe):
    save_checkpoint(tmp_path / "half.safetensors", model.state_dict(), recipe, half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * path.stat().st_size
    stored = load_file(tmp_path / "half.safetensors")
    _, state = load_checkpoint(tmp_path / "half.safetensors")
    for key, value in model.state_dict().items():
        if value.ndim > 1:
            assert stored[key].dtype == torch.float16
            assert state[key].dtype == torch.float32
            torch.testing.assert_close(state[key], value, rtol=1e-3, atol=1e-7)
        else:
            assert torch.equal(state[key], value)


def test_half_refuses_what_does_not_fit(tmp_path, model, recipe):
    state = model.state_dict() | {"box_head.output.weight": torch.full((5, 16, 3, 3), 1e5)}
    with pytest.raises(ValueError, match=r"half: expected weights within .* got 1e\+05 in box_head\.output\.weight"):
        save_checkpoint(tmp_path / "half.safetensors", state, recipe, half=True)
    assert not list(tmp_path.iterdir())


def test_extra_metadata_are_kept_but_replace_nothing(path, model, recipe):
    with checkpoint.safe_open(path, "pt") as file:
        assert file.metadata()["miou"] == "0.5"
    with pytest.raises(ValueError, match=r"extra: .* got \['recipe'\]"):
        save_checkpoint(path, model.state_dict(), recipe, extra={"recipe": ""})


def test_a_failed_write_leaves_the_old_file_whole(path, model, recipe, monkeypatch):
    before = path.read_bytes()

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", fail)
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(path, {"other": torch.zeros(3)}, recipe)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 5000, -1])
def test_truncated_files_are_named(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"checkpoint: .*model\.safetensors.* damaged or no safetensors"):
        load_checkpoint(path)


def test_other_files_are_named(tmp_path, model):
    with pytest.raises(ValueError, match="expected a file"):
        load_checkpoint(tmp_path / "absent.safetensors")
    with pytest.raises(ValueError, match="expected a file"):
        load_checkpoint(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pickle.pt")
    with pytest.raises(ValueError, match="damaged or no safetensors file"):
        load_checkpoint(tmp_path / "pickle.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "expected one of LPSNet"),
        ({"version": "2"}, "expected version 1, got '2'"),
        ({"recipe": "{"}, "the recipe .* does not read"),
        ({"recipe": "[]"}, "the recipe .* does not read"),
        ({"recipe": '{"name": "a"}'}, "the recipe .* does not read"),
        ({"recipe": '{"name": "a", "dataset": "coco", "colour": 1}'}, "does not read.*colour"),
    ],
)
def test_foreign_metadata_are_named(tmp_path, recipe, change, message):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata_of(recipe) | change)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(tmp_path / "a.safetensors")


def test_a_file_without_metadata_is_named(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="expected one of LPSNet"):
        LPSNet.from_pretrained(tmp_path / "a.safetensors")


def test_keys_and_shapes_that_do_not_fit_are_listed(tmp_path, model, recipe):
    state = dict(model.state_dict())
    del state["box_head.scales"]
    state["fpn.p8.weight"] = torch.zeros(1)
    state["box_head.output.bias"] = torch.zeros(6)
    save_checkpoint(tmp_path / "a.safetensors", state, recipe)
    with pytest.raises(ValueError, match="checkpoint: expected the tensors of a LPSNet") as error:
        LPSNet.from_pretrained(tmp_path / "a.safetensors")
    assert "1 missing (box_head.scales)" in str(error.value)
    assert "1 unknown (fpn.p8.weight)" in str(error.value)
    assert "box_head.output.bias is [6], not [5]" in str(error.value)
    with pytest.raises(ValueError, match=r"missing \(.*, \.\.\.\)"):
        assign_state(model, {})


def test_packaged_names(path, model, monkeypatch):
    monkeypatch.setattr(packaged, "FOLDER", path.parent)
    loaded = LPSNet.from_pretrained("model")
    assert torch.equal(loaded.box_head.scales, model.box_head.scales)
    with pytest.raises(ValueError, match=r"model: expected a file or one of \[.*'model'.*\], got 'modle'"):
        LPSNet.from_pretrained("modle")
