"""How the cost grows with the size of the image, the number of boxes and the number of classes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import process_time

import numpy as np

from lpsnet.config import PostprocessConfig, Recipe, RuntimeConfig
from lpsnet.inference import postprocess
from lpsnet.models.lpsnet import LPSNet

from ..torch_backend import open_torch
from .results import Series
from .scene import made_categories, made_outputs
from .stages import StageTimer

_BOX_SIDE = 96.0


def fit(values: Sequence[float], ms: Sequence[float]) -> tuple[float, float]:
    """Exponent and R2 of ms = c * value ** exponent, by least squares over the logarithms.

    Raises:
        ValueError: fewer than two different values, or one that is not above 0.
    """
    if len(values) != len(ms) or len(set(values)) < 2 or min(*values, *ms) <= 0:
        raise ValueError(f"values, ms: expected at least two different values above 0, got {values} and {ms}")
    x, y = np.log(values), np.log(ms)
    exponent, offset = np.polyfit(x, y, 1)
    rest = y - (exponent * x + offset)
    spread = float(((y - y.mean()) ** 2).sum())
    return float(exponent), 1.0 - float((rest**2).sum()) / spread if spread > 0 else 1.0


def scaling(recipe: Recipe, full: tuple[int, int], rounds: int, threads: int) -> tuple[Series, ...]:
    """Times the post-processing over made-up scenes, and the whole way with random weights, on the CPU.

    Args:
        recipe: of the network, and of the post-processing.
        full: (height, width) of the images that boxes and classes are counted at, multiples of 32. The whole way runs
            at up to half of it, so that this ends in minutes.
        rounds: that are timed, after one that is not; each runs all points of a series in turn.
        threads: of the CPU; 0 leaves them as they are.
    """
    return (
        _postprocess_sizes(recipe, full, rounds),
        _postprocess_boxes(recipe, full, rounds),
        _postprocess_classes(recipe, full, rounds),
        *_whole(recipe, full, rounds, threads),
    )


def _postprocess_sizes(recipe: Recipe, full: tuple[int, int], rounds: int) -> Series:
    categories, config = recipe.categories, recipe.postprocess
    runs = {}
    for size in _sizes(full, (1 / 16, 1 / 4, 1 / 2, 1, 2)):
        runs[size[0] * size[1] / 1e6] = _postprocess(size, 40, len(categories), config)
    return series_of("postprocess", "megapixels", f"40 objects of 96 x 96, {len(categories)} classes", runs, rounds)


def _postprocess_boxes(recipe: Recipe, full: tuple[int, int], rounds: int) -> Series:
    counts = (20, 40, 80, 160, 320)
    runs = {}
    for count in counts:
        config = replace(recipe.postprocess, max_detections=count, topk=10 * count)
        runs[float(count)] = _postprocess(full, count, len(recipe.categories), config)
    fixed = f"{full[0]} x {full[1]}, {len(recipe.categories)} classes, ten candidates a level for each box"
    return series_of("postprocess", "boxes", fixed, runs, rounds)


def _postprocess_classes(recipe: Recipe, full: tuple[int, int], rounds: int) -> Series:
    config = recipe.postprocess
    runs = {float(count): _postprocess(full, 40, count, config) for count in (8, 16, 32, 64, 128)}
    return series_of("postprocess", "classes", f"{full[0]} x {full[1]}, 40 objects of 96 x 96", runs, rounds)


def _whole(recipe: Recipe, full: tuple[int, int], rounds: int, threads: int) -> list[Series]:
    half = _sizes(full, (1 / 4,))[0]
    everything = replace(recipe.postprocess, score_threshold=0.0, paste_score=0.0)
    sizes = {
        h * w / 1e6: _network(recipe, (h, w), None, everything, threads)
        for h, w in _sizes(full, (1 / 16, 1 / 8, 1 / 4))
    }
    boxes = {
        float(n): _network(recipe, half, None, replace(everything, max_detections=n), threads) for n in (25, 100, 400)
    }
    classes = {float(n): _network(recipe, half, n, everything, threads) for n in (8, 32, 128)}
    at = f"{half[0]} x {half[1]}, random weights"
    return [
        series_of("whole", "megapixels", "random weights", sizes, rounds),
        series_of("whole", "boxes", at, boxes, rounds),
        series_of("whole", "classes", at, classes, rounds),
    ]


def _postprocess(size: tuple[int, int], boxes: int, classes: int, config: PostprocessConfig) -> Callable[[], object]:
    categories = made_categories(classes)
    dense, prepared = made_outputs(size, boxes, _BOX_SIDE, categories)
    return lambda: postprocess(dense, prepared, categories, config)


def _network(
    recipe: Recipe, size: tuple[int, int], classes: int | None, config: PostprocessConfig, threads: int
) -> Callable[[], object]:
    sizes = replace(recipe.input, short_side=min(size), max_side=max(size))
    backend = open_torch(
        LPSNet(replace(recipe, input=sizes, classes=made_categories(classes) if classes else recipe.classes)),
        RuntimeConfig(threads=threads),
    )
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    return lambda: backend.predict(image, config, StageTimer(), False)


def _sizes(full: tuple[int, int], areas: Sequence[float]) -> list[tuple[int, int]]:
    """Multiples of 32 of about these shares of the full area."""
    return [(_round(full[0] * area**0.5), _round(full[1] * area**0.5)) for area in areas]


def _round(side: float) -> int:
    return max(32, 32 * round(side / 32))


def series_of(
    what: str,
    against: str,
    fixed: str,
    runs: Mapping[float, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = process_time,
) -> Series:
    """Times functions in turns, one per value of the quantity, after one round that is not timed, and fits them.

    The clock is that of the processor, all threads: other work on the machine bends a line less than on the wall's.
    """
    taken: dict[float, list[float]] = {value: [] for value in runs}
    for index in range(rounds + 1):
        for value, run in runs.items():
            begin = clock()
            run()
            if index > 0:
                taken[value].append(1e3 * (clock() - begin))
    values = tuple(taken)
    ms = tuple(float(np.median(t)) for t in taken.values())
    return Series(what, against, fixed, values, ms, *fit(values, ms))
