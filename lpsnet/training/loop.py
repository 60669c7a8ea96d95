"""The training loop."""

import dataclasses
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lpsnet.checkpoint import save_checkpoint
from lpsnet.data.sample import Dataset
from lpsnet.losses import Normalizers
from lpsnet.models.lpsnet import LPSNet
from lpsnet.models.sync_norm import synchronize_batch_norm
from lpsnet.training.batches import Batch, batches, places, worker_errors
from lpsnet.training.distributed import Ranks
from lpsnet.training.divergence import REPORT_NAME, LossWatch, TrainingDiverged, write_report
from lpsnet.training.interrupt import Interrupts, TrainingInterrupted
from lpsnet.training.log import Log, StepReport
from lpsnet.training.schedule import MovingAverage, build_optimizer, set_learning_rate
from lpsnet.training.state import has_state, load_state, remove_state, save_state
from lpsnet.training.step import Gradients, Stepper

CHECKPOINT_NAME = "model.safetensors"
LOG_NAME = "log.jsonl"


def train(
    model: LPSNet,
    dataset: Dataset,
    output: Path,
    *,
    device: str = "cpu",
    ranks: Ranks | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_step: Callable[[StepReport], None] = lambda _: None,
) -> LPSNet:
    """Trains a model by its recipe.

    The main process writes to `output`: state.pt and state.previous.pt, model.safetensors, log.jsonl, and diverged.json
    where it comes to that. SIGINT or SIGTERM lets the step end and its state be saved.

    Args:
        model: an `LPSNet`, its backbone loaded or not.
        dataset: samples with the recipe's classes.
        output: a folder; made where absent.
        device: of the training, where `ranks` does not say.
        ranks: the processes that train together, from `distributed.join`; each calls this function. None: this alone.
        resume: go on from the state in `output`, with the losses of a run that never stopped, also with another number
            of processes.
        overwrite: give up a run that is in `output`.
        on_step: called after each step, in the main process.

    Returns:
        The model with the averaged weights, in evaluation mode.

    Raises:
        TrainingDiverged: see `LossWatch`; diverged.json has the batch. The last checkpoint stays.
        TrainingInterrupted: after a signal.
        DataError: a sample that cannot be read, or a worker that died. The last checkpoint stays.
        ValueError: an empty data set, a state that does not fit, or a run in `output` that nobody gave up.
        OSError: a file cannot be written. The last checkpoint stays.
    """
    run = _Run(model, dataset, output, ranks or Ranks(device=torch.device(device)))
    run.start(resume, overwrite)
    config, ranks = model.recipe.train, run.ranks
    with ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        stack.enter_context(worker_errors())
        log = stack.enter_context(Log(output / LOG_NAME, run.step)) if ranks.is_main else None
        loaded = stack.enter_context(closing(run.batches()))
        last_time = time.perf_counter()
        for batch in loaded:
            waited = time.perf_counter() - last_time
            # One exchange tells all that the processes must agree on before the step.
            counts = run.counts(batch)
            told = ranks.gather(*counts, waited, float(interrupts.received is not None))
            rate, gradients = run.learn(batch, told[:, : len(counts)])
            now = time.perf_counter()
            seconds, last_time = now - last_time, now
            waited, interrupted = told[:, len(counts) :].amax(0).tolist()
            if log is not None:
                report = StepReport(
                    run.step, gradients.losses, rate, gradients.norm, config.batch_size, seconds, waited
                )
                log.write(report)
                on_step(report)
            if interrupted or run.step % config.checkpoint_every == 0 or run.step == config.iterations:
                run.save()
            if interrupted:
                raise TrainingInterrupted(f"{interrupts.received or 'a signal'} after step {run.step}")
    model.load_state_dict(run.average.state)
    return model.eval()


class _Run:
    """All that changes while a model trains."""

    def __init__(self, model: LPSNet, dataset: Dataset, output: Path, ranks: Ranks) -> None:
        self.model, self.dataset, self.output, self.ranks = model, dataset, output, ranks
        self.config = model.recipe.train
        model.to(ranks.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        if ranks.world > 1 and self.config.sync_bn:
            synchronize_batch_norm(model)
        self.optimizer = build_optimizer(model, self.config)
        self.stepper = Stepper(model, self.optimizer, ranks)  # from here on all have the main process's weights
        self.average = MovingAverage(model, self.config.ema)
        self.watch = LossWatch(self.config.explosion)
        self.step = self.saved_step = 0

    def start(self, resume: bool, overwrite: bool) -> None:
        """Makes or cleans the folder, or goes on from the state in it, which the main process alone need see."""
        if resume:
            self._restore(self.ranks.from_main(self._load() if self.ranks.is_main else None))
        elif self.ranks.from_main(has_state(self.output)) and not overwrite:
            raise ValueError(f"output: expected a folder without a run, got {self.output}: resume it or overwrite it")
        elif self.ranks.is_main:
            self.output.mkdir(parents=True, exist_ok=True)
            remove_state(self.output)
        if self.ranks.is_main:
            (self.output / REPORT_NAME).unlink(missing_ok=True)

    def batches(self) -> Generator[Batch, None, None]:
        """This process's part of the batches that are left."""
        ranks = self.ranks
        pin_memory = ranks.device.type == "cuda"
        return batches(self.dataset, self.model.recipe, self.step, ranks.rank, ranks.world, pin_memory)

    @staticmethod
    def counts(batch: Batch) -> tuple[float, ...]:
        """What the others must know of this process's part: height, width and the normalisers."""
        return (*batch.images.shape[2:], *dataclasses.astuple(batch.normalizers))

    def learn(self, batch: Batch, counts: torch.Tensor) -> tuple[float, Gradients]:
        """One step; returns the learning rate as well.

        Args:
            batch: this process's part.
            counts: `counts` of every process.
        """
        height, width = (int(v) for v in counts[:, :2].amax(0))
        normalizers = Normalizers(*counts[:, 2:].sum(0).tolist())
        # Nothing random is left over from the step before, so the state of a run needs no random generators.
        seed = np.random.SeedSequence([self.config.seed, self.step, self.ranks.rank])
        torch.manual_seed(int(seed.generate_state(1)[0]))
        rate = set_learning_rate(self.optimizer, self.step, self.config)
        gradients = self.stepper.backward(batch.padded(height, width), normalizers)
        fault = self.watch.fault(gradients.losses["total"], gradients.norm, self.stepper.loss_scale)
        if fault is not None:
            self._give_up(fault, batch, gradients)
        self.stepper.apply(gradients)
        self.step += 1
        self.average.update(self.model, self.step)
        return rate, gradients

    def save(self) -> None:
        """Writes state and checkpoint in the main process; returns in all when they are on the disk."""
        if self.ranks.is_main:
            state = {
                "recipe": self.model.recipe.to_dict(),
                "samples": len(self.dataset),
                "step": self.step,
                "model": self.model.state_dict(),
                "average": self.average.state,
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.stepper.scaler.state_dict(),
                "history": self.watch.history,
            }
            save_state(self.output, state)
            save_checkpoint(self.output / CHECKPOINT_NAME, self.average.state, self.model.recipe)
        self.ranks.wait()
        self.saved_step = self.step

    def _load(self) -> dict[str, Any]:
        state = load_state(self.output, self.model.recipe)
        samples = state.get("samples", len(self.dataset))
        if samples != len(self.dataset):
            raise ValueError(
                f"resume: expected a data set of {samples} samples, as the run began with, got {len(self.dataset)}"
            )
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.state = {k: v.to(self.ranks.device) for k, v in state["average"].items()}
        self.stepper.scaler.load_state_dict(state.get("scaler", {}))
        self.watch = LossWatch(self.config.explosion, state.get("history", ()))
        self.step = self.saved_step = state["step"]

    def _give_up(self, fault: str, batch: Batch, gradients: Gradients) -> None:
        names = [name for part in self.ranks.gather_objects(batch.names) for name in part]
        samples = list(zip(names, places(self.config, len(self.dataset), self.step), strict=True))
        path = self.output / REPORT_NAME
        if self.ranks.is_main:
            step = self.step + 1
            write_report(path, fault, step, gradients.losses, gradients.norm, samples, self.config)
        raise TrainingDiverged(
            f"step {self.step + 1}: {fault}; the samples {names} are in {path}, the last checkpoint is of step "
            f"{self.saved_step}"
        )
