"""Tables of results: for the terminal, as CSV, and in the form of the paper's Table 1."""

import csv
import io
from collections.abc import Iterator, Sequence

from rich.table import Table

from .results import Case, Results, Series, SubjectResult
from .stages import postprocess_share

PAPER = (
    ("UPSNet", "800", 202.0, 10.4, 259.0),
    ("LPSNet", "800", 108.0, 4.4, 139.0),
    ("LPSNet", "882", 127.0, 4.9, 153.0),
    ("LPSNet", "964", 146.0, 5.5, 167.0),
)
"""Table 1 of the paper: network, short side, milliseconds with the post-processing, memory in G, and FLOPS, as it calls
them, in G."""
CSV_COLUMNS = (
    *("size", "image", "input", "batch", "precision", "subject", "runs_on", "weights", "failed"),
    *("median_ms", "p90_ms", "p99_ms", "processor_ms", "images_per_s", "peak_mb", "before_mb", "device_mb"),
    *("parameters", "macs", "energy_j", "stage", "stage_median_ms"),
    *("stage_p90_ms", "stage_p99_ms", "stage_processor_ms", "stage_peak_mb"),
)


def csv_text(results: Results) -> str:
    """A line per stage of each network; a network without stages, or that failed, has one with that left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for case in results.cases:
        for subject in case.subjects:
            writer.writerows(_csv_rows(case, subject))
    return text.getvalue()


def _csv_rows(case: Case, s: SubjectResult) -> Iterator[tuple[object, ...]]:
    measured, memory = s.measured, s.memory
    head: tuple[object, ...] = (case.size, by(case.image), by(s.input), case.batch, s.precision(case), s.name)
    head += (s.runs_on, s.weights, s.failed or "")
    if measured is None:
        numbers: tuple[object, ...] = ("",) * 5
    else:
        times = measured.times
        numbers = (times.median, times.p90, times.p99, processor_ms(s), measured.throughput)
    numbers += (memory.peak_mb, memory.before_mb, memory.device_mb) if memory else ("",) * 3
    numbers += (s.parameters, s.macs, measured.energy_j if measured else "")
    peaks = {m.name: m.host_mb for m in memory.stages} if memory else {}
    for stage in measured.stages if measured else ():
        t = stage.times
        yield (*head, *numbers, stage.name, t.median, t.p90, t.p99, stage.processor_ms, peaks.get(stage.name, ""))
    if measured is None or not measured.stages:
        yield (*head, *numbers, *("",) * 6)


COLUMNS = (
    *("median ms", "p90 ms", "p99 ms", "processor ms", "images/s", "postprocess", "peak MB", "above start MB"),
    *("GMAC", "M parameters"),
)
"""What `row` gives."""


def case_table(case: Case) -> Table:
    """The networks of a case, for the terminal: a column each."""
    table = Table("", title=f"size {case.size}, batch {case.batch}, {case.precision}")
    for s in case.subjects:
        table.add_column(s.name, justify="right", overflow="fold")
    columns = [("failed",) + ("",) * (len(COLUMNS) - 1) if s.measured is None else row(s) for s in case.subjects]
    for name, *values in zip(COLUMNS, *columns, strict=True):
        table.add_row(name, *values)
    return table


def scaling_table(series: Sequence[Series]) -> Table:
    """How the cost grows, for the terminal."""
    table = Table("what", "against", "from ... to", "milliseconds", "exponent", "R2", title="ms ~ value ** exponent")
    for s in series:
        ends = f"{s.values[0]:.4g} ... {s.values[-1]:.4g}"
        table.add_row(s.what, s.against, ends, f"{s.ms[0]:.1f} ... {s.ms[-1]:.1f}", f"{s.exponent:.2f}", f"{s.r2:.2f}")
    return table


def row(s: SubjectResult) -> tuple[str, ...]:
    """The numbers of a network that was measured: times, throughput, share of post-processing, memory and cost."""
    measured, memory = s.measured, s.memory
    if measured is None:
        raise ValueError(f"subject: expected one that was measured, got {s.name}, which failed: {s.failed}")
    times = (*vars(measured.times).values(), processor_ms(s))
    share = share_of_postprocess(s)
    return (
        *(f"{t:.0f}" if t >= 100 else f"{t:.1f}" for t in times if t is not None),
        f"{measured.throughput:.2f}",
        "-" if share is None else f"{share:.1%}",
        *((f"{memory.peak_mb:.0f}", f"{memory.peak_mb - memory.before_mb:.0f}") if memory else ("-", "-")),
        f"{s.macs / 1e9:.1f}" if s.macs else "-",
        f"{s.parameters / 1e6:.2f}" if s.parameters else "-",
    )


def processor_ms(s: SubjectResult) -> float | None:
    """Median of the processor's time."""
    if s.measured is None:
        return None
    taken = sorted(s.measured.processor_ms)
    middle = len(taken) // 2
    return taken[middle] if len(taken) % 2 else (taken[middle - 1] + taken[middle]) / 2


def share_of_postprocess(s: SubjectResult) -> float | None:
    """0..1 of the sum of the stages; None where they do not tell."""
    return postprocess_share({x.name: x.times.median for x in s.measured.stages}) if s.measured else None


def by(size: tuple[int, int] | None) -> str:
    """``800x1333``; empty for None."""
    return "" if size is None else f"{size[0]}x{size[1]}"
