"""A call of an operator over random inputs of one format, and what its oracle says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
Inputs = dict[str, Any]
Outputs = tuple[Tensor, ...]
EMULATED = "emulated"
"""A device: the CUDA code over memory of the host, whose threads take turns in any order."""


@dataclass(frozen=True)
class OpCase:
    """An operator over inputs of one format.

    Attributes:
        name: of the test.
        inputs: of a seed; arguments of `run`, on the CPU. Those of another seed have the same shapes.
        run: calls the operator, on the device of its inputs.
        check: raises where outputs, on the CPU, are not what the oracle makes of inputs.
        is_exact: a GPU gives the bits of the CPU, in every run. Otherwise a library's matrix product or sums by atomics
            are in it.
    """

    name: str
    inputs: Callable[[int], Inputs]
    run: Callable[..., Outputs]
    check: Callable[[Inputs, Outputs], None]
    is_exact: bool = True

    def verify(self, device: str = "cpu", seed: int = 0) -> Outputs:
        """Runs it once beside the oracle; the outputs are on the CPU."""
        inputs = self.inputs(seed)
        outputs = tuple(o.cpu() for o in self.run(**on(device, inputs)))
        self.check(inputs, outputs)
        return outputs


def on(device: str, inputs: Any) -> Any:
    """Inputs on a device, their layout kept; tensors on the CPU are copied too, and those for the emulated device."""
    if isinstance(inputs, dict):
        return {name: on(device, value) for name, value in inputs.items()}
    if isinstance(inputs, list) and inputs and isinstance(inputs[0], Tensor):
        return [on(device, value) for value in inputs]
    return inputs.clone().to("cpu" if device == EMULATED else device) if isinstance(inputs, Tensor) else inputs


def in_layout(maps: Tensor, channels_last: bool) -> Tensor:
    """[C, h, w] whose memory is [C, h, w] or [h, w, C]."""
    return maps.permute(1, 2, 0).contiguous().permute(2, 0, 1) if channels_last else maps.contiguous()


def formats(op: str, sizes: Sequence[Any], make: Callable[..., OpCase], dtypes: Sequence[Any] = DTYPES) -> list[OpCase]:
    """A case of each size, dtype and layout."""
    cases = []
    for size in sizes:
        for dtype in dtypes:
            for channels_last in (False, True):
                shape = "x".join(map(str, size))
                layout = "nhwc" if channels_last else "nchw"
                name = f"{op}-{shape}-{str(dtype).removeprefix('torch.')}-{layout}"
                cases.append(make(name, size, dtype, channels_last))
    return cases
