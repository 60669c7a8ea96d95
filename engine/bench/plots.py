"""Pictures of results. They need matplotlib, which the extra `bench` brings."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from .results import Case, Results, SubjectResult

PICTURES = ("latency_stages", "latency_size", "memory_size", "cost_scaling")
_DPI = 100


def write_plots(folder: Path, results: Results, prefix: str = "") -> list[Path]:
    """Writes a PNG for each picture that there are results for.

    Args:
        folder: is made where it is not there.
        results: what is drawn.
        prefix: of the files' names.

    Returns:
        Their paths, of `PICTURES`, as far as there are results for them.

    Raises:
        ModuleNotFoundError: matplotlib is missing; the message says how to get it.
        OSError: the folder cannot be written to.
    """
    expect_matplotlib()
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in zip(PICTURES, (_draw_stages, _draw_latency, _draw_memory, _draw_scaling), strict=True):
        figure = draw(pyplot, results)
        if figure is None:
            continue
        path = folder / f"{prefix}{name}.png"
        figure.tight_layout()
        # Without the version of matplotlib in the file, equal results give equal pictures.
        figure.savefig(path, dpi=_DPI, metadata={"Software": None})
        pyplot.close(figure)
        written.append(path)
    return written


def expect_matplotlib() -> None:
    """Raises ModuleNotFoundError, which says how to get it, where matplotlib is missing."""
    if find_spec("matplotlib") is None:
        raise ModuleNotFoundError("plots: expected matplotlib to be installed, or --no-plots; install lpsnet[bench]")


def _draw_stages(pyplot: Any, results: Results) -> Any:
    """Stacked stages of every network."""
    bars = [
        (f"{s.name}\n{case.size}, {s.precision(case)}, batch {case.batch}", s.measured.stages)
        for case in results.cases
        for s in case.subjects
        if s.measured and s.measured.stages
    ]
    if not bars:
        return None
    names = list(dict.fromkeys(stage.name for _, stages in bars for stage in stages))
    colours = [colour for name in ("tab20", "tab20b") for colour in pyplot.get_cmap(name).colors]
    figure, axes = pyplot.subplots(figsize=(9, 1.6 + 0.6 * len(bars)))
    for i, (_, stages) in enumerate(bars):
        left = 0.0
        for stage in stages:
            colour = colours[names.index(stage.name) % len(colours)]
            axes.barh(i, stage.processor_ms, left=left, color=colour)
            left += stage.processor_ms
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=colours[i % len(colours)]) for i in range(len(names))]
    axes.legend(handles, names, fontsize=6, ncol=2, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_yticks(range(len(bars)), [label for label, _ in bars], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds of the processor, all threads (medians of the stages)")
    return figure


def _draw_latency(pyplot: Any, results: Results) -> Any:
    def latency(s: SubjectResult) -> float | None:
        return s.measured.times.median if s.measured else None

    return _draw_sizes(pyplot, results.cases, latency, "milliseconds, image file to panoptic map (median)")


def _draw_memory(pyplot: Any, results: Results) -> Any:
    def memory(s: SubjectResult) -> float | None:
        return s.memory.peak_mb if s.memory else None

    return _draw_sizes(pyplot, results.cases, memory, "peak resident memory of a process of its own, MB")


def _draw_sizes(pyplot: Any, cases: Sequence[Case], value: Any, label: str) -> Any:
    """A line per network, batch and precision over megapixels of the image."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for case in cases:
        for s in case.subjects:
            found = value(s)
            if case.image is not None and found is not None:
                name = f"{s.name}, {s.precision(case)}, batch {case.batch}"
                lines.setdefault(name, []).append((case.image[0] * case.image[1] / 1e6, found))
    if not lines:
        return None
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for name, points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=name)
    axes.set_xlabel("megapixels of the image")
    axes.set_ylabel(label, fontsize=8)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
    return figure


def _draw_scaling(pyplot: Any, results: Results) -> Any:
    """Time against megapixels, boxes and classes, with the fits."""
    if not results.scaling:
        return None
    columns = min(3, len(results.scaling))
    rows = -(-len(results.scaling) // columns)
    figure, grid = pyplot.subplots(rows, columns, figsize=(3 * columns, 2.6 * rows), squeeze=False)
    for axes in grid.flat[len(results.scaling) :]:
        axes.set_visible(False)
    for axes, series in zip(grid.flat, results.scaling, strict=False):
        values = np.linspace(0.0, max(series.values), 100)[1:]
        offset = np.mean(np.log(series.ms)) - series.exponent * np.mean(np.log(series.values))
        axes.plot(values, np.exp(offset) * values**series.exponent, color="0.6")
        axes.plot(series.values, series.ms, "o")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_title(f"{series.what}: exponent {series.exponent:.2f}", fontsize=9)
        axes.set_xlabel(series.against)
        axes.set_ylabel("ms of the processor", fontsize=8)
        axes.grid(alpha=0.3)
    return figure
