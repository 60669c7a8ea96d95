import dataclasses
import json
import math

import pytest

from lpsnet.config import RECIPES, Recipe, get_recipe
from lpsnet.fields import checked, differences, parsed, replaced, value_of


@pytest.fixture
def recipe() -> Recipe:
    return get_recipe("lpsnet_lite0_camvid")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("train.iterations=300", 300),
        ("train.iterations = -3 ", -3),
        ("train.learning_rate=1", 1.0),
        ("train.learning_rate=1e-4", 1e-4),
        ("train.optimizer=sgd", "sgd"),
        ("train.steps=", ()),
        ("train.steps=60000,80000", (60_000, 80_000)),
        ("augment.crop=none", None),
        ("augment.crop=(320, 448)", (320, 448)),
        ("augment.scale=0.5,2", (0.5, 2.0)),
        ("model.freeze_backbone_norm=True", True),
        ("postprocess.fill_stuff=false", False),
        ("targets.level_bounds=0,32,64,128,256,inf", (0.0, 32.0, 64.0, 128.0, 256.0, math.inf)),
    ],
)
def test_settings_read_by_the_type_of_their_field(recipe, setting, value):
    values = parsed(recipe, [setting])
    (path,) = values
    assert values == {path: value}
    assert type(values[path]) is type(value)
    changed = replaced(recipe, values)
    assert value_of(changed, path) == value
    assert differences(recipe, changed) == ([path] if value_of(recipe, path) != value else [])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.iterations", "settings: expected name=value, got 'train.iterations'"),
        ("train.iterations=3.5", "train.iterations: expected int, got '3.5'"),
        ("train.iterations=", "train.iterations: expected int, got ''"),
        ("model.norm=ln", "model.norm: expected one of gn, bn, got 'ln'"),
        ("model.freeze_backbone_norm=1", "model.freeze_backbone_norm: expected bool, got '1'"),
        ("augment.crop=320", r"augment.crop: expected 2 of int or None, got '320'"),
        ("model.ppm_bins=1,x", "model.ppm_bins: expected a sequence of int, got '1,x'"),
        ("train.iteration=3", r"train.iteration: expected one of \['accumulate', .*\] at 'iteration'"),
        ("training.iterations=3", r"training.iterations: expected one of \['augment', .*\] at 'training'"),
        ("train.iterations.x=3", "train.iterations.x: expected no field below that at 'x'"),
        ("train=3", r"train: expected a single field, one of \['train.accumulate', .*\], got a group of them"),
        ("=3", "expected one of"),
    ],
)
def test_settings_that_do_not_fit_are_named(recipe, setting, message):
    with pytest.raises(ValueError, match=message):
        parsed(recipe, [setting])


def test_a_name_is_given_once(recipe):
    with pytest.raises(ValueError, match=r"got train\.ema twice"):
        parsed(recipe, ["train.ema=0.9", "train.ema=0.99"])


@pytest.mark.parametrize(
    ("kind", "value"),
    [(int, True), (int, 3.0), (int, "3"), (float, "1"), (bool, 1), (str, None), (tuple[int, int], [1]), (int, None)],
)
def test_other_types_are_refused(kind, value):
    with pytest.raises(ValueError, match="x: expected"):
        checked(kind, value, "x")


def test_replaced_checks_names_and_types(recipe):
    with pytest.raises(ValueError, match=r"train.iterations: expected int, got '300'"):
        replaced(recipe, {"train.iterations": "300"})
    with pytest.raises(ValueError, match=r"model.anchors: expected one of"):
        replaced(recipe, {"model.anchors": 9})
    assert replaced(recipe, {}) == recipe


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_field_of_a_recipe_is_of_its_type(name):
    """Python does not check what a recipe is made of; reading it back does."""
    data = json.loads(json.dumps(get_recipe(name).to_dict()))
    assert Recipe.from_dict(data) == get_recipe(name)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("train", "iterations"), "300", "train.iterations: expected int, got '300'"),
        (("train", "iterations"), 3.5, "train.iterations: expected int, got 3.5"),
        (("model", "deform"), "v3", "model.deform: expected one of v1, v2, off, got 'v3'"),
        (("augment", "crop"), [1, 2, 3], r"augment.crop: expected 2 of int or None, got \[1, 2, 3\]"),
        (("model", "ppm_bins"), 3, "model.ppm_bins: expected a sequence of int, got 3"),
        (("name",), 3, "name: expected str, got 3"),
        (("model",), [1], "ModelConfig: expected a mapping of its fields, got list"),
    ],
)
def test_values_of_other_types_are_refused_from_json(recipe, path, value, message):
    data = json.loads(json.dumps(recipe.to_dict()))
    owner = data
    for name in path[:-1]:
        owner = owner[name]
    owner[path[-1]] = value
    with pytest.raises(ValueError, match=message):
        Recipe.from_dict(data)


def test_fields_without_a_default_are_needed():
    with pytest.raises(ValueError, match=r"Recipe: expected the fields \['dataset', 'name'\]"):
        Recipe.from_dict({})
    assert Recipe.from_dict({"name": "a", "dataset": "coco"}) == Recipe("a", "coco")


def test_differences_are_dotted_names(recipe):
    other = dataclasses.replace(recipe, name="b", train=dataclasses.replace(recipe.train, ema=0.5))
    assert differences(recipe, other) == ["name", "train.ema"]
