"""One stream with the graphs that were captured on it."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor

from .frames import Frames, FrameShape, StageContext, unwatched
from .streams import Graph, Mark, Stream

_REMEMBERED = 256
"""Shapes that are remembered without a graph."""


@dataclass(frozen=True)
class _Captured:
    """A graph with the memory that it reads and writes."""

    images: Tensor
    blocks: Tensor
    graph: Graph


class Lane:
    """Runs frames one after the other, in the order of the calls. Safe to call from several threads.

    A frame whose shape is new is enqueued as it is; when the shape comes again, it is captured, and replayed from then
    on. So what comes once, such as the images of a folder, costs no capture.

    Args:
        frames: what is run.
        stream: where it is run.
        max_graphs: graphs kept at a time; 0 captures none.
    """

    def __init__(self, frames: Frames, stream: Stream, max_graphs: int) -> None:
        self.stream = stream
        self._frames: Frames | None = frames
        self._max_graphs = max_graphs
        self._graphs: OrderedDict[FrameShape, _Captured] = OrderedDict()
        self._seen: OrderedDict[FrameShape, None] = OrderedDict()
        self._lock = threading.Lock()

    def submit(self, images: Tensor, shape: FrameShape) -> tuple[Tensor, Mark]:
        """Enqueues a frame.

        Args:
            images: uint8[N, H, W, 3], on the device or of `stream.host_tensor`. It may be dropped after the call.
            shape: of the frame.

        Returns:
            int32[N, words], the memory of the results, and the point at which they are there.

        Raises:
            ValueError: a setting out of its range, or a lane that was closed.
        """
        with self._lock:
            frames = self._open()
            with self.stream.entered(images):
                captured = self._captured(frames, shape)
                if captured is None:
                    enqueued = self._enqueue(frames, images, shape, unwatched)
                    self._remember(shape)
                    return enqueued
                captured.images.copy_(images, non_blocking=True)
                captured.graph.replay()
                blocks = captured.blocks.clone()  # the next replay writes over the graph's own
                return blocks, self.stream.mark()

    def submit_by_stage(self, images: Tensor, shape: FrameShape, stage: StageContext) -> tuple[Tensor, Mark]:
        """Like `submit`, without a graph; upload, preprocess, network and postprocess each in a context of `stage`."""
        with self._lock:
            frames = self._open()
            with self.stream.entered(images):
                return self._enqueue(frames, images, shape, stage)

    def close(self) -> None:
        """Waits for the frames that were submitted and lets go of graphs and network. Results stay."""
        with self._lock:
            self._frames = None
            self.stream.synchronize()
            while self._graphs:
                self._evict()

    @property
    def shapes(self) -> tuple[FrameShape, ...]:
        """Of the graphs, that which was not used for longest first."""
        with self._lock:
            return tuple(self._graphs)

    def _open(self) -> Frames:
        if self._frames is None:
            raise ValueError("pipeline: expected an open one, got one that was closed")
        return self._frames

    def _enqueue(self, frames: Frames, images: Tensor, shape: FrameShape, stage: StageContext) -> tuple[Tensor, Mark]:
        with stage("upload"):
            on_device = images.to(self.stream.device, non_blocking=True)
        blocks = self._empty_blocks(frames, shape)
        frames.enqueue(on_device, blocks, shape, self.stream, stage)
        return blocks, self.stream.mark()

    def _captured(self, frames: Frames, shape: FrameShape) -> _Captured | None:
        if shape in self._graphs:
            self._graphs.move_to_end(shape)
            return self._graphs[shape]
        if not self._max_graphs or shape not in self._seen:
            return None
        if len(self._graphs) == self._max_graphs:
            self.stream.synchronize()
            self._evict()
        captured = self._capture(frames, shape)
        self._graphs[shape] = captured
        del self._seen[shape]  # once its graph is gone, it has to come twice again
        return captured

    def _remember(self, shape: FrameShape) -> None:
        self._seen[shape] = None
        self._seen.move_to_end(shape)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def _capture(self, frames: Frames, shape: FrameShape) -> _Captured:
        images = torch.zeros(shape.batch, shape.height, shape.width, 3, dtype=torch.uint8, device=self.stream.device)
        blocks = self._empty_blocks(frames, shape)
        graph = self.stream.capture(lambda: frames.enqueue(images, blocks, shape, self.stream))
        return _Captured(images, blocks, graph)

    def _evict(self) -> None:
        self._graphs.popitem(last=False)[1].graph.reset()

    def _empty_blocks(self, frames: Frames, shape: FrameShape) -> Tensor:
        words = shape.layout(len(frames.recipe.categories)).words
        return torch.empty(shape.batch, words, dtype=torch.int32, device=self.stream.device)
