"""What a stream did: how many frames, how fast, how late."""

import math
import threading
from collections import deque
from collections.abc import Mapping
from time import perf_counter
from typing import Any

from .sources import Frame, FrameSource

PERCENTILES = (50, 90, 99)
_BIN = 1.01
"""Ratio of the bounds of a bin, so that a percentile is off by half a percent at most."""
_LEAST = 1e-5
"""Seconds; what is faster counts as this."""
_RECENT = 120
"""Frames whose speed and latency the live display shows."""


class Latencies:
    """Percentiles of any number of times, in bounded memory: counts of bins that are 1 % wide."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._number = 0
        self.greatest = 0.0
        """In seconds."""

    def add(self, seconds: float) -> None:
        """Counts one."""
        index = math.floor(math.log(max(seconds, _LEAST) / _LEAST, _BIN))
        self._counts[index] = self._counts.get(index, 0) + 1
        self._number += 1
        self.greatest = max(self.greatest, seconds)

    def percentile(self, q: float) -> float | None:
        """The time in seconds that `q` percent of them do not exceed; None where there are none."""
        below = 0
        for index in sorted(self._counts):
            below += self._counts[index]
            if below >= q / 100 * self._number:
                return min(_LEAST * _BIN ** (index + 0.5), self.greatest)
        return None


class StreamStatistics:
    """Counts of one stream; any thread may add to them and read them.

    Args:
        source: whose own counts are shown along.

    Attributes:
        dropped: frames of a live source that were overtaken before the engine could take them.
        failed: frames that the engine failed on.
        written: frames whose results are written.
        error: what ended the stream, or None.
        last_failure: of a frame.
    """

    def __init__(self, source: FrameSource) -> None:
        self.source = source
        self.dropped = self.failed = self.written = 0
        self.error: Exception | None = None
        self.last_failure: Exception | None = None
        self._latencies = Latencies()
        self._recent: deque[tuple[float, float]] = deque(maxlen=_RECENT)  # (when written, latency)
        self._stages: dict[str, float] = {}
        self._began = perf_counter()
        self._ended = self._began
        self._lock = threading.Lock()

    def add_dropped(self, number: int) -> None:
        """Counts dropped frames."""
        with self._lock:
            self.dropped += number

    def add_failed(self, failure: Exception) -> None:
        """Counts a frame that could not be worked on."""
        with self._lock:
            self.failed += 1
            self.last_failure = failure

    def add_written(self, frame: Frame, timings: Mapping[str, float]) -> None:
        """Counts a frame whose result has just been written; `timings` are milliseconds per stage."""
        now = perf_counter()
        with self._lock:
            self.written += 1
            self._ended = now
            self._latencies.add(now - frame.read_at)
            self._recent.append((now, now - frame.read_at))
            for stage, milliseconds in timings.items():
                self._stages[stage] = self._stages.get(stage, 0.0) + milliseconds

    def line(self) -> str:
        """Where the stream is, with the speed and the latencies of its latest frames."""
        with self._lock:
            recent = list(self._recent)
            parts = [f"{self.written} frames"]
            parts += [f"{n} dropped" for n in [self.dropped] if n] + [f"{n} failed" for n in [self.failed] if n]
        counts = self.source.counts
        parts += [f"{n} broken" for n in [counts.broken] if n] + [f"{n} reconnects" for n in [counts.reconnects] if n]
        if len(recent) > 1 and recent[-1][0] > recent[0][0]:
            parts.append(f"{(len(recent) - 1) / (recent[-1][0] - recent[0][0]):.1f} FPS")
        if recent:
            ordered = sorted(latency for _, latency in recent)
            marks = (f"p{q} {1e3 * ordered[math.ceil(q / 100 * len(ordered)) - 1]:.0f}" for q in PERCENTILES)
            parts.append(f"latency {' '.join(marks)} ms")
        return ", ".join(parts)

    def summary(self) -> dict[str, Any]:
        """All of it, fit for JSON. Speeds are end to end: from the opening of the source to the last written result."""
        with self._lock:
            seconds = self._ended - self._began
            marks = {f"p{q}": self._latencies.percentile(q) for q in PERCENTILES}
            marks["max"] = self._latencies.greatest if self.written else None
            return {
                "source": self.source.name,
                "live": self.source.live,
                "frames_read": self.source.counts.read,
                "frames_dropped": self.dropped,
                "frames_broken": self.source.counts.broken,
                "frames_failed": self.failed,
                "frames_written": self.written,
                "reconnects": self.source.counts.reconnects,
                "seconds": round(seconds, 3),
                "fps": round(self.written / seconds, 3) if seconds > 0 else None,
                "latency_ms": {name: None if t is None else round(1e3 * t, 2) for name, t in marks.items()},
                "stage_ms": {stage: round(total / self.written, 3) for stage, total in self._stages.items()},
            }
