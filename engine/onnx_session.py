"""A session of ONNX Runtime, opened with care: what can be wrong with a file or a provider is one line."""

from pathlib import Path
from typing import TYPE_CHECKING

from lpsnet.artifact import ArtifactInfo
from lpsnet.config import RuntimeConfig

if TYPE_CHECKING:
    import onnxruntime

_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_ERRORS_ONLY = 3
_MOST_BYTES = 2**31 - 1
"""Of a protobuf message."""


class OnnxSession:
    """An exported model in ONNX Runtime.

    Args:
        path: of the file.
        runtime: device and threads.

    Attributes:
        info: what the file says of itself.
        runs_on: version and provider, in words.

    Raises:
        ValueError: a file that is no model of lpsnet-export, or a device whose provider is not there.
        ModuleNotFoundError: ONNX Runtime is missing.
    """

    def __init__(self, path: Path, runtime: RuntimeConfig) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise ModuleNotFoundError(f"{path}: expected onnxruntime to be installed, which runs .onnx files") from None

        provider, options = _provider(runtime, onnxruntime.get_available_providers(), onnxruntime.__version__)
        session_options = onnxruntime.SessionOptions()
        session_options.log_severity_level = _ERRORS_ONLY
        session_options.intra_op_num_threads = runtime.threads
        # Threads that wait by spinning take the processor from liblpsnet's and from other streams, and its power.
        session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # On the host a pattern is a second block as large as what the first image of its shape took.
        session_options.enable_mem_pattern = runtime.device != "cpu"
        # From memory, so that no file beside it can be pulled in.
        data = _read(path)
        try:
            self._session = onnxruntime.InferenceSession(data, session_options, providers=[(provider, options)])
        except Exception as error:  # a class of its own for every status, and RuntimeError
            raise ValueError(f"{path}: expected a model that ONNX Runtime loads, got: {_one_line(error)}") from None
        if self._session.get_providers()[0] != provider:  # it falls back without an error
            raise ValueError(
                f"device: expected {provider} to start, got {self._session.get_providers()[0]} instead; "
                "its libraries, such as CUDA's, are missing or of another version"
            )
        try:
            self.info = ArtifactInfo.from_metadata(self._session.get_modelmeta().custom_metadata_map)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        self.runs_on = f"onnxruntime {onnxruntime.__version__}, {provider}, {self.info.precision}"
        # Without a fallback the session needs the file no more, which it would keep.
        self._session.disable_fallback()
        self._session._model_bytes = None
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = _ERRORS_ONLY

    @property
    def inputs(self) -> "list[onnxruntime.NodeArg]":
        """Of the graph; those with a default are not among them."""
        return self._session.get_inputs()

    @property
    def outputs(self) -> "list[onnxruntime.NodeArg]":
        """Of the graph."""
        return self._session.get_outputs()

    def run(self, outputs: list[str], feeds: dict) -> list:
        """Arrays by name to the named outputs. From any thread.

        Raises:
            RuntimeError: what ONNX Runtime says.
        """
        try:
            return self._session.run(outputs, feeds, self._run_options)
        except Exception as error:  # as above
            raise RuntimeError(f"ONNX Runtime: {_one_line(error)}") from None


def expect_signature(path: Path, kind: str, expected: dict[str, str], found: "list[onnxruntime.NodeArg]") -> None:
    """Raises ValueError unless the inputs or outputs of a graph are these, by name and type."""
    got = {v.name: v.type for v in found}
    if got != expected:
        wrong = sorted({*got.items()} ^ {*expected.items()})
        raise ValueError(f"{path}: {kind}: expected {_listed(expected)}, got {_listed(got)}; differs in {wrong[0][0]}")


def _provider(runtime: RuntimeConfig, available: list[str], version: str) -> tuple[str, dict]:
    kind, _, index = runtime.device.partition(":")
    provider = _PROVIDERS[kind]
    if provider not in available:
        raise ValueError(
            f"device: expected a provider of ONNX Runtime {version} here ({', '.join(available)}), "
            f"got {runtime.device}, which is {provider}"
        )
    return provider, {} if kind == "cpu" else {"device_id": int(index or 0)}


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise ValueError(f"{path}: expected an ONNX file of at most {_MOST_BYTES} bytes, got {size}")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _listed(signature: dict[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in signature.items()) or "none"
