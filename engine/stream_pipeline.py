"""A stream of frames through the engine: reading, predicting, drawing and writing at the same time, in bounded memory.

    read -> queue -> predict (several threads) -> ordered queue -> draw -> queue -> write

From a recording nothing is lost: a full queue holds up the reading. A live source does not wait, so its oldest frame
that nobody has taken yet makes room for the newest.
"""

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Any, Protocol

import cv2
import numpy as np

from lpsnet.config import StreamConfig
from lpsnet.structures import PanopticResult

from .queues import Aborted, Ended, FrameQueue, OrderedQueue
from .sources import Frame, FrameSource, SourceError
from .statistics import StreamStatistics

FAILURES = (ValueError, OSError, RuntimeError, MemoryError, cv2.error)
"""What may go wrong with one frame while the next one still works."""
_FAILURES_IN_A_ROW = 10
"""After so many it is not the frames: the stream ends."""
_POLL = 0.1
"""Seconds between two looks at the stream by the thread that waits for it."""
_GRACE = 2.0
"""Seconds that a source has to end after it was told to. One that hangs in a driver is left behind."""
_HANG = 3.0
"""A call for a frame that takes so many timeouts, though it ought to take one, does not come back."""


class StreamSink(Protocol):
    """Where the results go. Each method is called by one thread, in the order of the frames."""

    def draw(self, frame: Frame, result: PanopticResult) -> Any:
        """What is to be written of a frame."""

    def write(self, drawn: Any) -> None:
        """Writes it. A failure ends the stream."""


@dataclass
class _Work:
    """A frame on its way, with what the stages made of it."""

    frame: Frame
    result: PanopticResult | None = None
    drawn: Any = None
    timings: dict[str, float] = field(default_factory=dict)


class StreamPipeline:
    """Runs one source once.

    Args:
        source: of the frames.
        predict: takes uint8[H, W, 3] RGB to its map; called by several threads at a time.
        sink: takes the results.
        config: `workers`, `queue_size` and `timeout` are used.

    Attributes:
        statistics: what happened; to be read at any time.
    """

    def __init__(
        self,
        source: FrameSource,
        predict: Callable[[np.ndarray], PanopticResult],
        sink: StreamSink,
        config: StreamConfig,
    ) -> None:
        self.statistics = StreamStatistics(source)
        self._source, self._predict, self._sink, self._config = source, predict, sink, config
        self._frames: FrameQueue[_Work] = FrameQueue(config.queue_size)
        self._results: OrderedQueue[_Work] = OrderedQueue(config.queue_size + config.workers)
        self._drawn: FrameQueue[_Work] = FrameQueue(config.queue_size)
        self._written = threading.Event()
        self._predicting = itertools.count(config.workers - 1, -1)  # next() is atomic
        self._failed_in_a_row = 0
        self._left_behind = False

    def run(
        self,
        stopped: Callable[[], bool] = lambda: False,
        show: Callable[[StreamStatistics], None] = lambda statistics: None,
    ) -> StreamStatistics:
        """Works until the source ends, fails, or `stopped` says so; what was read by then is still finished.

        Args:
            stopped: asked ten times a second.
            show: called as often.

        Returns:
            The statistics. `error` says what ended the stream before its time: a lost source, a failure to write, ten
            frames in a row that the engine failed on.
        """
        reader = threading.Thread(target=self._read, name="read", daemon=True)
        bodies = [*[self._predict_frames] * self._config.workers, self._draw_frames, self._write_frames]
        stages = [
            threading.Thread(target=self._run_stage, args=(body,), name=body.__name__, daemon=True) for body in bodies
        ]
        for thread in (reader, *stages):
            thread.start()
        try:
            self._wait(stopped, show)
            for thread in stages:
                thread.join()
            reader.join(0 if self._left_behind else _GRACE)
        except BaseException:  # such as a second Ctrl-C
            self._abort()
            stages[-1].join(_GRACE)  # what it writes to is closed next
            raise
        show(self.statistics)
        return self.statistics

    def _wait(self, stopped: Callable[[], bool], show: Callable[[StreamStatistics], None]) -> None:
        """Until everything is written. Passes a stop on to the source, and leaves one behind that hangs."""
        stop_at: float | None = None
        while not self._written.wait(_POLL):
            show(self.statistics)
            if stop_at is None and stopped():
                stop_at = monotonic()
                self._source.stop()
            since = self._source.waiting_since
            if since is None or self._left_behind:
                continue
            limit = _HANG * self._config.timeout
            if stop_at is None and monotonic() - since > limit:
                self._fail(SourceError(f"{self._source.name}: hangs: no answer for {limit:g} s"))
            elif stop_at is None or monotonic() - max(since, stop_at) < _GRACE:
                continue
            self._left_behind = True
            self._source.stop()
            self._frames.close()

    def _read(self) -> None:
        """The first stage. Its failure ends the stream in order: what was read before is still finished."""
        try:
            for frame in self._source.frames():
                dropped = self._frames.put(_Work(frame), drop_oldest=self._source.live)
                self.statistics.add_dropped(dropped)
        except Aborted:
            pass
        except Exception as error:
            self._fail(error)
        finally:
            self._source.close()
            self._frames.close()

    def _predict_frames(self) -> None:
        try:
            while True:
                number, work = self._frames.get()
                self._predict_one(work)
                self._results.put(number, work)
        except Ended:
            if next(self._predicting) == 0:  # the last of them
                self._results.close()

    def _predict_one(self, work: _Work) -> None:
        """Its failure is counted, and is that of the stream only if it comes again and again."""
        work.timings["read"] = 1e3 * work.frame.read_seconds
        work.timings["queue"] = 1e3 * (perf_counter() - work.frame.read_at)
        try:
            work.result = self._predict(work.frame.image)
        except FAILURES as failure:
            self.statistics.add_failed(failure)
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= _FAILURES_IN_A_ROW:
                raise
            return
        self._failed_in_a_row = 0
        work.timings.update(work.result.timings)

    def _draw_frames(self) -> None:
        try:
            while True:
                work = self._results.get()
                if work.result is None:  # the engine failed on it
                    continue
                start = perf_counter()
                work.drawn = self._sink.draw(work.frame, work.result)
                work.timings["draw"] = 1e3 * (perf_counter() - start)
                self._drawn.put(work)
        except Ended:
            self._drawn.close()

    def _write_frames(self) -> None:
        try:
            while True:
                _, work = self._drawn.get()
                start = perf_counter()
                self._sink.write(work.drawn)
                work.timings["write"] = 1e3 * (perf_counter() - start)
                self.statistics.add_written(work.frame, work.timings)
        except Ended:
            return

    def _run_stage(self, body: Callable[[], None]) -> None:
        """A stage whose failure ends the others, and the stream."""
        try:
            body()
        except Aborted:
            pass
        except Exception as error:
            self._fail(error)
            self._abort()
        finally:
            if body == self._write_frames:
                self._written.set()

    def _fail(self, error: Exception) -> None:
        if self.statistics.error is None:
            self.statistics.error = error

    def _abort(self) -> None:
        self._source.stop()
        for queue in (self._frames, self._results, self._drawn):
            queue.abort()
