"""Loads liblpsnet and calls it: the one place that knows how."""

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

CPU, CUDA = 0, 1
FLOAT32, FLOAT64, FLOAT16, BFLOAT16 = 0, 1, 2, 3
MAX_LEVELS = 8

_INVALID_ARGUMENT = 1
_OUT_OF_MEMORY = 4


class Context(ctypes.Structure):
    _fields_ = [
        ("device", ctypes.c_int32),
        ("stream", ctypes.c_void_p),
        ("workspace", ctypes.c_void_p),
        ("workspace_size", ctypes.c_size_t),
    ]


class Levels(ctypes.Structure):
    """The feature levels of the box head: sizes in feature pixels, strides in input pixels."""

    _fields_ = [
        ("num_levels", ctypes.c_int32),
        ("height", ctypes.c_int32 * MAX_LEVELS),
        ("width", ctypes.c_int32 * MAX_LEVELS),
        ("stride", ctypes.c_int32 * MAX_LEVELS),
    ]

    @classmethod
    def of(cls, sizes: Sequence[tuple[int, int]], strides: Sequence[int]) -> "Levels":
        """From (height, width) pairs and strides, one of each per level."""
        if len(sizes) != len(strides) or len(sizes) > MAX_LEVELS:
            raise ValueError(
                f"levels: expected up to {MAX_LEVELS} sizes and as many strides, got {sizes} and {strides}"
            )
        levels = cls(num_levels=len(sizes))
        for i, ((height, width), stride) in enumerate(zip(sizes, strides, strict=True)):
            levels.height[i], levels.width[i], levels.stride[i] = height, width, stride
        return levels


@cache
def library() -> ctypes.CDLL:
    """Returns liblpsnet, loaded once. ``LPSNET_LIBRARY`` names another build, such as the sanitized one.

    Raises:
        ImportError: the package was built without it.
    """
    path = Path(os.environ.get("LPSNET_LIBRARY") or Path(__file__).with_name("liblpsnet.so"))
    try:
        lib = ctypes.CDLL(str(path))
    except OSError as error:
        raise ImportError(f"liblpsnet: expected a library at {path}, got: {error}") from None
    lib.lps_last_error.restype = ctypes.c_char_p
    return lib


def call(
    name: str,
    params: ctypes.Structure,
    *pointers: int | ctypes.Array | None,
    device: int = CPU,
    stream: int = 0,
    workspace: int = 0,
    workspace_size: int = 0,
) -> None:
    """Calls ``lps_<name>`` with raw pointers. The GIL is released meanwhile.

    Raises:
        ValueError: a bad argument, named in the message.
        MemoryError: no memory.
        RuntimeError: a device that failed, or that this build has no code for.
    """
    context = Context(device, stream, workspace, workspace_size)
    arguments = [p if isinstance(p, ctypes.Array) else ctypes.c_void_p(p) for p in pointers]
    status = getattr(library(), f"lps_{name}")(ctypes.byref(params), ctypes.byref(context), *arguments)
    if status:
        error = {_INVALID_ARGUMENT: ValueError, _OUT_OF_MEMORY: MemoryError}.get(status, RuntimeError)
        raise error(library().lps_last_error().decode())


def workspace_size(name: str, params: ctypes.Structure, device: int = CPU) -> int:
    """Bytes of workspace that ``lps_<name>`` wants for these params."""
    function = getattr(library(), f"lps_{name}_workspace_size")
    function.restype = ctypes.c_size_t
    return function(ctypes.byref(params), device)


def pointer_array(pointers: Sequence[int]) -> ctypes.Array:
    """A host array of pointers, one per level."""
    return (ctypes.c_void_p * max(1, len(pointers)))(*pointers)


def set_num_threads(num_threads: int) -> None:
    """Sets how many threads one call may use on the CPU. Raises ValueError below 1."""
    if library().lps_set_num_threads(ctypes.c_int32(num_threads)):
        raise ValueError(library().lps_last_error().decode())


def num_threads() -> int:
    """How many threads one call may use on the CPU; the number of cores unless set."""
    return library().lps_num_threads()
