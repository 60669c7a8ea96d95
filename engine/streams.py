"""Where frames are computed: a stream of a CUDA device, with its graphs; or the CPU, where everything is at once."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

Work = Callable[[], None]
Mark = torch.cuda.Event | None
"""A point of a stream; None is always passed."""
_WARM_UPS = 2
"""Runs before a capture: the first lets libraries set themselves up and choose algorithms, the second uses those."""
_capturing = threading.Lock()
"""Of the process: the choice of algorithms that a capture wants is a global setting of torch."""


class Graph(Protocol):
    """Work that was captured."""

    def replay(self) -> None:
        """Enqueues it."""

    def reset(self) -> None:
        """Lets go of its memory."""


class Stream(Protocol):
    """In order, one work after the other. One thread at a time may enqueue; results may be handed over by any.

    Attributes:
        device: of its work.
        has_graphs: `capture` can be called.
    """

    device: torch.device
    has_graphs: bool

    def entered(self, source: Tensor) -> AbstractContextManager[None]:
        """What torch enqueues inside goes to this stream, behind what its current stream does to `source`."""

    def parallel(self, works: Sequence[Work]) -> None:
        """Enqueues works that do not depend on each other; what is enqueued next comes after all of them."""

    def mark(self) -> Mark:
        """The point behind all that was enqueued so far."""

    def hand_over(self, tensor: Tensor, mark: Mark) -> None:
        """What torch's current stream does next comes after the mark, and may use the tensor of this stream."""

    def host_tensor(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """An empty tensor on the host that is copied to the device without waiting."""

    def download(self, tensor: Tensor, mark: Mark) -> np.ndarray:
        """The tensor as an array of the caller's own, once the mark is passed."""

    def capture(self, work: Work) -> Graph:
        """Runs work, which enqueues the same whenever it is called, and captures it. Called inside `entered`."""

    def synchronize(self) -> None:
        """Waits for all that was enqueued."""


class HostStream:
    """The CPU. See `Stream`."""

    device = torch.device("cpu")
    has_graphs = False

    def entered(self, source: Tensor) -> AbstractContextManager[None]:
        return nullcontext()

    def parallel(self, works: Sequence[Work]) -> None:
        for work in works:
            work()

    def mark(self) -> Mark:
        return None

    def hand_over(self, tensor: Tensor, mark: Mark) -> None:
        pass

    def host_tensor(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.empty(*shape, dtype=dtype)

    def download(self, tensor: Tensor, mark: Mark) -> np.ndarray:
        return tensor.numpy()

    def capture(self, work: Work) -> Graph:
        raise RuntimeError("graph: expected a CUDA device, got the CPU")

    def synchronize(self) -> None:
        pass


class CudaStream:
    """A stream of a CUDA device, beside one for downloads and some for works in parallel. See `Stream`."""

    has_graphs = True

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)
        self._downloads = torch.cuda.Stream(device)
        self._sides: list[torch.cuda.Stream] = []

    @contextmanager
    def entered(self, source: Tensor) -> Iterator[None]:
        if source.is_cuda:
            self._stream.wait_stream(torch.cuda.current_stream(self.device))
            source.record_stream(self._stream)
        with torch.cuda.stream(self._stream):
            yield

    def parallel(self, works: Sequence[Work]) -> None:
        while len(self._sides) < len(works) - 1:
            self._sides.append(torch.cuda.Stream(self.device))
        begin = self.mark()
        for work, side in zip(works[1:], self._sides, strict=False):
            side.wait_event(begin)
            with torch.cuda.stream(side):
                work()
        works[0]()
        for side in self._sides[: len(works) - 1]:
            self._stream.wait_stream(side)

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event()
        event.record(self._stream)
        return event

    def hand_over(self, tensor: Tensor, mark: Mark) -> None:
        current = torch.cuda.current_stream(self.device)
        _wait(current, mark)
        tensor.record_stream(current)

    def host_tensor(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.empty(*shape, dtype=dtype, pin_memory=True)  # torch keeps pinned memory, and knows who reads it

    def download(self, tensor: Tensor, mark: Mark) -> np.ndarray:
        host = self.host_tensor(tensor.shape, tensor.dtype)
        with torch.cuda.stream(self._downloads):
            _wait(self._downloads, mark)
            host.copy_(tensor, non_blocking=True)
            finished = torch.cuda.Event()
            finished.record()
        finished.synchronize()
        return host.numpy().copy()  # pinned memory is scarce, and goes back

    def capture(self, work: Work) -> Graph:
        graph = torch.cuda.CUDAGraph()
        with _capturing, _measured_algorithms():
            for _ in range(_WARM_UPS):
                work()
            try:
                with torch.cuda.graph(
                    graph,
                    pool=torch.cuda.graph_pool_handle(),
                    stream=self._stream,
                    capture_error_mode="thread_local",  # other threads go on meanwhile
                ):
                    work()
            except BaseException:
                graph.reset()
                raise
        return graph

    def synchronize(self) -> None:
        self._stream.synchronize()


def _wait(stream: torch.cuda.Stream, mark: Mark) -> None:
    if mark is not None:
        stream.wait_event(mark)


@contextmanager
def _measured_algorithms() -> Iterator[None]:
    """cuDNN tries its algorithms for each new convolution and keeps the fastest."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
