"""The HTML page of a profile: one file that needs nothing else."""

from collections.abc import Sequence
from html import escape

from .profiler import Point, Profile, Range
from .results import Machine

_WIDTH, _HEIGHT, _BAR = 1100, 240, 22
_MAX_POINTS = 4000
"""Of the line of memory; more would not be seen."""
_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#eeca3b", "#b279a2", "#9d755d")
_STYLE = """body{font:14px sans-serif;max-width:1140px;margin:2em auto;color:#222}
table{border-collapse:collapse}td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}svg{background:#fafafa}"""


def profile_page(title: str, machine: Machine, found: Profile, trace: str) -> str:
    """The page.

    Args:
        title: what was run.
        machine: that it ran on.
        found: the profile.
        trace: name of the file of the trace, beside the page.
    """
    colours = {n: _COLOURS[i % len(_COLOURS)] for i, n in enumerate(dict.fromkeys(r.name for r in found.stages))}
    return "\n".join(
        (
            f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>",
            f"<h1>{escape(title)}</h1>",
            f"<p>{escape(machine.processor)}, {machine.cores} cores; {escape(', '.join(machine.versions))}",
            f'<p>The trace: <a href="{escape(trace)}">{escape(trace)}</a>, for <a href="https://ui.perfetto.dev">Perfetto'
            "</a> or chrome://tracing. Times under a profiler are longer than without it; compare shares.",
            "<h2>Stages</h2>",
            _timeline(found.stages, colours),
            _table(("stage", "begin, ms", "ms"), [(r.name, r.begin, r.end - r.begin) for r in found.stages]),
            "<h2>Memory that torch allocated</h2>",
            *(_memory(device, points, found.stages, colours) for device, points in found.memory.items()),
            "<h2>Operators and kernels, by their own time</h2>",
            _table(
                ("operator", "calls", "processor, ms", "device, ms"),
                [(o.name, o.calls, o.cpu_ms, o.device_ms) for o in found.operators],
            ),
            "</html>\n",
        )
    )


def _timeline(stages: Sequence[Range], colours: dict[str, str]) -> str:
    """A bar per stage; a stage within another lies below it."""
    end = max(r.end for r in stages)
    bars = []
    for r in stages:
        depth = sum(o.begin <= r.begin and r.end <= o.end and o is not r for o in stages)
        x, width = _WIDTH * r.begin / end, max(1.0, _WIDTH * (r.end - r.begin) / end)
        label = f"{escape(r.name)}: {r.end - r.begin:.2f} ms"
        bars.append(
            f'<rect x="{x:.1f}" y="{depth * _BAR}" width="{width:.1f}" height="{_BAR - 2}" fill="{colours[r.name]}">'
            f"<title>{label}</title></rect>"
        )
        if width > 90:
            bars.append(f'<text x="{x + 4:.1f}" y="{depth * _BAR + 14}" fill="white" font-size="11">{label}</text>')
    return f'<svg width="{_WIDTH}" height="{3 * _BAR}">{"".join(bars)}</svg>'


def _memory(
    device: str, points: Sequence[tuple[float, float]], stages: Sequence[Range], colours: dict[str, str]
) -> str:
    end = max(max(r.end for r in stages), points[-1][0])
    low, high = min(0.0, *(mb for _, mb in points)), max(mb for _, mb in points)
    scale = _HEIGHT / ((high - low) or 1.0)
    shown = _thinned(points)
    line = " ".join(f"{_WIDTH * t / end:.1f},{_HEIGHT - (mb - low) * scale:.1f}" for t, mb in shown)
    bands = "".join(
        f'<rect x="{_WIDTH * r.begin / end:.1f}" width="{_WIDTH * (r.end - r.begin) / end:.1f}" height="{_HEIGHT}" '
        f'fill="{colours[r.name]}" opacity="0.15"><title>{escape(r.name)}</title></rect>'
        for r in stages
    )
    svg = f'<svg width="{_WIDTH}" height="{_HEIGHT}">{bands}<polyline points="{line}" fill="none" stroke="#222"/></svg>'
    return f"<p>{escape(device)}: {high:.1f} MB at most above the beginning, over {end:.1f} ms</p>{svg}"


def _thinned(points: Sequence[Point]) -> list[Point]:
    """The highest point of each of so many windows, so that no peak is lost."""
    step = -(-len(points) // _MAX_POINTS)
    return [max(points[i : i + step], key=lambda p: p[1]) for i in range(0, len(points), step)]


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{escape(h)}</th>" for h in heads) + "</tr>"]
    for row in rows:
        cells = (f"{c:.2f}" if isinstance(c, float) else escape(str(c)) for c in row)
        lines.append("<tr>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    return "<table>" + "".join(lines) + "</table>"
