"""Losses that explode, samples that do not read, workers that die; and float16."""

import dataclasses
import json
import math
import os
import signal

import pytest
import torch
from training_worker import TINY_ARGUMENTS, run, scenes, tiny_model, tiny_recipe

from lpsnet.categories import categories
from lpsnet.checkpoint import load_checkpoint
from lpsnet.losses import Normalizers
from lpsnet.training import cli
from lpsnet.training.batches import DataError, batches, load_batch, worker_errors
from lpsnet.training.distributed import Ranks
from lpsnet.training.divergence import MIN_SCALE, LossWatch, TrainingDiverged
from lpsnet.training.loop import train
from lpsnet.training.schedule import build_optimizer
from lpsnet.training.step import Gradients, Stepper


def test_a_loss_far_above_the_usual_is_a_fault():
    watch = LossWatch(20.0)
    assert watch.fault(500.0, 1.0, None) is None  # nothing is usual yet
    for _ in range(20):
        assert watch.fault(3.0, 1.0, None) is None
    assert watch.fault(59.0, 1.0, None) is None
    assert watch.fault(61.0, 1.0, None) == "the loss is 61, more than 20 times the usual 3"
    assert 61.0 not in watch.history
    again = LossWatch(20.0, watch.history)
    assert again.fault(61.0, 1.0, None) is not None
    assert LossWatch(0.0, watch.history).fault(61.0, 1.0, None) is None
    # Small losses may jump: what is below 1 counts as 1.
    small = LossWatch(20.0, [0.0] * 50)
    assert small.fault(19.0, 1.0, None) is None
    assert small.fault(21.0, 1.0, None) is not None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_a_fault(bad):
    assert LossWatch(0.0).fault(bad, 1.0, None) == f"the loss is {bad}"
    assert LossWatch(0.0).fault(1.0, bad, None) == f"the norm of the gradient is {bad}"
    assert LossWatch(0.0).fault(1.0, bad, 65536.0) is None  # the loss scale shrinks
    assert "every loss scale" in (LossWatch(0.0).fault(1.0, bad, MIN_SCALE / 2) or "")


def test_the_batch_of_a_diverged_step_can_be_replayed(tmp_path, monkeypatch):
    recipe = tiny_recipe("gn", iterations=5)
    apply = Stepper.apply

    def spoil(self: Stepper, gradients: Gradients) -> None:
        apply(self, gradients)
        if self.optimizer.param_groups[0]["lr"] and spoil.steps == 2:
            with torch.no_grad():
                self._parameters[0].fill_(math.nan)
        spoil.steps += 1

    spoil.steps = 0
    monkeypatch.setattr(Stepper, "apply", spoil)
    with pytest.raises(TrainingDiverged, match=r"step 4: the loss is nan; .*the last checkpoint is of step 2"):
        run(recipe, tmp_path)
    report = json.loads((tmp_path / "diverged.json").read_text())
    assert (report["step"], report["losses"]["total"]) == (4, "nan")
    batch = load_batch(scenes(), recipe, report["step"] - 1)
    assert [s["name"] for s in report["samples"]] == list(batch.names)
    assert [scenes()[s["index"]].name for s in report["samples"]] == list(batch.names)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == 2
    assert all(torch.isfinite(v).all() for v in state["model"].values())
    # The run goes on from there, and the report of a fault that is over goes.
    monkeypatch.undo()
    assert len(run(recipe, tmp_path, resume=True)) == 3
    assert not (tmp_path / "diverged.json").exists()


class Broken:
    """Scenes of which one does not read, or ends the process that reads it."""

    def __init__(self, kills: bool) -> None:
        self.kills, self.samples, self.reader = kills, scenes(), os.getpid()
        self.categories = categories("synthetic")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int):
        if index == 5:
            if self.kills and os.getpid() != self.reader:
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("scene_5.png: expected a PNG, got 7 bytes")
        return self.samples[index]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_that_does_not_read_is_named(workers):
    recipe = tiny_recipe("gn", workers=workers, iterations=10)
    with pytest.raises(DataError, match=r"^sample 5 of step \d: scene_5.png: expected a PNG, got 7 bytes$"):
        list(batches(Broken(kills=False), recipe, 0))


def test_a_worker_that_dies_is_one_line_and_the_checkpoint_stays(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr("lpsnet.models.lpsnet.LPSNet", tiny_model)
    monkeypatch.setattr("lpsnet.data.build.build_dataset", lambda *_: Broken(kills=True))
    settings = ["--train.iterations", "20", "--train.checkpoint-every", "1", "--train.workers", "1"]
    seed = next(s for s in range(20) if step_of(5, s) == 3)  # the worker is two steps ahead
    with pytest.raises(SystemExit, match="1"):
        cli.main(["--output", str(tmp_path), "--no-pretrained", *TINY_ARGUMENTS, *settings, "--train.seed", str(seed)])
    lines = capfd.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("lpsnet-train: a process that loads data died")
    assert "killed by signal: Killed" in lines[-1]
    assert "Traceback" not in "".join(lines)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] >= 1
    assert load_checkpoint(tmp_path / "model.safetensors")


def step_of(index: int, seed: int) -> int:
    """The step of the first epoch, batches of 2, that sees a sample."""
    from lpsnet.training.batches import places

    config = dataclasses.replace(tiny_recipe("gn").train, batch_size=2, seed=seed)
    return next(step for step in range(8) if index in [p.index for p in places(config, 8, step)])


def test_the_parts_of_the_processes_are_the_batch():
    recipe = tiny_recipe("gn", batch_size=7)
    whole = load_batch(scenes(), recipe, 2)
    parts = [load_batch(scenes(), recipe, 2, rank, 3) for rank in range(3)]
    assert sum((p.names for p in parts), ()) == whole.names
    assert [len(p.names) for p in parts] == [2, 2, 3]
    parts = [p.padded(*whole.images.shape[2:]) for p in parts]
    assert torch.equal(torch.cat([p.images for p in parts]), whole.images)
    assert torch.equal(torch.cat([p.targets.labels for p in parts]), whole.targets.labels)
    for name in ("positive", "ltrb", "borderness"):
        for level, expected in enumerate(getattr(whole.targets, name)):
            assert torch.equal(torch.cat([getattr(p.targets, name)[level] for p in parts]), expected)
    for name in ("positives", "borderness", "pixels", "classes"):
        assert sum(getattr(p.normalizers, name) for p in parts) == pytest.approx(getattr(whole.normalizers, name))


def test_padding_is_zero_as_in_inference():
    whole = load_batch(scenes(), tiny_recipe("gn", batch_size=7), 2)
    small = [i for i, name in enumerate(whole.names) if (whole.targets.labels[i, :, 64:] == 255).all()]
    assert small
    assert all((whole.images[i, :, :, 64:] == 0).all() for i in small)


def test_float16_trains_scales_and_resumes_bit_equal(tmp_path):
    recipe = tiny_recipe("gn", amp="fp16", iterations=4, optimizer="adamw", clip_norm=1.0)
    whole = run(recipe, tmp_path / "whole")
    assert all(math.isfinite(step["total"]) for step in whole)
    exact = run(dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, amp="off")), tmp_path / "exact")
    assert [step["total"] for step in whole] == pytest.approx([step["total"] for step in exact], rel=0.02)
    state = torch.load(tmp_path / "whole" / "state.previous.pt", weights_only=True)
    assert state["step"] == 2
    assert state["scaler"]["scale"] > 0
    (tmp_path / "cut").mkdir()
    torch.save(state, tmp_path / "cut" / "state.pt")
    assert run(recipe, tmp_path / "cut", resume=True) == whole[2:]


def test_a_step_that_overflows_float16_lowers_the_scale_and_leaves_the_weights():
    recipe = tiny_recipe("gn", amp="fp16", clip_norm=1.0)
    model = tiny_model(recipe)
    stepper = Stepper(model, build_optimizer(model, recipe.train), Ranks())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    stepper.scaler.load_state_dict(stepper.scaler.state_dict() | {"scale": 2.0**60})
    batch = load_batch(scenes(), recipe, 0)
    gradients = stepper.backward(batch, batch.normalizers)
    assert math.isfinite(gradients.losses["total"])
    assert not math.isfinite(gradients.norm)
    stepper.apply(gradients)
    assert stepper.loss_scale == 2.0**59
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_compiling_changes_neither_the_keys_nor_the_losses(tmp_path, monkeypatch):
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f: compiled(f, backend="eager"))  # traced alike, in less time
    recipe = tiny_recipe("gn", iterations=1, batch_size=2, compile=True)
    plain = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, compile=False))
    losses = run(recipe, tmp_path / "compiled")
    expected = run(plain, tmp_path / "plain")
    for a, b in zip(expected, losses, strict=True):
        assert b == {key: pytest.approx(value, rel=1e-4) for key, value in a.items()}
    keys = [list(load_checkpoint(tmp_path / n / "model.safetensors")[1]) for n in ("compiled", "plain")]
    assert keys[0] == keys[1]


def test_no_image_with_a_class_divides_by_nothing(tmp_path):
    void = [dataclasses.replace(s, ids=s.ids * 0, segments=()) for s in scenes()[:2]]
    recipe = tiny_recipe("gn", iterations=1, batch_size=2)
    assert load_batch(void, recipe, 0).normalizers == Normalizers(0, 0, 0, 0)
    totals: list[float] = []
    train(tiny_model(recipe), void, tmp_path, on_step=lambda report: totals.append(report.losses["total"]))
    assert totals == [0.0]


def test_a_worker_that_dies_while_a_checkpoint_is_written_is_named(tmp_path):
    """The signal raises within torch.save, whose own error on closing the half-written file takes its place."""

    class Fatal:
        def __reduce__(self):
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.\nand more")

    died = pytest.raises(DataError, match=r"data died, .*: DataLoader worker \(pid 7\) is killed by signal: Killed\.$")
    with died, worker_errors():
        try:
            torch.save({"tensor": torch.zeros(3), "fatal": Fatal()}, tmp_path / "state.pt")
        except RuntimeError:
            raise RuntimeError("unexpected pos 105344 vs 105232")  # noqa: B904
    with pytest.raises(RuntimeError, match=r"^another$"), worker_errors():
        raise RuntimeError("another")
