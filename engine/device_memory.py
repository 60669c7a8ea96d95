"""Memory and streams of a GPU without torch: what a backend needs of it, and pycuda's."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol

import numpy as np

from lpsnet.native import library


class Device(Protocol):
    """A device that buffers lie on. All but `entered` is called inside of `entered`.

    Attributes:
        kind: `library.CPU` or `library.CUDA`, as liblpsnet has it.
        name: in words.
        target: its compute capability, such as sm89.
    """

    kind: int
    name: str
    target: str

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The device is this thread's, until the block ends."""

    def new_stream(self) -> int:
        """A stream; work on it runs in order."""

    def synchronize(self, stream: int) -> None:
        """Waits for the work on a stream. Raises RuntimeError where it failed."""

    def allocate(self, size: int) -> int:
        """The address of so many bytes, at a multiple of 256. Raises MemoryError."""

    def free(self, address: int) -> None:
        """Gives them back; no work reads or writes them any more."""

    def host_array(self, size: int) -> np.ndarray:
        """uint8[size] on the host, that copies from and to the device are fast with."""

    def upload(self, address: int, array: np.ndarray, stream: int) -> None:
        """Copies a part of a `host_array` to the device, on a stream."""

    def download(self, array: np.ndarray, address: int, stream: int) -> None:
        """Copies to a part of a `host_array`, on a stream."""

    def close(self) -> None:
        """Lets go of the device, outside of `entered`."""


class CudaDevice:
    """A GPU through pycuda. See `Device`. It shares CUDA's primary context with liblpsnet, TensorRT and torch.

    Args:
        index: of the GPU.

    Raises:
        ModuleNotFoundError: pycuda is missing.
        ValueError: no such GPU, or a liblpsnet without code for it.
    """

    kind = library.CUDA

    def __init__(self, index: int) -> None:
        try:
            import pycuda.driver as cuda
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                "expected pycuda to be installed, which engines of TensorRT run through: pip install 'lpsnet[pycuda]'"
            ) from None
        except ImportError as error:
            raise ValueError(f"device: expected a GPU with NVIDIA's driver, got: {error}") from None
        self._cuda = cuda
        try:
            cuda.init()
            count = cuda.Device.count()
        except cuda.Error as error:
            raise ValueError(f"device: expected a GPU with NVIDIA's driver, got: {error}") from None
        if index >= count:
            raise ValueError(f"device: expected one of the {count} GPUs here, got cuda:{index}")
        if not library.library().lps_num_cuda_devices():
            raise ValueError(
                "device: expected liblpsnet to have code for GPUs, got a build for the CPU: "
                "install lpsnet again with LPSNET_CUDA=ON"
            )
        device = cuda.Device(index)
        self.name = device.name()
        self.target = "sm{}{}".format(*device.compute_capability())
        self._context = _primary_context(index)
        self._streams: dict[int, Any] = {}
        self._memory: dict[int, Any] = {}

    @contextmanager
    def entered(self) -> Iterator[None]:
        """See `Device`."""
        self._context.push()
        try:
            yield
        finally:
            self._cuda.Context.pop()

    def new_stream(self) -> int:
        """See `Device`."""
        stream = self._cuda.Stream()
        self._streams[stream.handle] = stream
        return stream.handle

    def synchronize(self, stream: int) -> None:
        """See `Device`."""
        try:
            self._streams[stream].synchronize()
        except self._cuda.Error as error:
            raise RuntimeError(f"CUDA: {error}") from None

    def allocate(self, size: int) -> int:
        """See `Device`."""
        try:
            memory = self._cuda.mem_alloc(max(1, size))
        except self._cuda.Error as error:
            raise MemoryError(f"CUDA: {size} bytes: {error}") from None
        self._memory[int(memory)] = memory
        return int(memory)

    def free(self, address: int) -> None:
        """See `Device`."""
        self._memory.pop(address).free()

    def host_array(self, size: int) -> np.ndarray:
        """See `Device`."""
        return self._cuda.pagelocked_empty(max(1, size), np.uint8)

    def upload(self, address: int, array: np.ndarray, stream: int) -> None:
        """See `Device`."""
        self._cuda.memcpy_htod_async(address, array, self._streams[stream])

    def download(self, array: np.ndarray, address: int, stream: int) -> None:
        """See `Device`."""
        self._cuda.memcpy_dtoh_async(array, address, self._streams[stream])

    def close(self) -> None:
        """See `Device`."""
        with self.entered():
            self._streams.clear()
            for memory in self._memory.values():
                memory.free()
            self._memory.clear()


@cache
def _primary_context(index: int) -> Any:
    """CUDA's primary context of a GPU. It stays for the life of the process, as it does for TensorRT and liblpsnet."""
    import pycuda.driver as cuda

    return cuda.Device(index).retain_primary_context()


class Buffers:
    """Named memory on a device and on the host that grows when more of it is asked for. Not for several threads."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._addresses: dict[str, tuple[int, int]] = {}
        self._arrays: dict[str, np.ndarray] = {}

    def address(self, name: str, size: int) -> int:
        """That of so many bytes. What was there before may be gone; no work reads or writes it any more."""
        if name in self._addresses:
            address, room = self._addresses[name]
            if size <= room:
                return address
            del self._addresses[name]
            self._device.free(address)
        address = self._device.allocate(size)
        self._addresses[name] = address, size
        return address

    def host_array(self, name: str, size: int) -> np.ndarray:
        """uint8[size]."""
        if name not in self._arrays or len(self._arrays[name]) < size:
            self._arrays[name] = self._device.host_array(size)
        return self._arrays[name][:size]

    def free(self) -> None:
        """Gives all of it back."""
        for address, _ in self._addresses.values():
            self._device.free(address)
        self._addresses.clear()
        self._arrays.clear()
