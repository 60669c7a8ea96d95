"""``lpsnet-eval``: scores a checkpoint on a data set."""

import math
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lpsnet.config import DEFAULT_MODEL, PostprocessConfig, Recipe
from lpsnet.overrides import NO_OVERRIDES, PostprocessOverrides, overridden

if TYPE_CHECKING:
    from lpsnet.evaluation.evaluate import Observer

_PROGRESS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
)


@dataclass(frozen=True)
class Arguments:
    """Scores a checkpoint: PQ of its panoptic maps, AP of its boxes and instances, mIoU of its semantic head.

    Attributes:
        data: folder of the data set, or the YAML file of one of your own; not needed for the synthetic one.
        split: part of the data set.
        model: a packaged model or the path of a checkpoint.
        limit: score the first so many samples only.
        scales: factors on the size of the network's input; of several, the views are merged.
        flip: take each scale mirrored as well.
        oracle: give the panoptic head the true label map (semantic) or the true boxes (boxes).
        json: a file for the scores.
        confusion: a PNG of what is taken for what.
        worst: how many of the worst images to keep, and a new folder for them.
        coco_submission: a new folder for what COCO's panoptic leaderboard takes.
        cityscapes_submission: a new folder for what Cityscapes' benchmark takes.
        zip: put the submissions into archives as well.
        device: cpu or cuda.
        overrides: settings of the post-processing; what is not given is the model's own.
    """

    data: Path | None = None
    split: str = "val"
    model: str = DEFAULT_MODEL
    limit: int | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    oracle: Literal["semantic", "boxes"] | None = None
    json: Path | None = None
    confusion: Path | None = None
    worst: tuple[int, Path] | None = None
    coco_submission: Path | None = None
    cityscapes_submission: Path | None = None
    zip: bool = False
    device: str = "cpu"
    overrides: Annotated[PostprocessOverrides, tyro.conf.arg(name="")] = NO_OVERRIDES


def main(args: Sequence[str] | None = None) -> None:
    """The entry point: exits with 1 and one line where the user can mend what is wrong."""
    arguments = tyro.cli(Arguments, args=args)
    try:
        run(arguments)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        Console(stderr=True, soft_wrap=True).print(f"lpsnet-eval: {error}", style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def run(arguments: Arguments) -> None:
    """Scores as the arguments say and prints the tables."""
    from lpsnet.data.build import build_dataset
    from lpsnet.data.classes import expect_classes
    from lpsnet.data.sample import Dataset, Subset
    from lpsnet.evaluation.confusion import Confusion
    from lpsnet.evaluation.evaluate import evaluate_samples, write_scores
    from lpsnet.evaluation.predictor import Predictor
    from lpsnet.evaluation.tables import detection_table, score_table
    from lpsnet.models.lpsnet import LPSNet

    if arguments.zip and not (arguments.coco_submission or arguments.cityscapes_submission):
        raise ValueError("zip: expected a submission to put into an archive, got none")
    for path in (arguments.json, arguments.confusion):  # now, not when all is scored
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(f"{path}: expected a file in a folder that exists")
    model = LPSNet.from_pretrained(arguments.model)
    recipe = model.recipe
    config = overridden(recipe.postprocess, arguments.overrides)
    predict = Predictor(model, arguments.device, config, arguments.scales, arguments.flip, arguments.oracle)
    submits = arguments.coco_submission is not None or arguments.cityscapes_submission is not None
    labelled = build_dataset(recipe.dataset, arguments.data, arguments.split, need_labels=not submits)
    expect_classes(recipe, labelled)
    dataset: Dataset = labelled
    if arguments.limit is not None:
        dataset = Subset(dataset, range(min(arguments.limit, len(dataset))))

    confusion = Confusion(recipe.categories) if arguments.confusion else None
    with ExitStack() as stack:
        observers = _observers(arguments, recipe, stack)
        if confusion is not None:
            observers.append(confusion)
        errors = Console(stderr=True)
        progress = Progress(*_PROGRESS, console=errors, transient=True, disable=not errors.is_terminal)
        stack.enter_context(progress)
        task = progress.add_task(f"{recipe.name} on {arguments.split}", total=len(dataset))
        scores = evaluate_samples(
            predict, dataset, recipe.categories, observers, lambda done: progress.update(task, completed=done)
        )
    extra: dict[str, Any] = {"settings": _settings(arguments, recipe, config)}
    if confusion is not None and arguments.confusion is not None:
        confusion.write(arguments.confusion)
        extra["confusion"] = confusion.to_dict()
    if arguments.json is not None:
        write_scores(arguments.json, scores, extra)
    if math.isnan(scores.panoptic.pq):
        Console().print("no score: the images have no truth")
        return
    title = f"{recipe.name} on {recipe.dataset} {arguments.split}, {scores.panoptic.images} images"
    Console().print(score_table(scores, title), detection_table(scores))


def _observers(arguments: Arguments, recipe: Recipe, stack: ExitStack) -> "list[Observer]":
    """What writes folders. They get their names when `stack` is left, and vanish where that is by an error."""
    from lpsnet.evaluation.submission import cityscapes_submission, coco_submission
    from lpsnet.evaluation.worst import worst_images

    observers: list[Observer] = []
    categories = recipe.categories
    if arguments.worst is not None:
        count, path = arguments.worst
        observers.append(stack.enter_context(worst_images(path, count, categories)))
    if arguments.coco_submission is not None:
        split = f"{arguments.split}2017" if recipe.dataset == "coco" else arguments.split
        folder = coco_submission(arguments.coco_submission, split, recipe.name, categories, arguments.zip)
        observers.append(stack.enter_context(folder))
    if arguments.cityscapes_submission is not None:
        city = cityscapes_submission(arguments.cityscapes_submission, arguments.split, categories, arguments.zip)
        observers.append(stack.enter_context(city))
    return observers


def _settings(arguments: Arguments, recipe: Recipe, config: PostprocessConfig) -> dict[str, Any]:
    """What the scores depend on."""
    return {
        "model": arguments.model,
        "recipe": recipe.name,
        "dataset": recipe.dataset,
        "split": arguments.split,
        "limit": arguments.limit,
        "scales": list(arguments.scales),
        "flip": arguments.flip,
        "oracle": arguments.oracle,
        "postprocess": asdict(config),
    }


if __name__ == "__main__":
    main()
