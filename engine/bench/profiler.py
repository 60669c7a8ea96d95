"""One run of a network under torch's profiler: ranges of the stages, a trace, the operators, memory over time."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .stages import RangedTimer
from .subjects import Subject

_MEMORY_EVENT = "[memory]"
Point = tuple[float, float]
"""(milliseconds since the run began, MB that torch has allocated since)"""
_CPU = 0
"""Of the field `Device Type` of an event of memory."""


@dataclass(frozen=True)
class Operator:
    """All calls of one operator or kernel; times are its own, without what it calls, in milliseconds.

    Attributes:
        cpu_ms, device_ms: of the host's processor and of the device.
    """

    name: str
    calls: int
    cpu_ms: float
    device_ms: float


@dataclass(frozen=True)
class Range:
    """One stage, from `begin` to `end`, in milliseconds since the run began."""

    name: str
    begin: float
    end: float


@dataclass(frozen=True)
class Profile:
    """What a profile shows.

    Attributes:
        stages: in the order in which they began.
        operators: those that took most, first.
        memory: per device, cpu or cuda.
    """

    stages: tuple[Range, ...]
    operators: tuple[Operator, ...]
    memory: dict[str, tuple[Point, ...]]


def profile(subject: Subject, paths: Sequence[Path], trace: Path, warmup: int, cuda: bool, top: int) -> Profile:
    """Runs a network, warm, once under the profiler and writes the Chrome trace.

    Args:
        subject: the network.
        paths: images of one run.
        trace: the file to write; gzipped where its name ends in .gz.
        warmup: runs before it.
        cuda: also record CUDA, and mark the stages for Nsight by NVTX.
        top: so many operators.
    """
    import torch
    from torch.profiler import ProfilerActivity

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    stages = stage_ranges(cuda)
    for _ in range(warmup):
        subject.run(paths, RangedTimer(stages), True)
    with torch.profiler.profile(activities=activities, profile_memory=True) as recorded:
        subject.run(paths, RangedTimer(stages), True)
        if cuda:
            torch.cuda.synchronize()
    recorded.export_chrome_trace(str(trace))
    events = _events(trace)
    begin, ranges = read_stages(events)
    return Profile(
        ranges, operators(recorded.key_averages(), {r.name for r in ranges}, top), read_memory(events, begin)
    )


def run_for_tools(subject: Subject, paths: Sequence[Path], warmup: int, cuda: bool) -> dict[str, float]:
    """Runs a network, warm, once with ranges alone, for a profiler that watches this process from outside.

    On CUDA the run is between cudaProfilerStart and cudaProfilerStop.

    Args:
        subject, paths, warmup, cuda: as in `profile`.

    Returns:
        Milliseconds per stage.
    """
    import torch

    for _ in range(warmup):
        subject.run(paths, RangedTimer(stage_ranges(cuda)), True)
    timer = RangedTimer(stage_ranges(cuda))
    if cuda:
        torch.cuda.profiler.start()
    subject.run(paths, timer, True)
    if cuda:
        torch.cuda.profiler.stop()
    return subject.stages(timer.timings)


def stage_ranges(cuda: bool) -> Callable[[str], AbstractContextManager]:
    """Makes the context of a stage: a range of the profiler, and on CUDA one of NVTX, both called as the stage."""
    import torch

    @contextmanager
    def ranged(stage: str) -> Iterator[None]:
        with torch.profiler.record_function(stage):
            if not cuda:
                yield
                return
            with torch.cuda.nvtx.range(stage):
                yield

    return ranged


def read_stages(events: Sequence[dict[str, Any]]) -> tuple[float, tuple[Range, ...]]:
    """The beginning of the run in microseconds of the trace, and the stages: its `user_annotation` events.

    Raises:
        ValueError: the trace has none.
    """
    found = [e for e in events if e.get("cat") == "user_annotation" and not e["name"].startswith("ProfilerStep")]
    if not found:
        raise ValueError("trace: expected events of the stages, got none")
    begin = min(float(e["ts"]) for e in found)
    ranges = [
        Range(e["name"], (float(e["ts"]) - begin) / 1e3, (float(e["ts"]) + e["dur"] - begin) / 1e3) for e in found
    ]
    return begin, tuple(sorted(ranges, key=lambda r: (r.begin, -r.end)))


def read_memory(events: Sequence[dict[str, Any]], begin: float) -> dict[str, tuple[Point, ...]]:
    """What torch has allocated since `begin` (microseconds of the trace), per device."""
    levels: dict[str, float] = {}
    points: dict[str, list[Point]] = {}
    found = [e for e in events if e.get("name") == _MEMORY_EVENT and float(e["ts"]) >= begin]
    for event in sorted(found, key=lambda e: float(e["ts"])):
        details = event["args"]
        device = "cpu" if details["Device Type"] == _CPU else "cuda"
        levels[device] = levels.get(device, 0.0) + details["Bytes"] / 1e6
        points.setdefault(device, []).append(((float(event["ts"]) - begin) / 1e3, levels[device]))
    return {device: tuple(p) for device, p in points.items()}


def operators(averages: Any, stages: set[str], top: int) -> tuple[Operator, ...]:
    """The operators that took most of the device, or of the processor where there is no device."""
    found = [
        Operator(e.key, e.count, e.self_cpu_time_total / 1e3, e.self_device_time_total / 1e3)
        for e in averages
        if e.key not in stages and e.key != _MEMORY_EVENT
    ]
    return tuple(sorted(found, key=lambda o: (o.device_ms, o.cpu_ms), reverse=True)[:top])


def _events(trace: Path) -> list[dict[str, Any]]:
    import gzip

    data = trace.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    return json.loads(data)["traceEvents"]
