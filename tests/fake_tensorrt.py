"""A TensorRT whose engines are ONNX files, and a device that is the host: what the backend asks of both, and when.

Nothing happens on a stream before somebody waits for it, so that what is read too early, or runs on no stream, shows.
"""

import ctypes
import enum
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from lpsnet.engine import tensorrt_lane
from lpsnet.native import library

VERSION = "1.2.3"
_POISON = 0xA5


def bytes_at(address: int, size: int) -> np.ndarray:
    """uint8[size] over raw memory."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


class FakeDevice:
    """See `lpsnet.engine.device_memory.Device`."""

    kind = library.CPU
    name = "a test"
    target = "sm86"

    def __init__(self) -> None:
        self.memory: dict[int, np.ndarray] = {}
        self.queues: dict[int, list[Callable[[], None]]] = {}
        self.allocations = 0
        self.closed = False
        self._here = threading.local()

    @contextmanager
    def entered(self) -> Iterator[None]:
        assert not self.closed
        self._here.depth = getattr(self._here, "depth", 0) + 1
        try:
            yield
        finally:
            self._here.depth -= 1

    def expect_entered(self) -> None:
        assert getattr(self._here, "depth", 0) > 0

    def new_stream(self) -> int:
        self.expect_entered()
        stream = 1000 + len(self.queues)
        self.queues[stream] = []
        return stream

    def enqueue(self, stream: int, work: Callable[[], None]) -> None:
        self.expect_entered()
        self.queues[stream].append(work)

    def synchronize(self, stream: int) -> None:
        self.expect_entered()
        queue = self.queues[stream]
        while queue:
            queue.pop(0)()

    def allocate(self, size: int) -> int:
        self.expect_entered()
        self.allocations += 1
        memory = np.full(size + 256, _POISON, np.uint8)
        address = -(-memory.ctypes.data // 256) * 256
        self.memory[address] = memory
        return address

    def free(self, address: int) -> None:
        self.expect_entered()
        self.memory.pop(address)[:] = _POISON

    def host_array(self, size: int) -> np.ndarray:
        self.expect_entered()
        return np.full(size, _POISON, np.uint8)

    def upload(self, address: int, array: np.ndarray, stream: int) -> None:
        self.enqueue(stream, lambda: np.copyto(bytes_at(address, array.nbytes), array))

    def download(self, array: np.ndarray, address: int, stream: int) -> None:
        self.enqueue(stream, lambda: np.copyto(array, bytes_at(address, array.nbytes)))

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class _Severity(enum.Enum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class _ILogger:
    Severity = _Severity


class _TensorIOMode(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)


class _DataType(enum.Enum):
    FLOAT, HALF = range(2)


class _Context:
    def __init__(self, session: onnxruntime.InferenceSession, fake: "FakeTensorrt") -> None:
        self._session, self._fake = session, fake
        self._shape: tuple[int, ...] = ()
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "images"
        self._shape = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._fake.output_shapes(self._session, self._shape)[name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address % 256 == 0
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if self._fake.failures:
            self._fake.logger.log(_Severity.ERROR, self._fake.failures.pop())
            return False
        shape, addresses = self._shape, dict(self._addresses)

        def run() -> None:
            images = bytes_at(addresses["images"], 4 * int(np.prod(shape))).view(np.float32).reshape(shape)
            names = [o.name for o in self._session.get_outputs()]
            for name, value in zip(names, self._session.run(names, {"images": images}), strict=True):
                np.copyto(bytes_at(addresses[name], value.nbytes), np.ascontiguousarray(value).view(np.uint8).ravel())

        self._fake.device.enqueue(stream, run)
        return True


class _Engine:
    def __init__(self, session: onnxruntime.InferenceSession, fake: "FakeTensorrt") -> None:
        self._session, self._fake = session, fake
        self._values = {v.name: v for v in (*session.get_inputs(), *session.get_outputs())}
        self.num_io_tensors = len(self._values)

    def get_tensor_name(self, index: int) -> str:
        return list(self._values)[index]

    def get_tensor_mode(self, name: str) -> _TensorIOMode:
        return _TensorIOMode.INPUT if name == "images" else _TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> _DataType:
        return _DataType.FLOAT if self._values[name].type == "tensor(float)" else _DataType.HALF

    def create_execution_context(self) -> _Context:
        return _Context(self._session, self._fake)


class FakeTensorrt:
    """The Python API of TensorRT, as much of it as the backend uses. `failures` are reasons for which it fails next."""

    __version__ = VERSION
    ILogger = _ILogger
    TensorIOMode = _TensorIOMode
    DataType = _DataType

    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.failures: list[str] = []

    def Runtime(self, logger) -> SimpleNamespace:
        self.logger = logger

        def deserialize_cuda_engine(engine: bytes) -> _Engine | None:
            self.device.expect_entered()
            try:
                return _Engine(onnxruntime.InferenceSession(engine), self)
            except Exception as error:
                logger.log(_Severity.ERROR, f"Serialization failed:\n{type(error).__name__}")
                return None

        return SimpleNamespace(deserialize_cuda_engine=deserialize_cuda_engine)

    @staticmethod
    @lru_cache(maxsize=64)
    def output_shapes(session: onnxruntime.InferenceSession, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        names = [o.name for o in session.get_outputs()]
        return {
            name: value.shape
            for name, value in zip(names, session.run(names, {"images": np.zeros(shape, np.float32)}), strict=True)
        }


def put_on_streams(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """From here on calls of liblpsnet wait for their turn on the stream that they name. Returns the calls, in order."""
    calls: list[str] = []

    def call(name, params, *pointers, device: int, stream: int, workspace: int, workspace_size: int) -> None:
        assert device == library.CPU
        calls.append(name)

        def work() -> None:
            library.call(name, params, *pointers, workspace=workspace, workspace_size=workspace_size)

        fake.enqueue(stream, work)

    fake = device
    monkeypatch.setattr(tensorrt_lane, "call", call)
    return calls
