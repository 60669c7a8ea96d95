"""What holds for every call of every operator, whatever it computes: on the CPU, emulated and on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from op_case import OpCase, Outputs, on
from torch import Tensor

POISONS = (0x00, 0xFF, 0xA5)


def bits(tensor: Tensor) -> np.ndarray:
    """The bytes of a tensor, so that NaN equals NaN and 0 does not equal -0."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()


def assert_same_bits(got: Outputs, expected: Outputs) -> None:
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        np.testing.assert_array_equal(bits(a), bits(b), err_msg=f"output {i}")


def assert_same(case: OpCase, device: str, got: Outputs, expected: Outputs) -> None:
    """The same bits, or the same up to rounding where the device promises no more."""
    if case.is_exact or device == "cpu":
        assert_same_bits(got, expected)
        return
    for a, b in zip(got, expected, strict=True):
        largest = max(1.0, b.abs().max().item()) if b.numel() else 1.0
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-2, atol=1e-2 * largest)


@contextmanager
def poisoned(byte: int) -> Iterator[None]:
    """New memory of torch, that of outputs and workspaces, is full of this byte."""
    empty, new_empty = torch.empty, torch.Tensor.new_empty

    def fill(tensor: Tensor) -> Tensor:
        if tensor.numel() and tensor.device.type != "meta":
            memory = torch.tensor([], dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())
            memory.fill_(byte)
        return tensor

    def poisoned_empty(*args: Any, **options: Any) -> Tensor:
        return fill(empty(*args, **options))

    def poisoned_new_empty(self: Tensor, *args: Any, **options: Any) -> Tensor:
        return fill(new_empty(self, *args, **options))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", poisoned_empty)
        patch.setattr(torch.Tensor, "new_empty", poisoned_new_empty)
        yield


def check_poisoned(case: OpCase, device: str, seed: int) -> None:
    """Nothing is read before it is written, and every output is written: whatever memory held, results are the same."""
    inputs = case.inputs(seed)
    expected = case.run(**on(device, inputs))
    for byte in POISONS:
        with poisoned(byte):
            assert_same(case, device, case.run(**on(device, inputs)), expected)


def check_inputs_stay(case: OpCase, device: str, seed: int) -> None:
    """Inputs are not written to."""
    inputs = on(device, case.inputs(seed))
    before = on(device, inputs)
    case.run(**inputs)
    for name, value in inputs.items():
        assert_same_bits(tensors(value), tensors(before[name]))


def check_repeats(case: OpCase, device: str, seed: int, runs: int) -> None:
    """The same bits in every run."""
    inputs = on(device, case.inputs(seed))
    expected = case.run(**inputs)
    for _ in range(runs):
        assert_same(case, device, case.run(**inputs), expected)


def tensors(value: Any) -> Outputs:
    """The tensors in an argument of an operator."""
    if isinstance(value, Tensor):
        return (value,)
    return tuple(v for v in value if isinstance(v, Tensor)) if isinstance(value, list) else ()
