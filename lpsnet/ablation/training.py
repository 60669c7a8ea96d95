"""One training of an ablation: in this process, or in several that torchrun starts."""

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from lpsnet import atomic
from lpsnet.config import Recipe
from lpsnet.data.build import build_dataset
from lpsnet.data.classes import expect_classes
from lpsnet.data.sample import Dataset, Subset
from lpsnet.fields import from_dict
from lpsnet.models.lpsnet import LPSNet
from lpsnet.training import distributed
from lpsnet.training.interrupt import Interrupts, TrainingInterrupted
from lpsnet.training.loop import CHECKPOINT_NAME, LOG_NAME, train
from lpsnet.training.state import has_state

ORDER_NAME = "training.json"
_SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True)
class Order:
    """What to train, as plain data that can be handed to other processes.

    Attributes:
        recipe: of the model.
        data: folder or YAML file of the data set; None for the synthetic one.
        limit: train on the first so many samples only; None takes all.
        device: cpu or cuda.
        pretrained: start from the ImageNet weights of the backbone.
        backbone_weights: the file that has them; None takes that of the installed package.
    """

    recipe: Recipe
    data: str | None
    limit: int | None
    device: str
    pretrained: bool
    backbone_weights: str | None


def samples(recipe: Recipe, data: str | Path | None, split: str, limit: int | None) -> Dataset:
    """A split of a recipe's data set, or the first `limit` samples of it."""
    dataset = build_dataset(recipe.dataset, None if data is None else Path(data), split)
    expect_classes(recipe, dataset)
    return dataset if limit is None else Subset(dataset, range(min(limit, len(dataset))))


def train_here(
    order: Order, folder: Path, on_step: Callable[[int], None], ranks: distributed.Ranks | None = None
) -> LPSNet:
    """Trains in this process, one of `ranks` where those are given; goes on with what there is in the folder.

    Returns:
        The model, in evaluation mode.

    Raises:
        TrainingDiverged, DataError, TrainingInterrupted, ValueError, OSError: see `train`.
    """
    ranks = ranks or distributed.Ranks(device=torch.device(order.device))
    dataset = samples(order.recipe, order.data, "train", order.limit)
    goes_on = ranks.from_main(has_state(folder))
    torch.manual_seed(order.recipe.train.seed)
    model = LPSNet(order.recipe)
    if order.pretrained and not goes_on:
        model.load_pretrained_backbone(order.backbone_weights)
    return train(model, dataset, folder, ranks=ranks, resume=goes_on, on_step=lambda report: on_step(report.step))


def train_in_processes(order: Order, folder: Path, processes: int, on_step: Callable[[int], None]) -> LPSNet:
    """Like `train_here`, in so many processes of this machine, each with its own GPU where the device is cuda.

    Raises:
        RuntimeError: a process failed; what it said is on standard error.
        TrainingInterrupted: after a signal.
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(folder / ORDER_NAME, json.dumps(dataclasses.asdict(order), indent=2).encode())
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [*torchrun, "-m", "lpsnet.ablation.training", str(folder)]
    # In a group of their own, so that Ctrl-C reaches this process alone, which then asks them to save and stop.
    with Interrupts() as interrupts, subprocess.Popen(command, start_new_session=True) as running:
        while running.poll() is None:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            on_step(_last_step(folder / LOG_NAME))
            if interrupts.received is not None:
                running.terminate()
                running.wait()
                raise TrainingInterrupted(interrupts.received)
    if running.returncode != 0:
        raise RuntimeError(f"a process of the training in {folder} failed")
    return LPSNet.from_pretrained(folder / CHECKPOINT_NAME).to(order.device)


def main() -> None:
    """What each of those processes runs; its argument is the folder."""
    folder = Path(sys.argv[1])
    order = from_dict(Order, json.loads((folder / ORDER_NAME).read_text(encoding="utf-8")))
    with distributed.join(order.device) as ranks:
        train_here(order, folder, lambda _: None, ranks)


def _last_step(log: Path) -> int:
    try:
        lines = log.read_bytes().rpartition(b"\n")[0].rsplit(b"\n", 1)
        return int(json.loads(lines[-1])["step"]) if lines[-1] else 0
    except FileNotFoundError:
        return 0


if __name__ == "__main__":
    main()
