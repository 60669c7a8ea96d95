"""From torch tensors to a call of liblpsnet: pointers, device, stream, workspace."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from lpsnet.native import library

# The dtypes that logits and images may have.
DTYPES = {torch.float32: library.FLOAT32, torch.float16: library.FLOAT16, torch.bfloat16: library.BFLOAT16}

Argument = Tensor | Sequence[Tensor] | None


def expect(name: str, tensor: Tensor, dtype: torch.dtype, shape: Sequence[int | str]) -> None:
    """Raises ValueError unless the tensor has this dtype and shape; a string stands for any size."""
    fits = tensor.ndim == len(shape) and all(
        isinstance(want, str) or want == got for want, got in zip(shape, tensor.shape, strict=True)
    )
    if tensor.dtype != dtype or not fits:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{name}: expected {dtype} [{wanted}], got {tensor.dtype} {list(tensor.shape)}")


def expect_logits(logits: Tensor) -> None:
    """Raises ValueError unless these are logits [C, h, w] of a dtype that the operators read."""
    expect("logits", logits, logits.dtype if logits.dtype in DTYPES else torch.float32, ["C", "h", "w"])


def logits_memory(logits: Tensor) -> tuple[Tensor, int, bool]:
    """Logits [C, h, w] as they lie in memory, [h, w, C] where channels are last, with their LpsDtype and that fact."""
    turned = logits.permute(1, 2, 0)
    if turned.is_contiguous() and not logits.is_contiguous():
        return turned, DTYPES[logits.dtype], True
    return logits, DTYPES[logits.dtype], False


def call(name: str, params: ctypes.Structure, *arguments: Argument) -> None:
    """Calls ``lps_<name>`` on the device of the first tensor and, for CUDA, on its current stream.

    Inputs must be contiguous already where they are outputs; contiguous copies are made of the others. A sequence of
    tensors becomes a host array of pointers.

    Raises:
        ValueError, MemoryError, RuntimeError: what liblpsnet says.
    """
    held: list[Tensor] = []
    pointers = [_pointer(argument, held) for argument in arguments]
    device = held[0].device
    if any(t.device != device for t in held):
        raise ValueError(f"{name}: expected tensors on one device, got {sorted({str(t.device) for t in held})}")
    kind = library.CUDA if device.type == "cuda" else library.CPU
    stream = torch.cuda.current_stream(device).cuda_stream if kind == library.CUDA else 0
    size = library.workspace_size(name, params, kind)
    workspace = torch.empty(size, dtype=torch.uint8, device=device)
    library.call(
        name, params, *pointers, device=kind, stream=stream, workspace=workspace.data_ptr(), workspace_size=size
    )


def _pointer(argument: Argument, held: list[Tensor]) -> int | ctypes.Array | None:
    """The pointer to a tensor, made contiguous and appended to ``held``, which keeps it alive."""
    if argument is None:
        return None
    if isinstance(argument, Tensor):
        held.append(argument.contiguous())
        return held[-1].data_ptr()
    return library.pointer_array([_pointer(a, held) for a in argument])  # type: ignore[misc]
