"""Whether reading and augmenting images keeps up with the network that learns from them.

`python benchmarks/augmentation.py lpsnet_lite0_camvid --data CAMVID` times one process that loads batches beside one
that trains on a batch which is there already, and says how many loading processes the training wants.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import torch

from lpsnet.config import RECIPES, Recipe
from lpsnet.data.build import build_dataset
from lpsnet.data.sample import Dataset
from lpsnet.models.lpsnet import LPSNet
from lpsnet.native.library import num_threads, set_num_threads
from lpsnet.training.batches import load_batch
from lpsnet.training.distributed import Ranks
from lpsnet.training.schedule import build_optimizer
from lpsnet.training.step import Stepper


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recipe", choices=sorted(RECIPES))
    parser.add_argument("--data", type=Path, help="folder of the data set; none for the synthetic one")
    parser.add_argument("--split", default="train")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, help="instead of the recipe's")
    parser.add_argument("--steps", type=int, default=5, help="batches to time; medians are taken")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    recipe = RECIPES[args.recipe]
    size = args.batch_size or recipe.train.batch_size
    recipe = replace(recipe, train=replace(recipe.train, batch_size=size))
    dataset = build_dataset(recipe.dataset, args.data, args.split)

    threads = torch.get_num_threads(), num_threads()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    set_num_threads(1)
    steps = iter(range(args.steps + 1))
    loading = size / median_seconds(lambda: load_batch(dataset, recipe, next(steps)), args.steps)
    torch.set_num_threads(threads[0])
    set_num_threads(threads[1])
    training = size / median_seconds(training_step(recipe, dataset, args.device), args.steps)

    wanted = math.ceil(training / loading)
    passed = wanted <= recipe.train.workers
    print(f"{recipe.name}, batches of {size}, {args.device}, {threads[0]} threads; medians of {args.steps}")
    print(f"loading, one process   {loading:8.1f} images/s")
    print(f"training               {training:8.1f} images/s")
    print(f"processes wanted       {wanted:8d}, the recipe has {recipe.train.workers}  {'PASS' if passed else 'FAIL'}")
    if args.json is not None:
        row = {"recipe": recipe.name, "batch_size": size, "device": args.device, "threads": threads[0]}
        row |= {"loading": loading, "training": training, "wanted": wanted, "passed": passed}
        args.json.write_text(json.dumps(row, indent=2) + "\n")
    return 0 if passed else 1


def training_step(recipe: Recipe, dataset: Dataset, device: str) -> Callable[[], object]:
    """A whole step of the optimiser on one batch, over and over."""
    ranks = Ranks(device=torch.device(device))
    batch = load_batch(dataset, recipe, 0)
    model = LPSNet(recipe)
    model.to(ranks.device, memory_format=torch.channels_last).train()
    stepper = Stepper(model, build_optimizer(model, recipe.train), ranks)

    def step() -> None:
        stepper.apply(stepper.backward(batch, batch.normalizers))

    return step


def median_seconds(function: Callable[[], object], repeats: int) -> float:
    """Of one call, after one that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
