"""TensorRT and TensorRT-RTX behind one name: imported with care, and what they log as one line."""

import importlib
import threading
from functools import cache
from types import ModuleType
from typing import Any

from lpsnet.engine_file import Flavour

from .library_alias import alias_library

_MODULES = {
    "tensorrt": ("tensorrt", "tensorrt_bindings"),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
"""Where the Python API is: the package that NVIDIA's installer gives, or the wheel of the bindings alone."""
_MOST_CHARACTERS = 500


def import_tensorrt(flavour: Flavour) -> ModuleType:
    """The Python API of TensorRT or of TensorRT-RTX.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to.
        ImportError: it is, and one of its libraries does not load.
    """
    for name in _MODULES[flavour]:
        try:
            module = importlib.import_module(name)
            if flavour == "tensorrt-rtx":
                alias_library("libtensorrt_rtx.so", "libtensorrt_rtx.so.1")
            return module
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _MODULES[flavour]:
                raise
        except (ImportError, OSError) as error:
            raise ImportError(f"{flavour}: expected {name} to load, got: {one_line(error)}") from None
    raise ModuleNotFoundError(
        f"expected {_MODULES[flavour][0]} to be installed: pip install 'lpsnet[{flavour}]'", name=_MODULES[flavour][0]
    )


class Messages:
    """The errors that TensorRT logged. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._errors: list[str] = []

    def add(self, message: str) -> None:
        """Takes in an error."""
        with self._lock:
            self._errors.append(one_line(message))

    def take(self) -> str:
        """The first error since the last call, which the others tend to follow from, in one line."""
        with self._lock:
            first = self._errors[0] if self._errors else "no reason given"
            self._errors.clear()
        return first[:_MOST_CHARACTERS]


@cache
def logger_of(trt: Any) -> tuple[Any, Messages]:
    """The logger that all parts of TensorRT share in this process, which prints nothing, and what it was told."""
    messages = Messages()
    errors = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in errors:
                messages.add(message)

    return Logger(), messages


def one_line(error: object) -> str:
    """Its text without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
