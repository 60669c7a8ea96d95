"""Which backend a name or a file asks for: by what is in the file, whatever it is called."""

from pathlib import Path

from lpsnet.config import RuntimeConfig
from lpsnet.engine_file import is_engine
from lpsnet.packaged import packaged_file

from .backend import Backend

_SHOWN_BYTES = 8


def open_backend(name_or_path: str | Path, runtime: RuntimeConfig) -> Backend:
    """The backend of a packaged model or of a file.

    Raises:
        ValueError: no such model or file, or one that nothing here runs; the message says what was expected.
        ModuleNotFoundError: what runs it is not installed.
    """
    path = packaged_file(name_or_path)
    head, size = _head(path)
    if _is_safetensors(head, size):
        return _open_checkpoint(path, runtime)
    if head[:1] == b"\x08":  # the first field of a ModelProto, ir_version
        from .onnx_backend import open_onnx

        return open_onnx(path, runtime)
    if is_engine(head):
        from .tensorrt_backend import open_tensorrt

        return open_tensorrt(path, runtime)
    raise ValueError(
        f"model: expected a checkpoint of lpsnet-train or a file of lpsnet-export, got {str(path)!r}, "
        f"{size} bytes that begin with {head[:_SHOWN_BYTES]!r}"
    )


def _open_checkpoint(path: Path, runtime: RuntimeConfig) -> Backend:
    try:
        from lpsnet.models.lpsnet import LPSNet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path}: expected {error.name} to be installed, which runs checkpoints; an .onnx file needs none"
        ) from None
    from .torch_backend import open_torch

    return open_torch(LPSNet.from_pretrained(path), runtime)


def _head(path: Path) -> tuple[bytes, int]:
    try:
        with path.open("rb") as file:
            return file.read(16), path.stat().st_size
    except OSError as error:
        raise ValueError(f"model: {path}: {(error.strerror or str(error)).lower()}") from None


def _is_safetensors(head: bytes, size: int) -> bool:
    """The length of a JSON header, then the header."""
    length = int.from_bytes(head[:8], "little")
    return len(head) > 8 and head[8:9] == b"{" and length <= size - 8
