"""Memory and streams through pycuda, over a stand-in for it: what is called, in which context, and what fails."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from lpsnet.engine import device_memory, gpus
from lpsnet.engine.device_memory import Buffers, CudaDevice


class CudaError(Exception):
    pass


class FakeDriver(ModuleType):
    """pycuda.driver, as much of it as is used. `events` is what was called."""

    Error = CudaError

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.events: list[str] = []
        self.memory: dict[int, np.ndarray] = {}
        self.room = 1 << 20
        driver = self

        class Memory(int):
            def free(self) -> None:
                del driver.memory[int(self)]

        class Stream:
            handle = 77

            def synchronize(self) -> None:
                driver.events.append("synchronize")
                if driver.room < 0:
                    raise CudaError("cuStreamSynchronize failed: an illegal memory access")

        class Device:
            count = staticmethod(lambda: 2)

            def __init__(self, index: int) -> None:
                self.index = index

            def name(self) -> str:
                return f"GPU {self.index}"

            def compute_capability(self) -> tuple[int, int]:
                return 12, 0

            def retain_primary_context(self) -> SimpleNamespace:
                driver.events.append("retain")
                return SimpleNamespace(push=lambda: driver.events.append("push"))

        def mem_alloc(size: int) -> Memory:
            if size > driver.room:
                raise CudaError("cuMemAlloc failed: out of memory")
            array = np.zeros(size, np.uint8)
            driver.memory[array.ctypes.data] = array
            return Memory(array.ctypes.data)

        self.init = lambda: None
        self.mem_alloc, self.Stream, self.Device = mem_alloc, Stream, Device
        self.Context = SimpleNamespace(pop=lambda: self.events.append("pop"))
        self.pagelocked_empty = np.empty
        self.memcpy_htod_async = lambda to, array, stream: np.copyto(self.memory[to][: array.size], array)
        self.memcpy_dtoh_async = lambda array, at, stream: np.copyto(array, self.memory[at][: array.size])


@pytest.fixture
def driver(monkeypatch):
    driver, package = FakeDriver(), ModuleType("pycuda")
    package.driver = driver
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    monkeypatch.setattr(device_memory.library, "library", lambda: SimpleNamespace(lps_num_cuda_devices=lambda: 2))
    device_memory._primary_context.cache_clear()
    yield driver
    device_memory._primary_context.cache_clear()


def test_a_round_trip(driver):
    device = CudaDevice(1)
    assert (device.name, device.target) == ("GPU 1", "sm120")
    with device.entered():
        stream = device.new_stream()
        address = device.allocate(16)
        sent, got = device.host_array(16), device.host_array(16)
        sent[:] = np.arange(16)
        device.upload(address, sent, stream)
        device.download(got, address, stream)
        device.synchronize(stream)
        device.free(address)
    assert np.array_equal(got, np.arange(16))
    assert driver.events == ["retain", "push", "synchronize", "pop"]
    with device.entered():
        device.allocate(8)
    device.close()
    assert driver.memory == {}
    CudaDevice(1).close()
    assert driver.events.count("retain") == 1


def test_what_fails_is_named(driver):
    device = CudaDevice(0)
    with device.entered(), pytest.raises(MemoryError, match="CUDA: 2097152 bytes: cuMemAlloc failed: out of memory"):
        device.allocate(2 << 20)
    assert driver.events[-1] == "pop"
    with device.entered():
        stream = device.new_stream()
        driver.room = -1
        with pytest.raises(RuntimeError, match="CUDA: cuStreamSynchronize failed: an illegal memory access"):
            device.synchronize(stream)
    with pytest.raises(ValueError, match="expected one of the 2 GPUs here, got cuda:2"):
        CudaDevice(2)


def test_a_library_for_the_cpu_alone(driver, monkeypatch):
    monkeypatch.setattr(device_memory.library, "library", lambda: SimpleNamespace(lps_num_cuda_devices=lambda: 0))
    with pytest.raises(ValueError, match="expected liblpsnet to have code for GPUs, got a build for the CPU"):
        CudaDevice(0)


def test_a_driver_that_does_not_start(driver, monkeypatch):
    def fail():
        raise CudaError("cuInit failed: no CUDA-capable device is detected")

    monkeypatch.setattr(driver, "init", fail)
    with pytest.raises(ValueError, match="expected a GPU with NVIDIA's driver, got: cuInit failed"):
        CudaDevice(0)


def test_buffers_grow_and_are_given_back(driver):
    device = CudaDevice(0)
    buffers = Buffers(device)
    with device.entered():
        first = buffers.address("a", 100)
        assert buffers.address("a", 60) == first
        other = buffers.address("b", 10)
        assert buffers.address("a", 0) == first
        buffers.address("a", 200)
        assert len(driver.memory) == 2
        assert other in driver.memory
        assert len(buffers.host_array("a", 10)) == 10
        assert len(buffers.host_array("a", 30)) == 30
        assert len(buffers.host_array("a", 5)) == 5
        driver.room = 500
        with pytest.raises(MemoryError):
            buffers.address("a", 1000)
        buffers.free()
    assert driver.memory == {}


def test_there_may_be_no_driver(monkeypatch):
    monkeypatch.setattr(gpus, "_DRIVER", "libno-such-driver.so.1")
    assert gpus.gpus() == []


class FakeLibcuda:
    """libcuda with two GPUs."""

    def __init__(self, code: int = 0) -> None:
        self.code = code

    def cuInit(self, flags):
        return self.code

    def cuDeviceGetCount(self, count):
        count._obj.value = 2
        return 0

    def cuDeviceGet(self, device, index):
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name, size, device):
        name.value = b"NVIDIA GPU %d" % device.value
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):
        value._obj.value = {75: 8, 76: 6 + 3 * device.value}[attribute]
        return 0


def test_gpus_of_the_driver(monkeypatch):
    monkeypatch.setattr(gpus.ctypes, "CDLL", lambda name: FakeLibcuda())
    assert gpus.gpus() == [gpus.Gpu("NVIDIA GPU 0", "sm86"), gpus.Gpu("NVIDIA GPU 1", "sm89")]
    monkeypatch.setattr(gpus.ctypes, "CDLL", lambda name: FakeLibcuda(code=100))
    assert gpus.gpus() == []
