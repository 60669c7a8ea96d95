"""``lpsnet-ablation``: trains and scores the rows of a named ablation and prints the paper's table beside ours."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from lpsnet import atomic
from lpsnet.ablation.catalogue import ABLATIONS, METRICS, PAPER_RECIPE, Ablation, Row, get_ablation
from lpsnet.ablation.plan import plan
from lpsnet.ablation.results import Result
from lpsnet.ablation.table import cells, markdown, print_table
from lpsnet.config import Recipe, get_recipe
from lpsnet.data.build import build_dataset
from lpsnet.data.classes import recipe_for
from lpsnet.data.custom import is_description
from lpsnet.fields import parsed, replaced

_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
)


@dataclass(frozen=True)
class Arguments:
    """Trains every row of an ablation with every seed, scores it, and prints the paper's table beside ours.

    What is done stays done: the same command goes on where it was stopped, also in the middle of a training. Ablations
    of the same recipe and settings share trainings in the same output folder.

    Attributes:
        name: of the ablation; `--list` shows them.
        output: folder for the runs and for the table, `<name>.md`.
        list: show the ablations and stop.
        data: folder of the data set, or the YAML file of one of your own; not needed for the synthetic one.
        recipe: what is trained, by its name as `lpsnet-train` lists them.
        seeds: each row is trained once with each.
        settings: fields of the recipe for all rows, as in `--set train.iterations=300 train.batch_size=4`.
        splits: parts of the data set to score on; the paper's tables are of val.
        limit: score the first so many samples only.
        train_limit: train on the first so many samples only.
        device: cpu or cuda.
        processes: that train one model together on this machine, each with its own GPU where the device is cuda.
        threads: of torch and liblpsnet on the CPU; 0 leaves their choice.
        pretrained: start from the ImageNet weights of the backbone.
        backbone_weights: their file; needed for a ResNet, in torchvision's form, and otherwise found in its package.
    """

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = None
    output: Path | None = None
    list: bool = False
    data: Path | None = None
    recipe: str = PAPER_RECIPE
    seeds: tuple[int, ...] = (0,)
    settings: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.arg(name="set", metavar="NAME=VALUE ..."), tyro.conf.UseAppendAction
    ] = ()
    splits: tuple[str, ...] = ("val",)
    limit: int | None = None
    train_limit: int | None = None
    device: str = "cpu"
    processes: int = 1
    threads: int = 0
    pretrained: bool = True
    backbone_weights: Path | None = None


def main(args: Sequence[str] | None = None) -> None:
    """The entry point: exits with 1 and one line where the user can mend what is wrong, or where a run failed."""
    arguments = tyro.cli(Arguments, args=args)
    from lpsnet.training.interrupt import TrainingInterrupted

    console = Console(stderr=True, soft_wrap=True)
    try:
        if arguments.list:
            Console().print(catalogue())
        elif not run(arguments, console):
            sys.exit(1)
    except (ValueError, OSError, ImportError) as error:
        console.print(f"lpsnet-ablation: {error}", style="red", markup=False)
        sys.exit(1)
    except (KeyboardInterrupt, TrainingInterrupted):
        console.print("lpsnet-ablation: stopped; the same command goes on from here", markup=False)
        sys.exit(130)


def catalogue() -> Table:
    """The named ablations."""
    base = get_recipe(PAPER_RECIPE)
    table = Table("name", "compares", "rows", "in the paper")
    for name, ablation in ABLATIONS.items():
        table.add_row(name, ablation.title, "\n".join(row.label for row in ablation.rows(base)), ablation.source)
    return table


def base_recipe(name: str, settings: Sequence[Sequence[str]], data: Path | None = None) -> Recipe:
    """The recipe with the fields that `--set` gives, and with the classes of `data` where that is a YAML file.

    Raises:
        ValueError: no such recipe or field, a value of another type, or a seed, which `--seeds` gives.
    """
    recipe = get_recipe(name)
    values = parsed(recipe, [setting for group in settings for setting in group])
    if "train.seed" in values:
        raise ValueError("settings: expected the seed in --seeds, got train.seed")
    recipe = replaced(recipe, values)
    if data is not None and is_description(data):
        recipe = recipe_for(recipe, data, build_dataset(recipe.dataset, data, "train"))
    return recipe


def run(arguments: Arguments, console: Console) -> bool:
    """Runs what is not done yet, then prints the tables and writes them. False where a run failed.

    Raises:
        ValueError: arguments that do not fit, or an output folder of other settings.
        OSError: files that cannot be read or written.
    """
    if arguments.name is None or arguments.output is None:
        raise ValueError("expected the name of an ablation and --output FOLDER; --list shows the names")
    if arguments.backbone_weights is not None and not arguments.pretrained:
        raise ValueError("backbone-weights: expected them with --pretrained only, got --no-pretrained")
    if arguments.processes < 1:
        raise ValueError(f"processes: expected at least 1, got {arguments.processes}")
    for name, values in (("seeds", arguments.seeds), ("splits", arguments.splits)):
        if not values or len(set(values)) != len(values):
            raise ValueError(f"{name}: expected at least one and each once, got {list(values)}")
    ablation = get_ablation(arguments.name)
    base = base_recipe(arguments.recipe, arguments.settings, arguments.data)
    rows = ablation.rows(base)
    runs = plan(base, rows, arguments.seeds, arguments.output)

    # What needs torch comes after the arguments were found to fit.
    import torch

    from lpsnet.ablation.execute import Runner
    from lpsnet.native.library import set_num_threads

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
        set_num_threads(arguments.threads)
    runner = Runner(
        arguments.data,
        arguments.train_limit,
        arguments.limit,
        arguments.device,
        arguments.processes,
        arguments.pretrained,
        arguments.backbone_weights,
    )
    for one in runs:  # what does not fit is found before hours of training, not after
        for split in arguments.splits:
            runner.done(one, split)
    results: dict[str, dict[str, list[Result]]] = {split: {row.label: [] for row in rows} for split in arguments.splits}
    complete = True
    with Progress(*_COLUMNS, console=console, transient=True) as progress:
        task = progress.add_task("")
        for number, one in enumerate(runs, 1):
            title = f"{number}/{len(runs)} {one.row.label}, seed {one.seed}"

            def show(doing: str, done: int, total: int, title: str = title) -> None:
                progress.update(task, description=f"{title}: {doing}", completed=done, total=total)

            try:
                for split in arguments.splits:
                    result = runner.result(one, split, show)
                    results[split][one.row.label].append(result)
                    numbers = ", ".join(f"{METRICS[key]} {value:.1f}" for key, value in result.metrics.items())
                    console.print(f"{title}: {numbers} on {split}", markup=False, highlight=False)
            except RuntimeError as error:  # diverged, out of memory: the other runs are still worth having
                complete = False
                console.print(f"lpsnet-ablation: {title} failed: {error}", style="red", markup=False)
    _report(arguments.name, ablation, base, rows, results, arguments.output)
    return complete


def _report(
    name: str,
    ablation: Ablation,
    base: Recipe,
    rows: Sequence[Row],
    results: Mapping[str, Mapping[str, Sequence[Result]]],
    output: Path,
) -> None:
    pages = []
    for split, by_label in results.items():
        images = max((r.images for runs in by_label.values() for r in runs), default=0)
        title = f"{name}: {ablation.title}"
        of = f"; its numbers are of {ablation.paper_data}" if any(row.paper for row in rows) else ""
        caption = (
            f"paper: {ablation.source}{of}. ours: {base.name} on {images} images of "
            f"{base.dataset} {split}, {base.train.iterations} steps of {base.train.batch_size} images; "
            "mean ± sample standard deviation over the seeds, in percent"
        )
        heads, body = cells(rows, by_label)
        print_table(title, caption, heads, body)
        pages.append(markdown(title, caption, heads, body))
    atomic.write_bytes(output / f"{name}.md", "\n".join(pages).encode())


if __name__ == "__main__":
    main()
