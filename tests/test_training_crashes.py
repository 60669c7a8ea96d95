"""What is left of a run that was killed, interrupted, or had no room to write."""

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from training_worker import TINY_ARGUMENTS, command, run, tiny_recipe

from lpsnet.checkpoint import load_checkpoint
from lpsnet.training import state as state_module
from lpsnet.training.interrupt import Interrupts, TrainingInterrupted
from lpsnet.training.state import has_state, load_state, remove_state, save_state

WORKER = Path(__file__).with_name("training_worker.py")
LOSSES = ("semantic", "giou", "borderness", "total")


def start(*args: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen:
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parents[1]), "COLUMNS": "400"}
    return subprocess.Popen(
        [sys.executable, *prefix, str(WORKER), *args],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def arguments(output: Path, iterations: int, *more: str) -> list[str]:
    common = ["--output", str(output), "--limit", "6", "--no-pretrained", "--threads", "1"]
    return [*common, *more, *TINY_ARGUMENTS, "--train.iterations", str(iterations)]


def wait_for_step(process: subprocess.Popen, step: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"step {step}:"):
            return
    pytest.fail(f"the run ended before step {step}: {process.communicate(timeout=60)[1]}")


def logged(output: Path) -> list[dict[str, float]]:
    lines = (output / "log.jsonl").read_text().splitlines()
    return [{key: json.loads(line)[key] for key in ("step", *LOSSES)} for line in lines]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As many as the processes that are started have."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The folder of a run of 6 steps that nothing stopped."""
    output = tmp_path_factory.mktemp("undisturbed")
    command(arguments(output, 6))
    return output


def test_killed_at_any_step_and_resumed_is_bit_equal(undisturbed, tmp_path):
    step = random.randint(3, 5)  # the first state is that of step 2, written after its line
    process = start("train", *arguments(tmp_path, 6))
    wait_for_step(process, step)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    command(arguments(tmp_path, 6, "--resume"))
    assert logged(tmp_path) == logged(undisturbed), f"killed after step {step}"
    expected, got = (load_checkpoint(path / "model.safetensors")[1] for path in (undisturbed, tmp_path))
    assert all(torch.equal(got[key], value) for key, value in expected.items())


def test_a_signal_to_all_processes_ends_the_step_and_saves(tmp_path):
    process = start("train", *arguments(tmp_path, 1000))
    wait_for_step(process, 3)
    os.killpg(process.pid, signal.SIGTERM)  # the workers too, as a batch system does
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    steps = len(logged(tmp_path))
    assert error == (f"lpsnet-train: stopped by SIGTERM after step {steps}; go on with --resume --output {tmp_path}\n")
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == steps >= 3


def test_an_interrupt_saves_and_the_run_goes_on_bit_equal(tmp_path):
    recipe = tiny_recipe("gn", checkpoint_every=100)
    whole = run(recipe, tmp_path / "whole")
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingInterrupted, match="SIGINT after step 2"):
        run(recipe, tmp_path / "cut", interrupt_after=1)
    assert signal.getsignal(signal.SIGINT) is before
    assert run(recipe, tmp_path / "cut", resume=True) == whole[2:]


def test_a_second_interrupt_does_not_wait_for_the_step():
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.received == "SIGINT"
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_torchrun_restarts_from_the_last_checkpoint(undisturbed, tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1")
    process = start("dies", "4", *arguments(tmp_path, 6), prefix=torchrun)
    try:
        error = process.communicate(timeout=300)[1]
    finally:
        process.terminate()  # torchrun takes its processes with it
    assert process.returncode == 0, error
    assert "exitcode: -9" in error
    for expected, got in zip(logged(undisturbed), logged(tmp_path), strict=True):
        assert got == pytest.approx(expected, rel=5e-4)


def test_auto_resume_starts_and_goes_on(undisturbed, tmp_path):
    command(arguments(tmp_path, 6, "--auto-resume"))
    first = (tmp_path / "state.pt").stat().st_mtime_ns
    command(arguments(tmp_path, 6, "--auto-resume"))  # nothing is left to do
    assert (tmp_path / "state.pt").stat().st_mtime_ns == first
    assert logged(tmp_path) == logged(undisturbed)


def saved(tmp_path: Path, *steps: int) -> None:
    for step in steps:
        save_state(tmp_path, {"recipe": tiny_recipe("gn").to_dict(), "step": step, "weights": torch.ones(40_000)})


def test_a_full_disk_leaves_the_last_good_state(tmp_path):
    saved(tmp_path, 1, 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            saved(tmp_path, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_state(tmp_path, tiny_recipe("gn"))["step"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state.previous.pt", "state.pt"]


def test_a_disk_that_fills_up_stops_the_run_with_one_line(tmp_path, monkeypatch):
    recipe = tiny_recipe("gn", checkpoint_every=1)
    whole = run(recipe, tmp_path / "whole")
    write = torch.save

    def fill_up(state, file) -> None:
        if state["step"] == 2:
            file.write(b"a part of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(state, file)

    monkeypatch.setattr(state_module.torch, "save", fill_up)
    with pytest.raises(OSError, match="No space left on device"):
        run(recipe, tmp_path / "full")
    monkeypatch.undo()
    assert load_state(tmp_path / "full", recipe)["step"] == 1
    assert load_checkpoint(tmp_path / "full" / "model.safetensors")[0] == recipe
    assert run(recipe, tmp_path / "full", resume=True) == whole[1:]


@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_a_damaged_state_gives_way_to_the_one_before_and_says_so(tmp_path, damage):
    saved(tmp_path, 1, 2)
    path = tmp_path / "state.pt"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.warns(UserWarning, match=r"state.pt: .*; going on from state.previous.pt, of step 1"):
        assert load_state(tmp_path, tiny_recipe("gn"))["step"] == 1
    (tmp_path / "state.previous.pt").unlink()
    with pytest.raises(ValueError, match="expected the state of a training run"):
        load_state(tmp_path, tiny_recipe("gn"))


def test_killed_while_writing_leaves_the_last_good_state(tmp_path):
    saved(tmp_path, 1, 2)
    write = torch.save

    def write_and_die(state, file) -> None:
        write(state, file)
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        with patch("torch.save", write_and_die):
            saved(tmp_path, 3)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert (tmp_path / "state.pt.part").exists()
    assert load_state(tmp_path, tiny_recipe("gn"))["step"] == 2
    saved(tmp_path, 3)  # what the dead one left is no obstacle
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state.previous.pt", "state.pt"]


def test_a_run_is_not_overwritten_unasked(tmp_path):
    recipe = tiny_recipe("gn", iterations=1)
    run(recipe, tmp_path)
    with pytest.raises(ValueError, match="expected a folder without a run"):
        run(recipe, tmp_path)
    assert has_state(tmp_path)
    assert len(run(recipe, tmp_path, overwrite=True)) == 1
    remove_state(tmp_path)
    assert not has_state(tmp_path)
    assert len(run(recipe, tmp_path)) == 1


def test_a_run_goes_on_with_the_samples_it_began_with(tmp_path, monkeypatch):
    recipe = tiny_recipe("gn", iterations=1)
    run(recipe, tmp_path)
    monkeypatch.setattr("training_worker.SCENES", 7)
    with pytest.raises(ValueError, match="expected a data set of 8 samples, as the run began with, got 7"):
        run(recipe, tmp_path, resume=True)
