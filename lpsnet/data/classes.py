"""Whether the classes of a data set are those of a model."""

import dataclasses
from pathlib import Path

from lpsnet.categories import Category, categories, packaged
from lpsnet.config import Recipe
from lpsnet.data.custom import is_description, read_description
from lpsnet.data.sample import LabelledDataset
from lpsnet.data.unlabelled import UnlabelledImages


def recipe_for(recipe: Recipe, data: Path | None, dataset: LabelledDataset) -> Recipe:
    """The recipe of a training on a data set: with its name and its classes where `data` is a YAML file.

    Args:
        recipe: which names one of the packaged data sets.
        data: what `dataset` was built from.
        dataset: to train on.

    Raises:
        ValueError: the YAML file takes the name of a packaged data set for other classes.
    """
    if data is None or not is_description(data):
        return recipe
    name = read_description(data).name
    if name not in packaged():
        return dataclasses.replace(recipe, dataset=name, classes=dataset.categories)
    recipe = dataclasses.replace(recipe, dataset=name, classes=())
    if difference(categories(name), dataset.categories):
        raise ValueError(f"{data}: name: expected another than {name!r}, whose classes are others")
    return recipe


def expect_classes(recipe: Recipe, dataset: LabelledDataset) -> None:
    """Raises ValueError unless a data set has the classes of a recipe in its order, so that a score means something.

    Colours may differ. Images without ground truth go with every recipe.
    """
    if isinstance(dataset, UnlabelledImages):
        return
    other = difference(recipe.categories, dataset.categories)
    if other:
        raise ValueError(f"data: expected the classes that {recipe.name} was trained on, {other}")


def difference(expected: tuple[Category, ...], found: tuple[Category, ...]) -> str:
    """What tells the classes of a model, or of another split, from those found, in words; empty where nothing does."""
    if len(expected) != len(found):
        return f"{len(expected)} of them, got {len(found)}"
    for index, (ours, theirs) in enumerate(zip(expected, found, strict=True)):
        if (ours.id, ours.name, ours.isthing) != (theirs.id, theirs.name, theirs.isthing):
            return f"of which number {index} is {_shown(ours)}, got {_shown(theirs)}"
    return ""


def _shown(category: Category) -> str:
    return f"{category.name!r} (id {category.id}, {'thing' if category.isthing else 'stuff'})"
