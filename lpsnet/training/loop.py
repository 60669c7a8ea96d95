"""The training loop."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from lpsnet.checkpoint import save_checkpoint
from lpsnet.config import Recipe
from lpsnet.data.sample import Dataset
from lpsnet.losses import losses
from lpsnet.models.lpsnet import LPSNet
from lpsnet.training.batches import Batch, batches
from lpsnet.training.schedule import MovingAverage, build_optimizer, set_learning_rate
from lpsnet.training.state import load_state, save_state

STATE_NAME = "state.pt"
CHECKPOINT_NAME = "model.safetensors"
LOG_NAME = "log.jsonl"


@dataclass(frozen=True)
class StepReport:
    """What one step measured.

    Attributes:
        step: counted from 1.
        losses: weighted, by name; ``total`` is their sum.
        learning_rate: of the heads.
        seconds: of the whole step.
        waited: seconds of it spent waiting for data.
    """

    step: int
    losses: dict[str, float]
    learning_rate: float
    seconds: float
    waited: float


class TrainingDiverged(RuntimeError):
    """A loss became NaN or infinite."""


def train(
    model: LPSNet,
    dataset: Dataset,
    output: Path,
    *,
    device: str = "cpu",
    resume: bool = False,
    on_step: Callable[[StepReport], None] = lambda _: None,
) -> LPSNet:
    """Trains a model by its recipe. What it writes to `output`: state.pt, model.safetensors and log.jsonl.

    Args:
        model: an `LPSNet`, its backbone loaded or not.
        dataset: samples with the recipe's classes.
        output: a folder; made where absent.
        device: of the training.
        resume: go on from `output`/state.pt; the losses are those of a run that never stopped.
        on_step: called after each step.

    Returns:
        The model with the averaged weights, in evaluation mode.

    Raises:
        TrainingDiverged: a loss is not finite; the names of the batch's samples are in the message.
        ValueError: an empty data set, or a state that does not fit.
    """
    recipe, config = model.recipe, model.recipe.train
    output.mkdir(parents=True, exist_ok=True)
    model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = build_optimizer(model, config)
    average = MovingAverage(model, config.ema)
    first = 0
    if resume:
        state = load_state(output / STATE_NAME, recipe)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.state = {k: v.to(device) for k, v in state["average"].items()}
        first = state["step"]
        torch.set_rng_state(state["rng"])

    last_time = time.perf_counter()
    with (output / LOG_NAME).open("a" if resume else "w", encoding="utf-8") as log:
        for step, batch in enumerate(batches(dataset, recipe, first), first + 1):
            waited = time.perf_counter() - last_time
            rate = set_learning_rate(optimizer, step - 1, config)
            values = _step(model, batch, optimizer, recipe, device)
            average.update(model, step)
            now = time.perf_counter()
            report = StepReport(step, values, rate, now - last_time, waited)
            last_time = now
            log.write(json.dumps({"step": step, **values, "lr": rate, "seconds": report.seconds}) + "\n")
            log.flush()
            on_step(report)
            if step % config.checkpoint_every == 0 or step == config.iterations:
                _save(output, model, optimizer, average, step)
    model.load_state_dict(average.state)
    return model.eval()


def _step(
    model: LPSNet, batch: Batch, optimizer: torch.optim.Optimizer, recipe: Recipe, device: str
) -> dict[str, float]:
    images = batch.images.to(device, memory_format=torch.channels_last)
    kind = torch.device(device)
    with torch.autocast(kind.type, torch.bfloat16, enabled=recipe.train.amp == "bf16"):
        outputs = model.heads(images)
    parts = losses(outputs, batch.targets.to(kind), recipe.loss)
    total = torch.stack(list(parts.values())).sum()
    values = {name: value.item() for name, value in parts.items()} | {"total": total.item()}
    if not torch.isfinite(total):
        raise TrainingDiverged(f"the loss is {values} on the samples {list(batch.names)}")
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    if recipe.train.clip_norm > 0:
        nn.utils.clip_grad_norm_(model.parameters(), recipe.train.clip_norm)
    optimizer.step()
    return values


def _save(output: Path, model: LPSNet, optimizer: torch.optim.Optimizer, average: MovingAverage, step: int) -> None:
    save_checkpoint(output / CHECKPOINT_NAME, average.state, model.recipe)
    state = {
        "recipe": model.recipe.to_dict(),
        "step": step,
        "model": model.state_dict(),
        "average": average.state,
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
    }
    save_state(output / STATE_NAME, state)
