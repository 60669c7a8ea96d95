"""``python -m lpsnet.engine.bench.page benchmarks/results docs/benchmarks.md`` makes the page of result files."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from lpsnet import atomic

from .goals import Verdict, verdicts
from .plots import write_plots
from .results import Case, Machine, Results, Series, SubjectResult, read_results
from .table import COLUMNS, PAPER, by, row

PATTERN = "bench_*.json"
_HEAD = """# Benchmarks

Made by `python -m lpsnet.engine.bench.page benchmarks/results docs/benchmarks.md` from the files that `lpsnet-bench`
wrote; edit those, not this.

All networks of a table ran in one process, in turns (forwards, backwards, then with another one first), over the same
JPEG files, from reading the file to the panoptic map on the host. *Processor* is the time of the processor, of all
threads, in the same rounds: other work on the machine changes it little. *Peak* is the most resident memory of a
process that runs this network alone, *above start* that without what the process has before its first image (Python,
libraries, weights); without an accelerator all of it is host memory. *GMAC* are 1e9 multiply-accumulates for one image.
UPSNet and Panoptic FPN are written here, from their papers, with the backbone, feature pyramid, norms and operators of
the LPSNet beside them, so only the designs differ. Random weights do not change the work: every network gets its full
number of boxes. How to look into a network's time is said in [profiling.md](profiling.md).

```sh
pip install 'lpsnet[bench]'
lpsnet-bench --output out/bench  # the model that comes with the package, and a photograph
lpsnet-bench --output out/bench photos/ --models lpsnet_lite0_camvid my.safetensors my.onnx --rounds 50
lpsnet-bench --output out/bench --models lpsnet_r50_coco_800 --against upsnet panoptic_fpn mask2former_r50 \\
    --sizes 800 882 964 1024x2048 --precisions fp32 bf16 --batches 1
```

A row is reproduced by the command of its section. `OMP_WAIT_POLICY=PASSIVE` keeps threads that wait from taking a
processor from those that work: without it, torch, ONNX Runtime and the rest of the machine disturb each other.
"""
_TABLE_1 = (
    "In the form of the paper's Table 1. The columns *paper* are the paper's own numbers, on its GPU; it says neither "
    "how memory nor how FLOPS were counted:"
)


@dataclass(frozen=True)
class Arguments:
    """Writes the page of a folder of results, and draws its pictures.

    Attributes:
        results: folder with bench_*.json; what bench_*.md of the same name says stands at the end of its section.
        page: the file; pictures go to `images` beside it.
    """

    results: tyro.conf.Positional[Path]
    page: tyro.conf.Positional[Path]


def main(args: Sequence[str] | None = None) -> None:
    """The entry point: exits with 1 and one line where something is missing."""
    arguments = tyro.cli(Arguments, args=args)
    try:
        found = results_in(arguments.results)
        remarks = remarks_in(arguments.results, found)
        pictures = draw_pictures(found, arguments.page.parent / "images")
        atomic.write_bytes(arguments.page, page(found, pictures, remarks).encode())
    except (ValueError, OSError, ImportError) as error:
        Console(stderr=True, soft_wrap=True).print(f"page: {error}", style="red", markup=False)
        sys.exit(1)


def results_in(folder: Path) -> dict[str, Results]:
    """The results by the stem of their files, in its order.

    Raises:
        ValueError: there are none, or one cannot be read.
    """
    found = {path.stem: read_results(path) for path in sorted(folder.glob(PATTERN))}
    if not found:
        raise ValueError(f"results: expected {PATTERN} in {folder}, got none")
    return found


def remarks_in(folder: Path, stems: Iterable[str]) -> dict[str, str]:
    """The remarks on results, by their stems; most have none."""
    files = {stem: folder / f"{stem}.md" for stem in stems}
    return {stem: path.read_text(encoding="utf-8") for stem, path in files.items() if path.is_file()}


def draw_pictures(found: Mapping[str, Results], folder: Path) -> dict[str, list[str]]:
    """Draws the pictures of each result as STEM_PICTURE.png; returns their names.

    Raises:
        ModuleNotFoundError: matplotlib is missing.
    """
    return {stem: [p.name for p in write_plots(folder, results, f"{stem}_")] for stem, results in found.items()}


def page(found: Mapping[str, Results], pictures: Mapping[str, Sequence[str]], remarks: Mapping[str, str]) -> str:
    """The text.

    Args:
        found: results by name.
        pictures: names of files in images/, by the results' names.
        remarks: on results, by their names.
    """
    blocks = [_HEAD]
    for stem, results in found.items():
        blocks += _section(stem, results)
        blocks += [remarks[stem]] if stem in remarks else []
        blocks += [f"![{_words(name)}](images/{name})" for name in pictures.get(stem, [])]
    return "\n".join(block.rstrip("\n") + "\n" for block in blocks)


def table_1(found: Iterable[Results]) -> str:
    """Ours in the form of the paper's Table 1, the paper's own numbers beside it and labelled so."""
    cases = [case for results in found for case in results.cases]
    lines = []
    for label, size, ms, gigabytes, flops in PAPER:
        matches = [s for case in cases if case.size == size for s in case.subjects if _is_row(s, label)]
        ours = [
            f"{s.measured.times.median:.0f} | {s.memory.peak_mb / 1e3:.2f} | {(s.macs or 0) / 1e9:.0f}"
            if s.measured and s.memory
            else "- | - | -"
            for s in matches[:1]
        ] or ["- | - | -"]
        lines.append(f"{label} ({size}) | {ours[0]} | {ms:.0f} | {gigabytes} | {flops:.0f}")
    heads = "network (short side) | here: ms | peak memory, GB | GMAC | paper: ms | memory, G | FLOPS, G"
    return _table(heads.split(" | "), [line.split(" | ") for line in lines])


def _is_row(s: SubjectResult, label: str) -> bool:
    return s.measured is not None and (s.name == "upsnet" if label == "UPSNet" else s.name.startswith("lpsnet_r50"))


def _words(name: str) -> str:
    return name.removesuffix(".png").replace("_", " ")


def _has_table_1(results: Results) -> bool:
    sizes = {size for _, size, *_ in PAPER}
    return any(s.name == "upsnet" for case in results.cases if case.size in sizes for s in case.subjects)


def _section(stem: str, results: Results) -> Iterator[str]:
    yield f"## {results.title or stem}"
    yield _machine(results.machine, results)
    yield f"```sh\n{' '.join((*results.machine.environment, results.command))}\n```"
    for case in results.cases:
        yield from _case(case)
    if _has_table_1(results):
        yield _TABLE_1
        yield table_1([results])
    if results.scaling:
        yield from _scaling(results.scaling)
    if found := verdicts(results):
        yield _verdicts(found)
    for missing in results.absent:
        yield f"Absent: {missing.name} ({missing.reason})."


def _machine(machine: Machine, results: Results) -> str:
    limit = f", {machine.limit:g} of them allowed" if machine.limit else ""
    words = [f"{machine.processor}, {machine.cores} cores{limit}, {machine.memory_gb:g} GB; {machine.system}"]
    words += [*machine.gpus, ", ".join(machine.versions), f"energy: {machine.energy}"]
    runs = f"{results.rounds} rounds after {results.warmup} of warm-up, {results.threads or 'the default'} threads"
    text = f"{'; '.join(words)}. {results.date}, {runs}; images: {', '.join(results.images[:3])}"
    return text + (f" and {len(results.images) - 3} more" if len(results.images) > 3 else "") + f". {results.note}"


def _case(case: Case) -> Iterator[str]:
    image = f", images of {by(case.image)}" if case.image else ""
    yield f"### Size {case.size}{image}, batch {case.batch}, {case.precision}"
    failed = ("failed", *[""] * (len(COLUMNS) - 1))
    yield _table(("network", *COLUMNS), [(s.name, *(row(s) if s.measured else failed)) for s in case.subjects])
    for s in case.subjects:
        about = [f"`{s.name}`: {s.runs_on}", f"weights {s.weights}" if s.weights else "", s.postprocess]
        about += [f"input {by(s.input)}" if s.input else "", f"failed: {s.failed}" if s.failed else ""]
        yield "* " + "; ".join(word for word in about if word)
    measured = [s for s in case.subjects if s.measured and s.measured.stages]
    if measured:
        yield "Stages, milliseconds of the processor (all threads) and, in parentheses, peak MB of the process:"
        yield _stages(measured)
    if case.warnings:
        yield "Warnings: " + "; ".join(case.warnings) + "."


def _stages(subjects: Sequence[SubjectResult]) -> str:
    names = list(dict.fromkeys(x.name for s in subjects if s.measured for x in s.measured.stages))
    rows = []
    for name in names:
        cells = []
        for s in subjects:
            stages = {x.name: x for x in s.measured.stages} if s.measured else {}
            peaks = {m.name: m.host_mb for m in s.memory.stages} if s.memory else {}
            peak = f" ({peaks[name]:.0f})" if name in peaks else ""
            cells.append(f"{stages[name].processor_ms:.1f}{peak}" if name in stages else "")
        rows.append([name, *cells])
    return _table(["stage", *(s.name for s in subjects)], rows)


def _scaling(series: Sequence[Series]) -> Iterator[str]:
    yield "### Cost against size, boxes and classes"
    yield "Milliseconds of the processor ~ value ** exponent, by least squares over the logarithms; 1 is linear."
    rows = []
    for s in series:
        points = ", ".join(f"{v:.4g}: {ms:.3g}" for v, ms in zip(s.values, s.ms, strict=True))
        rows.append([s.what, s.against, s.fixed, points, f"{s.exponent:.2f}", f"{s.r2:.2f}"])
    yield _table(("what", "against", "at", "milliseconds", "exponent", "R2"), rows)


def _verdicts(found: Sequence[Verdict]) -> str:
    rows = []
    for v in found:
        number = f"{v.found:.4f}" if v.found < 0.1 else f"{v.found:.2f}"
        rows.append([v.what, f"{v.bound} {v.wanted:g}", number, "reached" if v.reached else "**missed**"])
    return _table(("goal", "wanted", "found", ""), rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
