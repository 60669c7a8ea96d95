"""Training on GPUs beside training on the CPU, which the tests one folder up prove."""

import dataclasses
import math

import pytest
import torch
from test_training_distributed import LAYER_DTYPES, check_layer, run_two_processes
from training_worker import run, tiny_recipe

from lpsnet.training import distributed

pytestmark = pytest.mark.gpu


def test_a_device_that_is_not_there_is_refused():
    with (
        pytest.raises(ValueError, match=f"expected one of {torch.cuda.device_count()} GPUs, got cuda:99"),
        distributed.join("cuda:99"),
    ):
        pass


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_a_gpu_has_the_losses_of_the_cpu(tmp_path, amp):
    recipe = tiny_recipe("gn", amp=amp, workers=1)
    exact = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, amp="off"))
    expected = [step["total"] for step in run(exact, tmp_path / "cpu")]
    got = [step["total"] for step in run(recipe, tmp_path / "gpu", device="cuda")]
    assert got == pytest.approx(expected, rel=1e-3 if amp == "off" else 0.03)


@pytest.mark.parametrize("amp", ["off", "fp16"])
def test_a_run_goes_on_from_its_state(tmp_path, amp):
    recipe = tiny_recipe("gn", amp=amp)
    whole = run(recipe, tmp_path / "run", device="cuda")
    (tmp_path / "run" / "state.previous.pt").replace(tmp_path / "run" / "state.pt")
    resumed = run(recipe, tmp_path / "run", device="cuda", resume=True)
    # cuDNN adds up in no fixed order, so not to the last bit.
    assert [step["total"] for step in resumed] == pytest.approx([step["total"] for step in whole[2:]], rel=1e-3)
    assert all(math.isfinite(step["total"]) for step in whole)


def test_two_gpus_equal_one(tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip(f"NCCL wants a GPU for each of two processes, here is {torch.cuda.device_count()}")
    expected = {name: run(tiny_recipe(name), tmp_path / f"one_{name}", device="cuda") for name in ("gn", "bn")}
    (tmp_path / "resumed").mkdir()
    (tmp_path / "one_gn" / "state.previous.pt").rename(tmp_path / "resumed" / "state.pt")
    results = run_two_processes("cuda", tmp_path)
    for name, steps in expected.items():
        assert [s["total"] for s in results[0][name]] == pytest.approx([s["total"] for s in steps], rel=2e-3)
    for dtype in LAYER_DTYPES:
        check_layer(results, dtype)
