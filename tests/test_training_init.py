import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from lpsnet.models.lpsnet import LPSNet
from lpsnet.training import cli
from lpsnet.training.initial import load_matching


def test_tensors_of_one_key_and_shape_are_taken_and_the_others_named(tiny_recipe):
    torch.manual_seed(0)
    source = LPSNet(tiny_recipe)
    wider = dataclasses.replace(tiny_recipe.model, semantic_channels=(24, 16))
    model = LPSNet(dataclasses.replace(tiny_recipe, model=wider))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = source.state_dict() | {"extra.weight": torch.zeros(3)}
    transfer = load_matching(model, state)
    after = model.state_dict()
    assert set(transfer.taken) | set(transfer.reshaped) | set(transfer.absent) == set(after)
    assert all(torch.equal(after[k], state[k]) for k in transfer.taken)
    assert all(torch.equal(after[k], before[k]) for k in (*transfer.reshaped, *transfer.absent))
    assert "semantic_head.layers.0.weight" in transfer.reshaped
    assert "semantic_head.layers.1.weight" in transfer.absent
    assert transfer.unused == ("extra.weight",)
    assert any(k.startswith("backbone.") for k in transfer.taken)
    lines = str(transfer).splitlines()
    assert lines[0] == f"{len(transfer.taken)} tensors taken"
    assert "semantic_head.layers.0" in lines[1]
    assert lines[3] == "1 not in the model: extra"


def test_a_checkpoint_of_which_nothing_fits_is_refused(tiny_recipe):
    with pytest.raises(ValueError, match="init: expected a checkpoint with tensors of a LPSNet, got 1"):
        load_matching(LPSNet(tiny_recipe), {"weight": torch.zeros(1)})


def test_a_run_starts_from_a_checkpoint(tiny_checkpoint, tmp_path, capfd, monkeypatch):
    starts = []
    monkeypatch.setattr(
        "lpsnet.training.loop.train",
        lambda model, *_, **__: starts.append({k: v.clone() for k, v in model.state_dict().items()}),
    )
    monkeypatch.setattr(LPSNet, "load_pretrained_backbone", lambda *_: pytest.fail("the checkpoint has a backbone"))
    arguments = ["--output", str(tmp_path), "--init", str(tiny_checkpoint), "lpsnet_tiny_synthetic"]
    small = ["--model.fpn-channels", "16", "--model.ppm-channels", "8", "--model.box-channels", "16"]
    cli.main([*arguments, *small, "--model.semantic-channels", "24"])
    source = load_file(tiny_checkpoint)
    taken = [k for k, v in starts[0].items() if k in source and source[k].shape == v.shape]
    assert all(torch.equal(starts[0][k], source[k]) for k in taken)
    error = capfd.readouterr().err
    assert f"{len(taken)} tensors taken" in error
    assert "semantic_head" in error
