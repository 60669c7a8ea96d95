"""What holds for every call of every operator, on the CPU. tests/gpu says the same of a GPU."""

import pytest
import torch
from op_case import EMULATED, OpCase
from op_cases import op_cases
from op_properties import check_inputs_stay, check_poisoned, check_repeats, poisoned


@pytest.fixture
def device(pytestconfig) -> str:
    return EMULATED if pytestconfig.getoption("--emulated-cuda") else "cpu"


@pytest.mark.parametrize("case", op_cases())
def test_whatever_memory_held_results_are_the_same(case, device):
    check_poisoned(case, device, seed=1)


@pytest.mark.parametrize("case", op_cases())
def test_the_same_bits_in_every_run_and_inputs_stay(case, device):
    check_repeats(case, device, seed=2, runs=3)
    check_inputs_stay(case, device, seed=2)


def test_poison_is_found():
    """An operator that forgets an element, and one that adds to what was there."""

    def forgets(x):
        out = x.new_empty(4)
        out[:3] = 1
        return (out,)

    def adds(x):
        return (torch.empty(4).add_(x),)

    for run in (forgets, adds):
        case = OpCase("careless", lambda seed: {"x": torch.ones(4)}, run, lambda given, outputs: None)
        with pytest.raises(AssertionError):
            check_poisoned(case, "cpu", seed=0)
    with poisoned(0xFF):
        assert torch.empty(3, dtype=torch.int32).tolist() == [-1] * 3


def test_cases_do_something():
    """Most of them keep boxes and paste segments."""
    for op, count in (("nms", 1), ("decode", 4), ("postprocess", 3), ("postprocess", 9), ("paste_boxes", 5)):
        cases = [parameter.values[0] for parameter in op_cases(op)]
        assert sum(int(case.verify()[count]) > 0 for case in cases) > len(cases) / 2
