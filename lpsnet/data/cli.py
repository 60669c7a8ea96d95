"""``lpsnet-data``: looks after data sets. So far there is ``lpsnet-data check``."""

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from lpsnet import atomic
from lpsnet.categories import Category
from lpsnet.data.build import LAYOUTS, build_dataset, guess_name, present_splits
from lpsnet.data.check import SplitReport, check_split
from lpsnet.data.classes import difference
from lpsnet.data.custom import is_description, read_description

_MOST_WORKERS = 8
_MOST_NAMES = 5


@dataclass(frozen=True)
class Check:
    """Reads every file of a data set, counts what there is of each class and lists every fault.

    The exit code is 1 where there are faults.

    Attributes:
        path: folder of the data set in its official layout, or the YAML file of one of your own.
        dataset: camvid, cityscapes, coco or mapillary; where it is not given the layout tells.
        split: parts of the data set; by default all that are there.
        workers: processes that read; 0 reads in the command's own.
        json: a file for the report.
    """

    path: tyro.conf.Positional[Path]
    dataset: str | None = None
    split: tuple[str, ...] = ()
    workers: int = min(_MOST_WORKERS, os.cpu_count() or 1)
    json: Path | None = None


def main(args: Sequence[str] | None = None) -> None:
    """The entry point: exits with 1 where a data set has faults, or, in one line, what the user asked for is wrong."""
    arguments = tyro.extras.subcommand_cli_from_dict({"check": Check}, args=args)
    try:
        faults = run(arguments)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        Console(stderr=True, soft_wrap=True).print(f"lpsnet-data: {error}", style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    if faults:
        sys.exit(1)


def run(arguments: Check) -> int:
    """Checks as the arguments say, prints the report of each split and returns the number of faults."""
    if arguments.workers < 0:
        raise ValueError(f"workers: expected at least 0, got {arguments.workers}")
    name, splits = _name_and_splits(arguments)
    console = Console(soft_wrap=True)
    reports: dict[str, SplitReport] = {}
    first: tuple[Category, ...] = ()
    for split in splits:
        reports[split], classes = _check(name, arguments, split)
        other = difference(first, classes) if first and classes else ""
        if other:
            reports[split].faults.append(f"{arguments.path}: expected the same classes in every split, {other}")
        first = first or classes
        _show(console, name, split, reports[split], classes)
    faults = sum(len(report.faults) for report in reports.values())
    if arguments.json is not None:
        document = {
            "dataset": name,
            "path": str(arguments.path),
            "faults": faults,
            "splits": {split: dataclasses.asdict(report) for split, report in reports.items()},
        }
        atomic.write_bytes(arguments.json, (json.dumps(document, indent=2) + "\n").encode())
    console.print(f"{name}: {faults or 'no'} fault{'s' * (faults != 1)} in {', '.join(splits)}", highlight=False)
    return faults


def _name_and_splits(arguments: Check) -> tuple[str, tuple[str, ...]]:
    if is_description(arguments.path):
        description = read_description(arguments.path)
        return description.name, arguments.split or tuple(description.splits)
    name = arguments.dataset or guess_name(arguments.path)
    if name not in LAYOUTS:
        raise ValueError(f"dataset: expected one of {list(LAYOUTS)}, got {name!r}")
    splits = arguments.split or tuple(present_splits(name, arguments.path))
    if not splits:
        raise ValueError(f"{arguments.path}: expected a split of {name} of {list(LAYOUTS[name].splits)}, got none")
    return name, splits


def _check(name: str, arguments: Check, split: str) -> tuple[SplitReport, tuple[Category, ...]]:
    report = SplitReport()
    try:
        dataset = build_dataset(
            name, arguments.path, split, need_labels=False, on_fault=lambda fault: report.faults.append(str(fault))
        )
    except (ValueError, OSError) as error:
        report.faults.append(str(error))
        return report, ()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{name} {split}", total=len(dataset))
        check_split(dataset, report, arguments.workers, lambda done: progress.update(task, completed=done))
    return report, dataset.categories


def _show(console: Console, name: str, split: str, report: SplitReport, classes: Sequence[Category]) -> None:
    title = f"{name} {split}: {report.images} images"
    if report.labelled and report.pixels:
        table = Table(
            title=title, caption=f"void {report.void_share:.2%}, crowds {report.crowd_share:.2%} of the pixels"
        )
        for column in ("class", "kind", "images", "segments", "crowds", "pixels", "share"):
            table.add_column(column, justify="left" if column in ("class", "kind") else "right")
        for category in classes:
            c = report.classes[category.name]
            numbers = [f"{n:,}" for n in (c.images, c.segments, c.crowds, c.pixels)]
            share = f"{c.pixels / report.pixels:.2%}"
            kind = "thing" if category.isthing else "stuff"
            table.add_row(category.name, kind, *numbers, share, style=None if c.images else "dim")
        console.print(table)
    else:
        console.print(title + ("" if report.labelled else ", without ground truth"), highlight=False)
    for names, what in ((report.skipped, "have no annotation and are skipped"), (report.empty, "are void everywhere")):
        if names and report.labelled:
            some = ", ".join(names[:_MOST_NAMES]) + (", ..." if len(names) > _MOST_NAMES else "")
            console.print(f"{len(names)} images {what}: {some}", markup=False, highlight=False)
    for fault in report.faults:
        console.print(f"fault: {fault}", style="red", markup=False, highlight=False)


if __name__ == "__main__":
    main()
