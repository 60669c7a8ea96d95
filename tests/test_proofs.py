"""Trainings that prove that targets, losses, heads and post-processing fit together. Minutes each: `make test-slow`."""

import dataclasses
import time

import numpy as np
import pytest
import torch

from lpsnet.config import RECIPES, AugmentConfig, PostprocessConfig, Recipe
from lpsnet.data.build import build_dataset
from lpsnet.data.sample import Dataset, Subset
from lpsnet.evaluation.evaluate import Scores, evaluate
from lpsnet.inference import DenseArrays, postprocess, prepare, semantic_labels
from lpsnet.models.lpsnet import LPSNet
from lpsnet.training.loop import train


def score(model: LPSNet, dataset: Dataset) -> Scores:
    @torch.inference_mode()
    def predict(image: np.ndarray):
        prepared = prepare(image, model.recipe.input)
        dense = DenseArrays.of(model(torch.from_numpy(prepared.images), prepared.image_size))
        result = postprocess(dense, prepared, model.recipe.categories, model.recipe.postprocess)
        return result, semantic_labels(dense, prepared)

    return evaluate(predict, dataset, model.recipe.categories)


def trained(recipe: Recipe, dataset: Dataset, output) -> LPSNet:
    torch.manual_seed(recipe.train.seed)
    model = LPSNet(recipe)
    model.load_pretrained_backbone()

    def show(report) -> None:
        if report.step % 20 == 0:
            print(f"step {report.step}: {report.losses} {report.seconds:.2f} s", flush=True)

    return train(model, dataset, output, on_step=show)


@pytest.mark.slow
def test_a_synthetic_training_of_minutes_learns_the_scenes(tmp_path):
    recipe = RECIPES["lpsnet_tiny_synthetic"]
    start = time.perf_counter()
    model = trained(recipe, build_dataset("synthetic", None, "train"), tmp_path)
    seconds = time.perf_counter() - start
    scores = score(model, build_dataset("synthetic", None, "val"))
    print(f"{seconds:.0f} s, {scores.panoptic}")
    assert scores.panoptic.pq >= 80


def overfit_recipe(dataset: str, short_side: int, max_side: int, batch_size: int) -> Recipe:
    """The demo model's network on eight whole images, without augmentation."""
    recipe = RECIPES["lpsnet_lite0_camvid"]
    return dataclasses.replace(
        recipe,
        name=f"overfit_{dataset}",
        dataset=dataset,
        input=dataclasses.replace(recipe.input, short_side=short_side, max_side=max_side),
        postprocess=PostprocessConfig(stuff_area_limit=32, paste_score=0.15),
        augment=AugmentConfig(flip=0.0),
        train=dataclasses.replace(
            recipe.train,
            iterations=300,
            batch_size=batch_size,
            learning_rate=2e-3,
            warmup=20,
            ema=0.9,
            weight_decay=0.0,
        ),
    )


@pytest.mark.slow
def test_eight_scenes_are_learnt_by_heart(tmp_path):
    eight = Subset(build_dataset("synthetic", None, "train"), range(8))
    scores = score(trained(overfit_recipe("synthetic", 128, 192, 2), eight, tmp_path), eight)
    print(scores.panoptic)
    assert scores.panoptic.pq >= 80


@pytest.mark.slow
def test_eight_photographs_are_learnt_by_heart(shared_data, tmp_path):
    eight = Subset(build_dataset("camvid", shared_data / "camvid", "val"), range(8))
    scores = score(trained(overfit_recipe("camvid", 352, 480, 4), eight, tmp_path), eight)
    print(scores.panoptic)
    # Poles are 2 pixels wide and the semantic head works at a quarter of that: their class stays at 0.
    assert scores.panoptic.pq >= 75
