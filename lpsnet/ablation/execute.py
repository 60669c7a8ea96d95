"""Trains and scores the runs of an ablation, one after the other."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lpsnet.ablation.plan import Run
from lpsnet.ablation.results import Result, Setting, read_result, write_result
from lpsnet.ablation.training import Order, samples, train_here, train_in_processes
from lpsnet.evaluation.evaluate import Scores, evaluate_samples
from lpsnet.evaluation.predictor import Predictor
from lpsnet.models.lpsnet import LPSNet

OnProgress = Callable[[str, int, int], None]
"""Takes what is being done, how much of it is done, and how much there is."""


@dataclass
class Runner:
    """Gives the results of runs: from their files where they are done, otherwise by training and scoring.

    Attributes:
        data: folder or YAML file of the data set; None for the synthetic one.
        train_limit, limit: train on, and score, the first so many samples only; None takes all.
        device: cpu or cuda.
        processes: that train one model together, on this machine; one of them scores it.
        pretrained: start from the ImageNet weights of the backbone.
        backbone_weights: the file that has them; None takes that of the installed package.
    """

    data: Path | None
    train_limit: int | None
    limit: int | None
    device: str
    processes: int
    pretrained: bool
    backbone_weights: Path | None
    _model: tuple[Path, LPSNet] | None = field(default=None, init=False)

    def done(self, run: Run, split: str) -> Result | None:
        """The result of a run that is done; None of one that is not. Raises ValueError for one of other settings."""
        return read_result(run.scores_path(split), self._setting(run, split))

    def result(self, run: Run, split: str, on_progress: OnProgress) -> Result:
        """What a run scores on a split; `on_progress` is called after each step and each scored image.

        A training that was stopped goes on from its last checkpoint; one that is finished is only loaded.

        Raises:
            TrainingDiverged, DataError, TrainingInterrupted: see `train`.
            RuntimeError: one of several processes failed.
            ValueError, OSError: data or files that do not fit, also those of another command in the run's folder.
        """
        result = self.done(run, split)
        if result is None:
            start = time.perf_counter()
            model = self._trained(run, on_progress)
            trained = time.perf_counter() - start
            result = Result.of(self._score(model, run, split, on_progress), trained)
            write_result(run.scores_path(split), self._setting(run, split), result)
        return result

    def _setting(self, run: Run, split: str) -> Setting:
        weights = self.backbone_weights.name if self.backbone_weights else None
        return Setting(run.recipe, split, self.limit, self.train_limit, self.pretrained, weights, run.row.test)

    def _trained(self, run: Run, on_progress: OnProgress) -> LPSNet:
        # Rows that share a training follow one another.
        if self._model is None or self._model[0] != run.folder:
            self._model = None  # lets go of the memory first
            self._model = run.folder, self._train(run, on_progress)
        return self._model[1]

    def _train(self, run: Run, on_progress: OnProgress) -> LPSNet:
        data, weights = (None if path is None else str(path) for path in (self.data, self.backbone_weights))
        order = Order(run.trained, data, self.train_limit, self.device, self.pretrained, weights)
        steps = run.trained.train.iterations

        def show(step: int) -> None:
            on_progress("training", step, steps)

        if self.processes == 1:
            return train_here(order, run.folder, show)
        return train_in_processes(order, run.folder, self.processes, show)

    def _score(self, model: LPSNet, run: Run, split: str, on_progress: OnProgress) -> Scores:
        dataset = samples(run.recipe, self.data, split, self.limit)
        count, test = len(dataset), run.row.test
        predict = Predictor(model, self.device, run.recipe.postprocess, test.scales, test.flip, test.oracle)
        return evaluate_samples(
            predict,
            dataset,
            run.recipe.categories,
            on_image=lambda done: on_progress(f"scoring on {split}", done, count),
        )
