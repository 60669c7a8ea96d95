"""``lpsnet-eval``: scores a checkpoint on a data set."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from lpsnet.config import DEFAULT_MODEL
from lpsnet.overrides import NO_OVERRIDES, PostprocessOverrides, overridden
from lpsnet.structures import PanopticResult


@dataclass(frozen=True)
class Arguments:
    """Scores a checkpoint: PQ, SQ and RQ of its panoptic maps, mIoU of its semantic head.

    Attributes:
        data: folder of the data set, or the YAML file of one of your own; not needed for the synthetic one.
        split: part of the data set.
        model: a packaged model or the path of a checkpoint.
        limit: score the first so many samples only.
        json: a file for the scores.
        device: cpu or cuda.
        overrides: settings of the post-processing; what is not given is the model's own.
    """

    data: Path | None = None
    split: str = "val"
    model: str = DEFAULT_MODEL
    limit: int | None = None
    json: Path | None = None
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
    import torch

    from lpsnet.data.build import build_dataset
    from lpsnet.data.classes import expect_classes
    from lpsnet.data.sample import Dataset, Subset
    from lpsnet.evaluation.evaluate import evaluate, write_scores
    from lpsnet.inference import DenseArrays, postprocess, prepare, semantic_labels
    from lpsnet.models.lpsnet import LPSNet

    model = LPSNet.from_pretrained(arguments.model)
    model.to(arguments.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    recipe = model.recipe
    config = overridden(recipe.postprocess, arguments.overrides)
    labelled = build_dataset(recipe.dataset, arguments.data, arguments.split)
    expect_classes(recipe, labelled)
    dataset: Dataset = labelled
    if arguments.limit is not None:
        dataset = Subset(dataset, range(min(arguments.limit, len(dataset))))

    @torch.inference_mode()
    def predict(image: np.ndarray) -> tuple[PanopticResult, np.ndarray]:
        prepared = prepare(image, recipe.input)
        images = torch.from_numpy(prepared.images).to(arguments.device, memory_format=torch.channels_last)
        dense = DenseArrays.of(model(images, prepared.image_size))
        return postprocess(dense, prepared, recipe.categories, config), semantic_labels(dense, prepared)

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{recipe.name} on {arguments.split}", total=len(dataset))
        scores = evaluate(predict, dataset, recipe.categories, lambda done: progress.update(task, completed=done))
    if arguments.json is not None:
        write_scores(arguments.json, scores)

    table = Table(title=f"{recipe.name} on {recipe.dataset} {arguments.split}, {scores.panoptic.images} images")
    for name in ("class", "PQ", "SQ", "RQ", "IoU"):
        table.add_column(name, justify="left" if name == "class" else "right")
    p = scores.panoptic
    table.add_row("all", *_percent(p.pq, p.sq, p.rq, scores.semantic.miou), style="bold")
    table.add_row("things", *_percent(p.pq_thing, p.sq_thing, p.rq_thing))
    table.add_row("stuff", *_percent(p.pq_stuff, p.sq_stuff, p.rq_stuff), end_section=True)
    for name, quality in p.per_class.items():
        table.add_row(name, *_percent(quality.pq, quality.sq, quality.rq, scores.semantic.per_class[name]))
    Console().print(table)


def _percent(*values: float) -> list[str]:
    return ["-" if math.isnan(v) else f"{v:.1f}" for v in values]


if __name__ == "__main__":
    main()
