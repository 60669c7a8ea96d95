"""Two processes over gloo beside one process that learns from the same batches."""

import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from training_worker import LAYER_DTYPES, layer_inputs, layer_results, run, tiny_model, tiny_recipe

from lpsnet.checkpoint import load_checkpoint
from lpsnet.config import RECIPES
from lpsnet.models.norm import FrozenBatchNorm2d
from lpsnet.models.sync_norm import SyncBatchNorm2d, synchronize_batch_norm
from lpsnet.training.distributed import Ranks, agree_on_name
from lpsnet.training.schedule import build_optimizer
from lpsnet.training.step import Stepper

WORKER = Path(__file__).with_name("training_worker.py")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(rank: int, port: int, *args: str) -> subprocess.Popen:
    env = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    env |= {"MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parents[1])}
    return subprocess.Popen(
        [sys.executable, str(WORKER), *args], env=os.environ | env, stderr=subprocess.PIPE, text=True
    )


def run_two_processes(device: str, output: Path) -> list[dict[str, Any]]:
    """What each of them found; their runs are in `output`."""
    port = free_port()
    processes = [start(rank, port, "exchange", device, str(output)) for rank in range(2)]
    try:
        errors = [p.communicate(timeout=300)[1] for p in processes]
    finally:
        for p in processes:
            p.kill()
    assert [p.returncode for p in processes] == [0, 0], errors
    return [torch.load(output / f"results{rank}.pt", "cpu") for rank in range(2)]


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> tuple[Path, dict[str, list[dict[str, float]]]]:
    """Folders and losses of the runs of one process."""
    output = tmp_path_factory.mktemp("single")
    return output, {
        "gn": run(tiny_recipe("gn"), output / "gn"),
        "bn": run(tiny_recipe("bn"), output / "bn"),
        "accumulated": run(tiny_recipe("gn", batch_size=5), output / "accumulated"),
    }


@pytest.fixture(scope="module")
def double(single, tmp_path_factory) -> tuple[Path, list[dict[str, Any]]]:
    """Folders and, per process, results of the runs of two."""
    output = tmp_path_factory.mktemp("double")
    # The state after step 2 of the one process is where the two go on.
    (output / "resumed").mkdir()
    shutil.copy(single[0] / "gn" / "state.previous.pt", output / "resumed" / "state.pt")
    return output, run_two_processes("cpu", output)


def check_step(expected: dict[str, float], got: dict[str, float]) -> None:
    # A channel of hardly any variance makes much of an error of rounding, in gradients.
    tolerance = {key: 5e-3 if key == "grad_norm" else 1e-5 for key in expected}
    assert got == {key: pytest.approx(value, rel=tolerance[key]) for key, value in expected.items()}


@pytest.mark.parametrize("name", ["gn", "bn", "accumulated"])
def test_two_processes_equal_one(single, double, name):
    expected, got = single[1][name], double[1][0][name]
    assert len(expected) == len(got) == 3
    for a, b in zip(expected, got, strict=True):
        check_step(a, b)
    weights = [load_checkpoint(output / name / "model.safetensors")[1] for output in (single[0], double[0])]
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=1e-4, atol=1e-4, msg=lambda m, k=key: f"{k}: {m}")


def test_a_run_goes_on_with_another_number_of_processes(single, double):
    assert len(double[1][0]["resumed"]) == 1
    for a, b in zip(single[1]["gn"][2:], double[1][0]["resumed"], strict=True):
        check_step(a, b)


def test_the_main_process_alone_reports(double):
    assert double[1][1]["gn"] == []


@pytest.mark.parametrize("dtype", LAYER_DTYPES)
def test_the_layer_equals_batch_norm_over_both_batches(double, dtype):
    check_layer(double[1], dtype)


def check_layer(results: list[dict[str, Any]], dtype: torch.dtype) -> None:
    images, grads = (t.to(dtype) for t in layer_inputs())
    expected = layer_results(nn.BatchNorm2d(5), images, grads)
    parts = [result[f"layer_{dtype}"] for result in results]
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.03}
    for key in ("y", "dx"):
        joint = torch.cat([part[key] for part in parts])
        assert joint.dtype == dtype
        torch.testing.assert_close(joint, expected[key], **tolerance)
    for key in ("dweight", "dbias"):  # the processes' own; they are added with those of the other weights
        torch.testing.assert_close(parts[0][key] + parts[1][key], expected[key], **tolerance)
    for key in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(parts[0][key], parts[1][key])
        torch.testing.assert_close(parts[0][key], expected[key], rtol=1e-4, atol=1e-5)


def test_only_batch_norm_that_trains_is_synchronised():
    model = nn.Sequential(nn.BatchNorm2d(3, eps=1e-2, momentum=0.3), nn.Sequential(FrozenBatchNorm2d(4)), nn.ReLU())
    before = model.state_dict(keep_vars=True)
    synchronize_batch_norm(model)
    assert [type(m) for m in (model[0], model[1][0])] == [SyncBatchNorm2d, FrozenBatchNorm2d]
    assert (model[0].eps, model[0].momentum) == (1e-2, 0.3)
    after = model.state_dict(keep_vars=True)
    assert list(after) == list(before)
    assert all(after[key] is before[key] for key in before)


def test_parts_of_a_batch_equal_the_whole(single, tmp_path):
    losses = run(tiny_recipe("gn", batch_size=5, accumulate=3), tmp_path)
    for a, b in zip(single[1]["accumulated"], losses, strict=True):
        check_step(a, b)


def test_more_parts_than_images_are_refused():
    recipe = tiny_recipe("gn", batch_size=3, accumulate=4)
    model = tiny_model(recipe)
    with pytest.raises(ValueError, match="an image for each of 1 processes times 4 parts, got 3"):
        Stepper(model, build_optimizer(model, recipe.train), Ranks())


def test_the_recipes_have_an_image_for_each_of_eight_gpus():
    for recipe in RECIPES.values():
        assert recipe.train.batch_size >= 8 * recipe.train.accumulate


@pytest.mark.parametrize("first_comes_last", [False, True])
def test_processes_that_start_again_do_not_take_the_name_of_those_before(first_comes_last):
    store = dist.HashStore()

    def attempt() -> set[str]:
        order = [2, 1, 0] if first_comes_last else [0, 1, 2]
        with ThreadPoolExecutor(3) as threads:
            names = []
            for rank in order:
                names.append(threads.submit(agree_on_name, store, rank, 3, timedelta(seconds=30)))
                time.sleep(0.1)
            return {name.result() for name in names}

    first, second = attempt(), attempt()
    assert len(first) == len(second) == 1
    assert first != second


def test_processes_do_not_wait_for_ever():
    with pytest.raises(RuntimeError, match="expected 2 processes within 0:00:00"):
        agree_on_name(dist.HashStore(), 1, 2, timedelta(seconds=0.1))
