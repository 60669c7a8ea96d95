"""``lpsnet-bench``: networks side by side, from an image file to the panoptic map, on this machine."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from lpsnet import atomic

from .case_images import source_images
from .machine import machine_card
from .plots import expect_matplotlib, write_plots
from .results import Results, Series, write_results
from .runner import Job, Say, check_names, run_cases
from .table import case_table, csv_text, scaling_table


@dataclass(frozen=True)
class Arguments:
    """Times networks side by side, from an image file to the panoptic map on the host, with their memory and cost.

    Writes bench.json, bench.csv and pictures. All networks of a case run in turns over the same files; each one's peak
    memory is that of a process of its own.

    Attributes:
        output: folder for the results.
        images: files, folders, globs; the photograph that comes with the package where none are given.
        job: what is measured.
        scaling: also fit how the time grows with the size of the image, the boxes and the classes, up to an image of
            this HEIGHTxWIDTH.
        scaling_rounds: that are timed for it.
        plots: draw the pictures; that needs matplotlib (lpsnet[bench]).
        title: of the results, on the page that is made of them.
        note: on the circumstances, kept with the results.
    """

    output: Path
    images: tyro.conf.Positional[tuple[str, ...]] = ()
    job: Annotated[Job, tyro.conf.arg(name="")] = field(default_factory=Job)
    scaling: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="H W")] = None
    scaling_rounds: int = 5
    plots: bool = True
    title: str = ""
    note: str = ""


def main(args: Sequence[str] | None = None) -> None:
    """The entry point. Exits with 1 where a network failed, after measuring the others; 2 for a bad usage."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        arguments = tyro.cli(Arguments, args=args)
    except ValueError as error:  # of a setting out of its range
        errors.print(f"lpsnet-bench: {error}", style="red", markup=False)
        sys.exit(2)
    command = shlex.join(["lpsnet-bench", *(sys.argv[1:] if args is None else args)])
    try:
        complete = run(arguments, command, Console(), errors)
    except (ValueError, OSError, ImportError) as error:
        errors.print(f"lpsnet-bench: {error}", style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("lpsnet-bench: stopped; the cases that were finished are written")
        sys.exit(130)
    sys.exit(0 if complete else 1)


def run(arguments: Arguments, command: str, console: Console, errors: Console) -> bool:
    """Measures, prints and writes; False where a network failed.

    Raises:
        ValueError: a name, a file or a size that means nothing.
        ModuleNotFoundError: matplotlib is missing.
        OSError: the output cannot be written.
    """
    if arguments.plots:
        expect_matplotlib()
    names, absent = check_names(arguments.job)
    sources = source_images(arguments.images)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for missing in absent:
        errors.print(f"absent: {missing.name}: {missing.reason}", markup=False)
    results = Results(
        command,
        datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        arguments.note,
        machine_card(),
        arguments.job.threads,
        arguments.job.rounds,
        arguments.job.warmup,
        tuple(path.name for path in sources),
        absent=absent,
        title=arguments.title,
    )

    def say(line: str) -> None:
        errors.print(line, style="dim", markup=False)

    for case in run_cases(arguments.job, names, sources, say):
        results = replace(results, cases=(*results.cases, case))
        _write(arguments.output, results)  # whatever comes, this case is kept
        console.print(case_table(case))
        for line in case.warnings:
            errors.print(f"warning: {line}", style="yellow", markup=False)
    if arguments.scaling is not None:
        results = replace(results, scaling=_scaling(arguments, arguments.scaling, say))
        _write(arguments.output, results)
        console.print(scaling_table(results.scaling))
    if arguments.plots:
        write_plots(arguments.output, results)
    console.print(f"results in [bold]{arguments.output}[/]")
    return not any(s.failed or s.memory_failed for case in results.cases for s in case.subjects)


def _write(folder: Path, results: Results) -> None:
    write_results(folder / "bench.json", results)
    atomic.write_bytes(folder / "bench.csv", csv_text(results).encode())


def _scaling(arguments: Arguments, full: tuple[int, int], say: Say) -> tuple[Series, ...]:
    from .scaling import scaling
    from .subjects import recipe_of

    say("cost against size, boxes and classes")
    job = arguments.job
    return scaling(recipe_of(job.models[0]), full, arguments.scaling_rounds, job.threads)


if __name__ == "__main__":
    main()
