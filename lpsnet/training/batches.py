"""Training batches as a pure function of the seed and the step, so that a resumed run sees what it would have seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from lpsnet.config import InputConfig, Recipe
from lpsnet.data.sample import Dataset, Sample
from lpsnet.data.transforms import augment
from lpsnet.losses import BatchTargets
from lpsnet.targets import LevelTargets, box_targets


@dataclass(frozen=True)
class Batch:
    """What one step learns from.

    Attributes:
        names: of the samples.
        images: float32[N, 3, H, W], normalised and padded.
        targets: see `BatchTargets`.
    """

    names: tuple[str, ...]
    images: Tensor
    targets: BatchTargets


def to_batch(samples: Sequence[Sample], recipe: Recipe) -> Batch:
    """Pads samples to the size of the largest, normalises their images and computes their targets."""
    isthing = [c.isthing for c in recipe.categories]
    height, width = recipe.input.padded(*np.max([s.ids.shape for s in samples], axis=0).tolist())
    samples = [_pad(s, height, width) for s in samples]
    levels = [box_targets(s, isthing, recipe.targets) for s in samples]

    def stack(name: str) -> tuple[Tensor, ...]:
        per_level: list[tuple[LevelTargets, ...]] = list(zip(*levels, strict=True))
        return tuple(torch.from_numpy(np.stack([getattr(t, name) for t in level])) for level in per_level)

    return Batch(
        tuple(s.name for s in samples),
        torch.from_numpy(np.stack([normalize(s.image, recipe.input) for s in samples])).permute(0, 3, 1, 2),
        BatchTargets(
            torch.from_numpy(np.stack([s.labels() for s in samples])),
            stack("positive"),
            stack("ltrb"),
            stack("borderness"),
        ),
    )


def normalize(image: np.ndarray, config: InputConfig) -> np.ndarray:
    """float32[H, W, 3] from uint8[H, W, 3]."""
    return (image - np.asarray(config.mean, np.float32)) / np.asarray(config.std, np.float32)


def _pad(sample: Sample, height: int, width: int) -> Sample:
    h, w = sample.ids.shape
    if (h, w) == (height, width):
        return sample
    margin = ((0, height - h), (0, width - w))
    return Sample(sample.name, np.pad(sample.image, (*margin, (0, 0))), np.pad(sample.ids, margin), sample.segments)


class _Steps(TorchDataset):
    """Item k is the batch of step k."""

    def __init__(self, dataset: Dataset, recipe: Recipe) -> None:
        self.dataset, self.recipe = dataset, recipe

    def __getitem__(self, step: int) -> Batch:
        size, seed = self.recipe.train.batch_size, self.recipe.train.seed
        samples = []
        for position in range(step * size, (step + 1) * size):
            epoch, place = divmod(position, len(self.dataset))
            order = np.random.default_rng([seed, epoch]).permutation(len(self.dataset))
            rng = np.random.default_rng([seed, epoch, place, 1])
            samples.append(augment(self.dataset[int(order[place])], self.recipe.input, self.recipe.augment, rng))
        return to_batch(samples, self.recipe)


def batches(dataset: Dataset, recipe: Recipe, first_step: int) -> DataLoader:
    """The batches of steps first_step .. iterations - 1, loaded ahead by the recipe's workers.

    Raises:
        ValueError: an empty data set.
    """
    if len(dataset) == 0:
        raise ValueError("dataset: expected at least 1 sample, got 0")
    workers = recipe.train.workers
    return DataLoader(
        _Steps(dataset, recipe),
        sampler=range(first_step, recipe.train.iterations),
        batch_size=None,
        num_workers=workers,
        worker_init_fn=_one_thread,
        persistent_workers=False,
    )


def _one_thread(_: int) -> None:
    import cv2

    from lpsnet.native.library import set_num_threads

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    set_num_threads(1)
