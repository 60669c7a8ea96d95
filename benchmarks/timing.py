"""Times two ways of doing the same thing side by side and says whether the wanted ratio is reached.

A benchmark script makes rows with `at_least` (ours must be so many times faster) or `at_most` (ours may cost so many
times theirs) and ends with `sys.exit(report(rows, json_path))`.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from lpsnet.native.library import num_threads

Function = Callable[[], Any]


@dataclass(frozen=True)
class Row:
    """One comparison; times are medians in milliseconds.

    Attributes:
        ratio: theirs / ours where the bound is `at_least` (a speed-up), ours / theirs where it is `at_most` (a cost).
    """

    case: str
    ours_ms: float
    theirs_ms: float
    ratio: float
    bound: Literal["at_least", "at_most"]
    required: float

    @property
    def passed(self) -> bool:
        return self.ratio >= self.required if self.bound == "at_least" else self.ratio <= self.required


def at_least(case: str, required: float, ours: Function, theirs: Function, repeats: int = 15, warmup: int = 2) -> Row:
    """Ours must be `required` times faster than theirs."""
    mine, other = interleaved_medians((ours, theirs), repeats, warmup)
    return Row(case, mine, other, other / mine, "at_least", required)


def at_most(case: str, required: float, ours: Function, theirs: Function, repeats: int = 15, warmup: int = 2) -> Row:
    """Ours may take at most `required` times as long as theirs."""
    mine, other = interleaved_medians((ours, theirs), repeats, warmup)
    return Row(case, mine, other, mine / other, "at_most", required)


def interleaved_medians(functions: Sequence[Function], repeats: int, warmup: int) -> list[float]:
    """Median milliseconds of each function, called in turns so that a busy moment of the machine meets all alike."""
    for _ in range(warmup):
        for function in functions:
            function()
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, taken in zip(functions, times, strict=True):
            begin = time.perf_counter()
            function()
            taken.append((time.perf_counter() - begin) * 1e3)
    return [statistics.median(taken) for taken in times]


def report(rows: Sequence[Row], json_path: Path | None = None) -> int:
    """Prints the rows as a table, writes them as JSON where a path is given, and returns the exit code: 1 on a miss."""
    width = max(len("case"), *(len(row.case) for row in rows))
    print(f"{platform.machine()}, {num_threads()} threads; medians")
    print(f"{'case':{width}}  {'ours ms':>9}  {'theirs ms':>9}  {'ratio':>8}  {'required':>10}")
    for row in rows:
        required = f"{'>=' if row.bound == 'at_least' else '<='} {row.required:g}"
        verdict = "PASS" if row.passed else "FAIL"
        times = f"{row.ours_ms:9.3f}  {row.theirs_ms:9.3f}  {row.ratio:8.3g}"
        print(f"{row.case:{width}}  {times}  {required:>10}  {verdict}")
    if json_path is not None:
        data = {
            "machine": platform.machine(),
            "threads": num_threads(),
            "rows": [{**asdict(row), "passed": row.passed} for row in rows],
        }
        json_path.write_text(json.dumps(data, indent=2) + "\n")
    return 0 if all(row.passed for row in rows) else 1
