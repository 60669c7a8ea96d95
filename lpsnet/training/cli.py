"""``lpsnet-train``: trains a recipe; every field of it can be given on the command line."""

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from lpsnet.config import RECIPES, Recipe

if TYPE_CHECKING:
    from lpsnet.models.lpsnet import LPSNet

    RecipeChoice = Recipe
else:
    RecipeChoice = Annotated[
        tyro.extras.subcommand_type_from_defaults(RECIPES, prefix_names=False), tyro.conf.arg(name="")
    ]


@dataclass(frozen=True)
class Arguments:
    """Trains LPSNet; with several processes where torchrun starts it, as `torchrun ... -m lpsnet.training.cli`.

    Attributes:
        recipe: what to train; its fields follow its name, as in `--train.iterations 100`.
        output: folder for checkpoints and logs.
        data: folder of the data set, or the YAML file of one of your own; not needed for the synthetic one.
        split: part of the data set to train on.
        limit: train on the first so many samples only.
        device: cpu or cuda.
        threads: of torch on the CPU; 0 leaves its choice.
        pretrained: start from the ImageNet weights of the backbone, unless `init` brings all of a backbone's.
        backbone_weights: the file that has them; needed for a ResNet, in torchvision's form, and otherwise found in its
            package.
        init: a checkpoint, by its file or its packaged name, whose tensors of matching keys and shapes the run starts
            from; those not taken are listed.
        resume: go on where the run in `output` stopped.
        auto_resume: go on where there is a run in `output`, start where there is none. What torchrun restarts after a
            failure does so anyway.
        overwrite: give up a run that is in `output`.
    """

    recipe: RecipeChoice
    output: Path
    data: Path | None = None
    split: str = "train"
    limit: int | None = None
    device: str = "cpu"
    threads: int = 0
    pretrained: bool = True
    backbone_weights: Path | None = None
    init: str | None = None
    resume: bool = False
    auto_resume: bool = False
    overwrite: bool = False


def main(args: Sequence[str] | None = None) -> None:
    """The entry point: exits with 1 and one line where the user can mend what is wrong, with 130 after a signal."""
    arguments = tyro.cli(Arguments, args=args)
    from lpsnet.training.divergence import TrainingDiverged
    from lpsnet.training.interrupt import TrainingInterrupted

    console = Console(stderr=True, soft_wrap=True)

    def say(message: object, style: str | None = None) -> None:
        console.print(f"lpsnet-train: {message}", style=style, markup=False, highlight=False)

    try:
        run(arguments, console)
    except (TrainingInterrupted, TrainingDiverged) as stop:  # of all processes alike: one line is enough
        stopped = isinstance(stop, TrainingInterrupted)
        if os.environ.get("RANK", "0") == "0":
            say(f"stopped by {stop}; go on with --resume --output {arguments.output}" if stopped else stop)
        sys.exit(130 if stopped else 1)
    except KeyboardInterrupt:
        say(f"stopped; what was saved is in {arguments.output}")
        sys.exit(130)
    except (ValueError, OSError, RuntimeError) as error:
        say(error, "red")
        sys.exit(1)


def run(arguments: Arguments, console: Console) -> None:
    """Trains as the arguments say; the main process shows how it goes."""
    import torch

    from lpsnet.data.build import build_dataset
    from lpsnet.data.classes import recipe_for
    from lpsnet.data.sample import Dataset, Subset
    from lpsnet.models.lpsnet import LPSNet
    from lpsnet.training import distributed
    from lpsnet.training.loop import train
    from lpsnet.training.progress import Display
    from lpsnet.training.state import has_state

    recipe: Recipe = arguments.recipe
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    labelled = build_dataset(recipe.dataset, arguments.data, arguments.split)
    recipe = recipe_for(recipe, arguments.data, labelled)
    dataset: Dataset = labelled
    if arguments.limit is not None:
        dataset = Subset(dataset, range(min(arguments.limit, len(dataset))))
    with distributed.join(arguments.device) as ranks:
        auto = arguments.auto_resume or bool(ranks.gather(float(distributed.was_restarted())).any())
        goes_on = arguments.resume or (auto and ranks.from_main(has_state(arguments.output)))
        torch.manual_seed(recipe.train.seed)
        model = LPSNet(recipe)
        if not goes_on:
            _initialize(model, arguments, console if ranks.is_main else None)
        with Display(recipe, arguments.output) if ranks.is_main else nullcontext(lambda _: None) as show:
            overwrite = arguments.overwrite
            train(model, dataset, arguments.output, ranks=ranks, resume=goes_on, overwrite=overwrite, on_step=show)


def _initialize(model: "LPSNet", arguments: Arguments, console: Console | None) -> None:
    from lpsnet.checkpoint import load_checkpoint
    from lpsnet.packaged import packaged_file
    from lpsnet.training.initial import load_matching

    state = load_checkpoint(packaged_file(arguments.init))[1] if arguments.init is not None else {}
    own = model.state_dict()
    covered = all(k in state and state[k].shape == v.shape for k, v in own.items() if k.startswith("backbone."))
    if arguments.pretrained and not covered:
        model.load_pretrained_backbone(arguments.backbone_weights)
    if arguments.init is not None:
        transfer = load_matching(model, state)
        if console is not None:
            console.print(f"{arguments.init}: {transfer}", markup=False, highlight=False)


if __name__ == "__main__":
    main()
