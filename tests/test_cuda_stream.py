"""What `CudaStream` asks of torch, with a torch.cuda that only writes it down: the order is what a device would see."""

from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest
import torch

from lpsnet.engine.streams import CudaStream


class FakeCuda:
    """Streams and events that write down what is enqueued; the real classes say which methods there are."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.names = iter(["main", "downloads", "side1", "side2", "side3"])
        self.current = self.stream("caller")
        self.graphs: list[SimpleNamespace] = []
        self.benchmark: list[bool] = []
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: self.stream(next(self.names)))
        monkeypatch.setattr(torch.cuda, "Event", self.event)
        monkeypatch.setattr(torch.cuda, "stream", self.entered)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: self.current)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", self.graph)
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
        monkeypatch.setattr(torch.cuda, "graph", self.capturing)

    def stream(self, name: str):
        stream = create_autospec(torch.cuda.streams.Stream, instance=True)
        stream.name = name
        stream.wait_event.side_effect = lambda event: self.log.append(f"{name} waits for {event.at}")
        stream.wait_stream.side_effect = lambda other: self.log.append(f"{name} waits for {other.name}")
        stream.synchronize.side_effect = lambda: self.log.append(f"host waits for {name}")
        return stream

    def event(self):
        event = create_autospec(torch.cuda.streams.Event, instance=True)

        def record(stream=None) -> None:
            event.at = (stream or self.current).name

        event.record.side_effect = record
        event.synchronize.side_effect = lambda: self.log.append(f"host waits for event of {event.at}")
        return event

    @contextmanager
    def entered(self, stream):
        before, self.current = self.current, stream
        yield
        self.current = before

    def graph(self):
        graph = SimpleNamespace(reset=lambda: self.log.append("reset"))
        self.graphs.append(graph)
        return graph

    @contextmanager
    def capturing(self, graph, pool, stream, capture_error_mode):
        assert (graph, pool, stream.name, capture_error_mode) == (self.graphs[-1], "pool", "main", "thread_local")
        self.log.append("begin")
        try:
            yield
        finally:
            self.log.append("end")

    def work(self, name: str):
        def enqueue() -> None:
            self.benchmark.append(torch.backends.cudnn.benchmark)
            self.log.append(f"{self.current.name} does {name}")

        return enqueue


@pytest.fixture
def cuda(monkeypatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


def test_works_in_parallel_fork_and_join(cuda):
    stream = CudaStream(torch.device("cuda"))
    for _ in range(2):  # the side streams are made once
        cuda.log.clear()
        with stream.entered(torch.zeros(1)):
            stream.parallel([cuda.work(name) for name in "abc"])
        assert cuda.log == [
            "side1 waits for main",
            "side1 does b",
            "side2 waits for main",
            "side2 does c",
            "main does a",
            "main waits for side1",
            "main waits for side2",
        ]
    cuda.log.clear()
    with stream.entered(torch.zeros(1)):
        stream.parallel([cuda.work("a")])
    assert cuda.log == ["main does a"]


def test_work_on_a_tensor_of_the_device_waits_for_its_writer(cuda):
    stream = CudaStream(torch.device("cuda"))
    source = create_autospec(torch.Tensor, instance=True)
    source.is_cuda = True
    with stream.entered(source):
        cuda.work("a")()
    assert cuda.log == ["main waits for caller", "main does a"]
    assert source.record_stream.call_args.args[0].name == "main"
    assert cuda.current.name == "caller"


def test_a_result_is_handed_over_without_the_host(cuda):
    stream = CudaStream(torch.device("cuda"))
    result = create_autospec(torch.Tensor, instance=True)
    stream.hand_over(result, stream.mark())
    assert cuda.log == ["caller waits for main"]
    assert result.record_stream.call_args.args[0].name == "caller"


def test_a_download_waits_for_its_own_frame_alone(cuda, monkeypatch):
    stream = CudaStream(torch.device("cuda"))
    monkeypatch.setattr(stream, "host_tensor", lambda shape, dtype: torch.empty(shape, dtype=dtype))
    result = torch.arange(5)
    assert stream.download(result, stream.mark()).tolist() == [0, 1, 2, 3, 4]
    assert cuda.log == ["downloads waits for main", "host waits for event of downloads"]


def test_a_capture_warms_up_with_measured_algorithms(cuda):
    stream = CudaStream(torch.device("cuda"))
    with stream.entered(torch.zeros(1)):
        assert stream.capture(cuda.work("a")) is cuda.graphs[0]
    assert cuda.log == ["main does a", "main does a", "begin", "main does a", "end"]
    assert cuda.benchmark == [True] * 3
    assert not torch.backends.cudnn.benchmark


def test_a_capture_that_fails_is_undone(cuda):
    stream = CudaStream(torch.device("cuda"))
    calls = []

    def work() -> None:
        calls.append(None)
        if len(calls) == 3:
            raise RuntimeError("no memory")

    with stream.entered(torch.zeros(1)), pytest.raises(RuntimeError, match="no memory"):
        stream.capture(work)
    assert cuda.log == ["begin", "end", "reset"]
    assert not torch.backends.cudnn.benchmark
    stream.capture(cuda.work("a"))  # the lock was let go
    stream.synchronize()
    assert cuda.log[-1] == "host waits for main"
