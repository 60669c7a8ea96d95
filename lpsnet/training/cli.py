"""``lpsnet-train``: trains a recipe; every field of it can be given on the command line."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lpsnet.config import RECIPES, Recipe

if TYPE_CHECKING:
    RecipeChoice = Recipe
else:
    RecipeChoice = Annotated[
        tyro.extras.subcommand_type_from_defaults(RECIPES, prefix_names=False), tyro.conf.arg(name="")
    ]


@dataclass(frozen=True)
class Arguments:
    """Trains LPSNet.

    Attributes:
        recipe: what to train; its fields follow its name, as in `--train.iterations 100`.
        output: folder for checkpoints and logs.
        data: folder of the data set, or the YAML file of one of your own; not needed for the synthetic one.
        split: part of the data set to train on.
        limit: train on the first so many samples only.
        device: cpu or cuda.
        threads: of torch on the CPU; 0 leaves its choice.
        pretrained: start from the ImageNet weights of the backbone.
        resume: go on where the run in `output` stopped.
    """

    recipe: RecipeChoice
    output: Path
    data: Path | None = None
    split: str = "train"
    limit: int | None = None
    device: str = "cpu"
    threads: int = 0
    pretrained: bool = True
    resume: bool = False


def main(args: Sequence[str] | None = None) -> None:
    """The entry point: exits with 1 and one line where the user can mend what is wrong."""
    arguments = tyro.cli(Arguments, args=args)
    console = Console(stderr=True, soft_wrap=True)
    try:
        run(arguments)
    except (ValueError, OSError, RuntimeError) as error:
        console.print(f"lpsnet-train: {error}", style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print(f"lpsnet-train: stopped; the last checkpoint is in {arguments.output}", markup=False)
        sys.exit(130)


def run(arguments: Arguments) -> None:
    """Trains as the arguments say, with a progress bar and TensorBoard curves."""
    import torch
    from torch.utils.tensorboard import SummaryWriter

    from lpsnet.data.build import build_dataset
    from lpsnet.data.classes import recipe_for
    from lpsnet.data.sample import Dataset, Subset
    from lpsnet.models.lpsnet import LPSNet
    from lpsnet.training.loop import StepReport, train

    recipe: Recipe = arguments.recipe
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    labelled = build_dataset(recipe.dataset, arguments.data, arguments.split)
    recipe = recipe_for(recipe, arguments.data, labelled)
    dataset: Dataset = labelled
    if arguments.limit is not None:
        dataset = Subset(dataset, range(min(arguments.limit, len(dataset))))
    torch.manual_seed(recipe.train.seed)
    model = LPSNet(recipe)
    if arguments.pretrained and not arguments.resume:
        model.load_pretrained_backbone()

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    with Progress(*columns) as progress, SummaryWriter(str(arguments.output)) as curves:
        task = progress.add_task(recipe.name, total=recipe.train.iterations, numbers="")

        def show(report: StepReport) -> None:
            numbers = " ".join(f"{name} {value:.3f}" for name, value in report.losses.items())
            images_per_second = recipe.train.batch_size / report.seconds
            numbers += f"  {images_per_second:.1f} images/s, {report.waited / report.seconds:.0%} waiting"
            progress.update(task, completed=report.step, numbers=numbers)
            if report.step % recipe.train.log_every == 0:
                for name, value in report.losses.items():
                    curves.add_scalar(f"loss/{name}", value, report.step)
                curves.add_scalar("learning_rate", report.learning_rate, report.step)
                if not progress.console.is_terminal:
                    print(f"step {report.step}: {numbers}", flush=True)

        train(model, dataset, arguments.output, device=arguments.device, resume=arguments.resume, on_step=show)


if __name__ == "__main__":
    main()
