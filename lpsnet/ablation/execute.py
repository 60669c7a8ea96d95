"""Trains and scores the runs of an ablation, in this process, one after the other."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from lpsnet.ablation.plan import Run
from lpsnet.ablation.results import Result, Setting, read_result, write_result
from lpsnet.config import Recipe
from lpsnet.data.build import build_dataset
from lpsnet.data.classes import expect_classes
from lpsnet.data.sample import Dataset, Subset
from lpsnet.evaluation.evaluate import Scores, evaluate_samples
from lpsnet.evaluation.predictor import Predictor
from lpsnet.models.lpsnet import LPSNet
from lpsnet.training.loop import train
from lpsnet.training.state import has_state

OnProgress = Callable[[str, int, int], None]
"""Takes what is being done, how much of it is done, and how much there is."""


@dataclass
class Runner:
    """Gives the results of runs: from their files where they are done, otherwise by training and scoring.

    Attributes:
        data: folder or YAML file of the data set; None for the synthetic one.
        train_limit, limit: train on, and score, the first so many samples only; None takes all.
        device: cpu or cuda.
        pretrained: start from the ImageNet weights of the backbone.
        backbone_weights: the file that has them; None takes that of the installed package.
    """

    data: Path | None
    train_limit: int | None
    limit: int | None
    device: str
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
        dataset = _samples(run.trained, self.data, "train", self.train_limit)
        resume = has_state(run.folder)
        torch.manual_seed(run.seed)
        model = LPSNet(run.trained)
        if self.pretrained and not resume:
            model.load_pretrained_backbone(self.backbone_weights)
        steps = run.trained.train.iterations
        return train(
            model,
            dataset,
            run.folder,
            device=self.device,
            resume=resume,
            on_step=lambda report: on_progress("training", report.step, steps),
        )

    def _score(self, model: LPSNet, run: Run, split: str, on_progress: OnProgress) -> Scores:
        dataset = _samples(run.recipe, self.data, split, self.limit)
        count, test = len(dataset), run.row.test
        predict = Predictor(model, self.device, run.recipe.postprocess, test.scales, test.flip, test.oracle)
        return evaluate_samples(
            predict,
            dataset,
            run.recipe.categories,
            on_image=lambda done: on_progress(f"scoring on {split}", done, count),
        )


def _samples(recipe: Recipe, data: Path | None, split: str, limit: int | None) -> Dataset:
    dataset = build_dataset(recipe.dataset, data, split)
    expect_classes(recipe, dataset)
    return dataset if limit is None else Subset(dataset, range(min(limit, len(dataset))))
