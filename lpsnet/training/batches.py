"""Training batches as a pure function of the seed and the step, whoever loads which part of them.

A run that goes on after a stop, with as many processes or another number of them, sees what it would have seen.
"""

import os
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from lpsnet.categories import VOID
from lpsnet.config import BOX_STRIDES, InputConfig, Recipe, TrainConfig
from lpsnet.data.sample import Dataset, Sample
from lpsnet.data.transforms import augment
from lpsnet.losses import BatchTargets, Normalizers
from lpsnet.targets import LevelTargets, box_targets


class DataError(RuntimeError):
    """A sample that cannot be read, or a process that loads data and died."""


@dataclass(frozen=True)
class Batch:
    """What one step learns from, or the part of it that one process does.

    Attributes:
        names: of the samples.
        images: float32[N, 3, H, W], normalised, padded with zeros, in channels-last memory.
        targets: see `BatchTargets`.
        normalizers: of these samples.
    """

    names: tuple[str, ...]
    images: Tensor
    targets: BatchTargets
    normalizers: Normalizers

    def padded(self, height: int, width: int) -> "Batch":
        """The same with images of at least this size, which are multiples of `InputConfig.size_divisor`."""
        if self.images.shape[2:] == (height, width):
            return self

        def pad(maps: Tensor, stride: int = 1, value: float = 0) -> Tensor:
            h, w = -(-height // stride), -(-width // stride)
            return functional.pad(maps, (0, w - maps.shape[-1], 0, h - maps.shape[-2]), value=value)

        def levels(maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(pad(t, stride) for t, stride in zip(maps, BOX_STRIDES, strict=True))

        targets = BatchTargets(
            pad(self.targets.labels, value=VOID),
            levels(self.targets.positive),
            levels(self.targets.ltrb),
            levels(self.targets.borderness),
        )
        return Batch(self.names, pad(self.images), targets, self.normalizers)

    def split(self, parts: int) -> Iterator["Batch"]:
        """Consecutive parts whose sizes differ by at most 1; each carries the normalisers of the whole."""
        for i in range(parts):
            rows = slice(*part(len(self.names), i, parts))
            levels = (
                tuple(t[rows] for t in maps)
                for maps in (self.targets.positive, self.targets.ltrb, self.targets.borderness)
            )
            targets = BatchTargets(self.targets.labels[rows], *levels)
            yield Batch(self.names[rows], self.images[rows], targets, self.normalizers)

    def pin_memory(self) -> "Batch":
        """A copy that a GPU reads without waiting; the data loader calls it."""

        def pin(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(t.pin_memory() for t in tensors)

        t = self.targets
        targets = BatchTargets(t.labels.pin_memory(), pin(t.positive), pin(t.ltrb), pin(t.borderness))
        return Batch(self.names, self.images.pin_memory(), targets, self.normalizers)


@dataclass(frozen=True)
class Place:
    """Where a sample of a batch comes from.

    Attributes:
        index: of the sample in the data set.
        augmentation_seed: what `numpy.random.default_rng` makes its augmentation from.
    """

    index: int
    augmentation_seed: tuple[int, ...]


def places(config: TrainConfig, samples: int, step: int) -> list[Place]:
    """The samples of step `step`, counted from 0, of a data set of so many samples. Each epoch has its own order."""
    result = []
    for position in range(step * config.batch_size, (step + 1) * config.batch_size):
        epoch, place = divmod(position, samples)
        index = int(_order(config.seed, epoch, samples)[place])
        result.append(Place(index, (config.seed, epoch, place, 1)))
    return result


def part(size: int, i: int, parts: int) -> tuple[int, int]:
    """Begin and end of part i of `size` things, in order; the sizes of the parts differ by at most 1."""
    return size * i // parts, size * (i + 1) // parts


def load_batch(dataset: Dataset, recipe: Recipe, step: int, rank: int = 0, world: int = 1) -> Batch:
    """The part of the batch of step `step`, counted from 0, that process `rank` of `world` learns from.

    Raises:
        DataError: a sample that cannot be read, with its index.
    """
    chosen = places(recipe.train, len(dataset), step)
    begin, end = part(len(chosen), rank, world)
    samples = []
    for place in chosen[begin:end]:
        rng = np.random.default_rng(place.augmentation_seed)
        try:
            samples.append(augment(dataset[place.index], recipe.input, recipe.augment, rng))
        except (OSError, ValueError) as error:
            raise DataError(f"sample {place.index} of step {step + 1}: {error}") from error
    return to_batch(samples, recipe)


def to_batch(samples: Sequence[Sample], recipe: Recipe) -> Batch:
    """Pads samples to the size of the largest, normalises their images and computes their targets."""
    isthing = [c.isthing for c in recipe.categories]
    height, width = recipe.input.padded(*np.max([s.ids.shape for s in samples], axis=0).tolist())
    images = np.zeros((len(samples), height, width, 3), np.float32)
    for image, sample in zip(images, samples, strict=True):
        h, w = sample.ids.shape
        image[:h, :w] = normalize(sample.image, recipe.input)
    samples = [_pad(s, height, width) for s in samples]
    levels = [box_targets(s, isthing, recipe.targets) for s in samples]

    def stack(name: str) -> tuple[Tensor, ...]:
        per_level: list[tuple[LevelTargets, ...]] = list(zip(*levels, strict=True))
        return tuple(torch.from_numpy(np.stack([getattr(t, name) for t in level])) for level in per_level)

    targets = BatchTargets(
        torch.from_numpy(np.stack([s.labels() for s in samples])),
        stack("positive"),
        stack("ltrb"),
        stack("borderness"),
    )
    names = tuple(s.name for s in samples)
    return Batch(names, torch.from_numpy(images).permute(0, 3, 1, 2), targets, Normalizers.of(targets))


def normalize(image: np.ndarray, config: InputConfig) -> np.ndarray:
    """float32[H, W, 3] from uint8[H, W, 3]: (image - mean) / std, by a table of the 256 values of each channel."""
    values = np.arange(256, dtype=np.float32)[:, None]
    table = (values - np.asarray(config.mean, np.float32)) / np.asarray(config.std, np.float32)
    return cv2.LUT(image, table[None].astype(np.float32))


def batches(
    dataset: Dataset, recipe: Recipe, first_step: int, rank: int = 0, world: int = 1, pin_memory: bool = False
) -> Generator[Batch, None, None]:
    """The batches of steps first_step .. iterations - 1, loaded ahead by the recipe's workers.

    Closing it ends the workers.

    Args:
        dataset: read by all processes.
        recipe: its batch size is that of all processes together.
        first_step: counted from 0.
        rank, world: this process and how many there are; see `load_batch`.
        pin_memory: hand out batches in pinned memory.

    Raises:
        ValueError: an empty data set.
        DataError: while iterating, a sample that cannot be read. For a worker that died see `worker_errors`.
    """
    if len(dataset) == 0:
        raise ValueError("dataset: expected at least 1 sample, got 0")
    loader = DataLoader(
        _Steps(dataset, recipe, rank, world),
        sampler=range(first_step, recipe.train.iterations),
        batch_size=None,
        num_workers=recipe.train.workers,
        worker_init_fn=_start_worker,
        pin_memory=pin_memory,
    )
    return _checked(loader)


@contextmanager
def worker_errors() -> Iterator[None]:
    """Turns what the death of a worker raises, at whatever point of the block it does, into a `DataError`."""
    try:
        yield
    except RuntimeError as error:
        # The signal may come while a checkpoint is written, and what is raised then has another error in its place.
        chain: list[BaseException] = [error]
        while (before := chain[-1].__cause__ or chain[-1].__context__) is not None:
            chain.append(before)
        deaths = [str(e) for e in chain if "DataLoader worker" in str(e)]
        if not deaths:
            raise
        reason = deaths[0].strip().partition("\n")[0]
        raise DataError(
            f"a process that loads data died, perhaps for want of memory (fewer --train.workers): {reason}"
        ) from error


def _checked(loader: DataLoader) -> Generator[Batch, None, None]:
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        yield batch


class _Steps(TorchDataset):
    """Item k is the batch of step k, or the `DataError` that it met: raised in a worker, it would lose its line."""

    def __init__(self, dataset: Dataset, recipe: Recipe, rank: int, world: int) -> None:
        self.dataset, self.recipe, self.rank, self.world = dataset, recipe, rank, world

    def __getitem__(self, step: int) -> Batch | DataError:
        try:
            return load_batch(self.dataset, self.recipe, step, self.rank, self.world)
        except DataError as error:
            return error


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, samples: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(samples)


def _pad(sample: Sample, height: int, width: int) -> Sample:
    """The ground truth on a larger canvas, for its targets; the image is not read any more and shares one byte."""
    h, w = sample.ids.shape
    if (h, w) == (height, width):
        return sample
    ids = np.zeros((height, width), np.int32)
    ids[:h, :w] = sample.ids
    return Sample(sample.name, np.broadcast_to(np.uint8(0), (height, width, 3)), ids, sample.segments)


def _start_worker(_: int) -> None:
    """One thread each. A signal to the whole group of processes is the main one's to answer, so SIGTERM counts only
    when it comes again: from the main process, to a worker that did not end by itself."""
    from lpsnet.native.library import set_num_threads

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    received = count()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1) if next(received) else None)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    set_num_threads(1)
