import dataclasses
import json

import numpy as np
import pytest
import torch

from lpsnet.checkpoint import load_checkpoint
from lpsnet.config import RECIPES, Recipe, TrainConfig
from lpsnet.data.sample import Sample, Subset
from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.models.lpsnet import LPSNet
from lpsnet.training.batches import batches, to_batch
from lpsnet.training.loop import TrainingDiverged, train
from lpsnet.training.schedule import MovingAverage, build_optimizer, learning_rate_factor
from lpsnet.training.state import load_state, save_state


def quick_recipe(**train_fields) -> Recipe:
    recipe = RECIPES["lpsnet_tiny_synthetic"]
    fields = {"iterations": 6, "batch_size": 2, "warmup": 2, "checkpoint_every": 3, "workers": 0, **train_fields}
    model = dataclasses.replace(recipe.model, fpn_channels=16, ppm_channels=8, box_channels=16, semantic_channels=(16,))
    return dataclasses.replace(recipe, model=model, train=dataclasses.replace(recipe.train, **fields))


def run(recipe: Recipe, output, **kwargs) -> list[float]:
    torch.manual_seed(recipe.train.seed)
    totals: list[float] = []
    train(
        LPSNet(recipe),
        SyntheticScenes(8, size=(64, 96)),
        output,
        on_step=lambda report: totals.append(report.losses["total"]),
        **kwargs,
    )
    return totals


def test_learning_rate_schedules():
    steps = TrainConfig(iterations=100, steps=(60, 80), warmup=10)
    assert learning_rate_factor(0, steps) == pytest.approx(0.001)
    assert learning_rate_factor(5, steps) == pytest.approx(0.5005)
    assert [learning_rate_factor(s, steps) for s in (10, 59, 60, 79, 80)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    cosine = dataclasses.replace(steps, schedule="cosine")
    assert [learning_rate_factor(s, cosine) for s in (10, 55, 100)] == pytest.approx([1, 0.5, 0])


def test_biases_and_norms_do_not_decay_and_the_backbone_has_its_own_rate():
    recipe = quick_recipe(backbone_learning_rate=0.25)
    model = LPSNet(recipe)
    optimizer = build_optimizer(model, recipe.train)
    names = {id(p): n for n, p in model.named_parameters()}
    seen = set()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            seen.add(name)
            assert (group["weight_decay"] > 0) == (parameter.ndim > 1)
            expected = recipe.train.learning_rate * (0.25 if name.startswith("backbone.") else 1)
            assert group["base_lr"] == pytest.approx(expected)
    assert seen == {n for n, p in model.named_parameters() if p.requires_grad}


def test_moving_average_follows_its_definition():
    model = torch.nn.Linear(1, 1, bias=False)
    average = MovingAverage(model, decay=0.9)
    expected = model.weight.item()
    for step in range(1, 40):
        with torch.no_grad():
            model.weight += 1
        average.update(model, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.item()
    assert average.state["weight"].item() == pytest.approx(expected, rel=1e-5)


def test_batches_are_a_function_of_seed_and_step():
    recipe = quick_recipe()
    scenes = SyntheticScenes(5, size=(64, 96))
    whole = list(batches(scenes, recipe, 0))
    tail = list(batches(scenes, dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, workers=1)), 4))
    assert len(whole) == 6
    assert len(tail) == 2
    assert [b.names for b in tail] == [b.names for b in whole[4:]]
    assert all(torch.equal(a.images, b.images) for a, b in zip(whole[4:], tail, strict=True))
    # Each epoch shows every sample once.
    names = [n for b in whole for n in b.names]
    assert len(set(names[:5])) == len(set(names[5:10])) == 5


def test_samples_of_several_sizes_are_padded_to_one():
    recipe = quick_recipe()
    samples = [SyntheticScenes(1, size=(64, 96))[0], SyntheticScenes(1, size=(50, 128))[0]]
    batch = to_batch(samples, recipe)
    assert batch.images.shape == (2, 3, 64, 128)
    assert (batch.targets.labels[1, 50:] == 255).all()
    assert [tuple(p.shape) for p in batch.targets.positive] == [(2, 8, 16), (2, 4, 8), (2, 2, 4), (2, 1, 2), (2, 1, 1)]


def test_a_resumed_run_has_the_losses_of_the_whole_run(tmp_path):
    recipe = quick_recipe()
    whole = run(recipe, tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop_after_four(report) -> None:
        if report.step == 4:
            raise Stop

    torch.manual_seed(recipe.train.seed)
    with pytest.raises(Stop):
        train(LPSNet(recipe), SyntheticScenes(8, size=(64, 96)), tmp_path / "cut", on_step=stop_after_four)
    resumed = run(recipe, tmp_path / "cut", resume=True)
    assert len(resumed) == 3  # steps 4, 5, 6: the state is of step 3
    assert resumed == whole[3:]
    final = [load_checkpoint(tmp_path / name / "model.safetensors")[1] for name in ("whole", "cut")]
    assert all(torch.equal(value, final[1][name]) for name, value in final[0].items())


def test_log_and_checkpoint_are_written(tmp_path):
    recipe = quick_recipe(amp="bf16", ema=0.9)
    totals = run(recipe, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["total"] for line in lines] == totals
    assert load_checkpoint(tmp_path / "model.safetensors")[0] == recipe
    assert not list(tmp_path.glob("*.part"))


def test_a_diverged_loss_names_the_samples(tmp_path):
    recipe = quick_recipe()
    model = LPSNet(recipe)
    with torch.no_grad():
        next(model.semantic_head.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingDiverged, match="step 1: the loss is nan; the samples"):
        train(model, SyntheticScenes(8, size=(64, 96)), tmp_path)


def test_state_of_another_recipe_is_refused(tmp_path):
    recipe = quick_recipe()
    save_state(tmp_path, {"recipe": recipe.to_dict(), "step": 1})
    assert load_state(tmp_path, recipe)["step"] == 1
    assert load_state(tmp_path, quick_recipe(workers=7, accumulate=2))["step"] == 1
    with pytest.raises(ValueError, match=r"differs in \['train.iterations \(6 there, 7 here\)'\]"):
        load_state(tmp_path, quick_recipe(iterations=7))
    (tmp_path / "state.pt").write_bytes(b"no state")
    with pytest.raises(ValueError, match="expected the state of a training run"):
        load_state(tmp_path, recipe)


def test_empty_data_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected at least 1 sample, got 0"):
        train(LPSNet(quick_recipe()), Subset([], []), tmp_path)


def test_a_whole_step_lowers_the_loss(tmp_path):
    recipe = quick_recipe(iterations=30, learning_rate=3e-3, warmup=5)
    totals = run(recipe, tmp_path)
    assert np.mean(totals[-5:]) < 0.8 * np.mean(totals[:5])


def test_a_sample_without_objects_trains(tmp_path):
    scene = SyntheticScenes(1, size=(64, 96))[0]
    empty = Sample("empty", scene.image, np.zeros_like(scene.ids), ())
    totals: list[float] = []
    train(LPSNet(quick_recipe(iterations=2)), [empty], tmp_path, on_step=lambda r: totals.append(r.losses["total"]))
    assert totals == [0.0, 0.0]
