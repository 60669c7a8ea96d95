"""Times work on a GPU by its events, and holds it against what its user would have instead and against goals.

What can be captured is timed as the replay of a CUDA graph, so the host is not in the time; what waits for the host in
between is timed with it, as its user would. Before each run the cache of the device is overwritten, and that keeps the
device busy while the host enqueues what is timed.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

Function = Callable[[], Any]
_WARM_UPS = 3


@dataclass(frozen=True)
class GpuRow:
    """One way of doing something; times in microseconds.

    Attributes:
        case: what is done.
        way: who does it.
        share: of the limit that memory or arithmetic sets; None where there is none to speak of.
    """

    case: str
    way: str
    median_us: float
    p99_us: float
    share: float | None = None


@dataclass(frozen=True)
class Goal:
    """A number that is to be reached."""

    what: str
    value: float
    bound: Literal["at_least", "at_most"]
    required: float
    unit: str

    @property
    def reached(self) -> bool:
        return self.value >= self.required if self.bound == "at_least" else self.value <= self.required


@dataclass
class GpuReport:
    """What was measured on a device."""

    device: torch.device
    rows: list[GpuRow] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    def time(
        self,
        case: str,
        ways: Mapping[str, Function],
        repeats: int,
        limits_us: Mapping[str, float] | None = None,
        with_host: Sequence[str] = (),
    ) -> dict[str, GpuRow]:
        """Times ways of doing the same in turns.

        Args:
            case: what they do.
            ways: by name; ours first.
            repeats: of each.
            limits_us: by name, how long it takes at least.
            with_host: those that wait for the host, which no graph takes.

        Returns:
            The rows by name.
        """
        measured = microseconds(ways, self.device, repeats, with_host)
        rows = {}
        for name, times in measured.items():
            median = float(np.median(times))
            limit = (limits_us or {}).get(name)
            share = None if limit is None else limit / median
            rows[name] = GpuRow(case, name, median, float(np.percentile(times, 99)), share)
        self.rows += rows.values()
        return rows

    def at_most(self, what: str, value: float, required: float, unit: str = "us") -> None:
        """A goal below."""
        self.goals.append(Goal(what, value, "at_most", required, unit))

    def at_least(self, what: str, value: float, required: float, unit: str = "x") -> None:
        """A goal above."""
        self.goals.append(Goal(what, value, "at_least", required, unit))

    def finish(self, path: Path | None) -> int:
        """Prints the tables, writes them as JSON where a path is given, and returns the exit code: 1 where a goal is
        missed."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device)
        print(f"{name}, torch {torch.__version__}")
        width = max(len(f"{row.case}, {row.way}") for row in self.rows)
        print(f"{'case':{width}}  {'median us':>10}  {'p99 us':>10}  {'of limit':>8}")
        for row in self.rows:
            share = "" if row.share is None else f"{row.share:.0%}"
            print(f"{f'{row.case}, {row.way}':{width}}  {row.median_us:10.1f}  {row.p99_us:10.1f}  {share:>8}")
        for goal in self.goals:
            sign = ">=" if goal.bound == "at_least" else "<="
            verdict = "reached" if goal.reached else "missed"
            print(f"goal: {goal.what}: {goal.value:.3g} {goal.unit}, wanted {sign} {goal.required:g}: {verdict}")
        if path is not None:
            goals = [{**asdict(goal), "reached": goal.reached} for goal in self.goals]
            data = {"device": name, "torch": torch.__version__, "rows": [asdict(r) for r in self.rows], "goals": goals}
            path.write_text(json.dumps(data, indent=2) + "\n")
        return 0 if all(goal.reached for goal in self.goals) else 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the scripts with a mode for a GPU share."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", type=Path, help="also write the rows here")


def on_gpu(measure: Callable[[GpuReport, int], None], path: Path | None) -> int:
    """Runs the mode for a GPU of a script; returns the exit code."""
    if not torch.cuda.is_available():
        raise SystemExit("--device cuda wants a GPU, and torch finds none here")
    report = GpuReport(torch.device("cuda", torch.cuda.current_device()))
    with torch.inference_mode():
        measure(report, 200)
    return report.finish(path)


def microseconds(
    ways: Mapping[str, Function], device: torch.device, repeats: int, with_host: Sequence[str] = ()
) -> dict[str, list[float]]:
    """Times of each function, called in turns."""
    if device.type == "cpu":
        return _on_cpu(ways, repeats)
    runs = {name: ways[name] if name in with_host else _captured(ways[name]) for name in ways}
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    overwritten = torch.empty(max(4 * cache, 2**28), dtype=torch.uint8, device=device)
    times: dict[str, list[float]] = {name: [] for name in ways}
    events = {name: [torch.cuda.Event(enable_timing=True) for _ in range(2)] for name in ways}
    for i in range(repeats + _WARM_UPS):
        for name, run in runs.items():
            overwritten.zero_()
            events[name][0].record()
            run()
            events[name][1].record()
        torch.cuda.synchronize(device)
        if i >= _WARM_UPS:
            for name, (begin, end) in events.items():
                times[name].append(begin.elapsed_time(end) * 1e3)
    return times


def _captured(function: Function) -> Function:
    """The replay of what a function enqueues."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UPS):
            function()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        function()
    return graph.replay


def _on_cpu(ways: Mapping[str, Function], repeats: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, function in ways.items():
            begin = time.perf_counter()
            function()
            times[name].append((time.perf_counter() - begin) * 1e6)
    return times


def copied_bytes_per_us(device: torch.device) -> float:
    """Of a large copy on the device, read and written: the limit that memory sets."""
    size = 2**30 if device.type == "cuda" else 2**26
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / float(np.median(microseconds({"copy": lambda: target.copy_(source)}, device, 20)["copy"]))


def macs_per_us(device: torch.device, dtype: torch.dtype) -> float:
    """Multiply-accumulates of a large matrix product: the limit that arithmetic sets."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return size**3 / float(np.median(microseconds({"product": lambda: torch.mm(a, b)}, device, 20)["product"]))
