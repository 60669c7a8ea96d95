import json

import numpy as np
import pytest
from miniature import CUSTOM_CATEGORIES, CUSTOM_YAML, custom_ids, write_coco, write_custom

from lpsnet.config import RECIPES, Recipe
from lpsnet.data.build import build_dataset
from lpsnet.data.classes import expect_classes, recipe_for
from lpsnet.data.custom import read_description
from lpsnet.data.sample import TrueSegment
from lpsnet.data.unlabelled import UnlabelledImages

RECIPE = RECIPES["lpsnet_tiny_synthetic"]


def test_splits_and_classes(tmp_path):
    path = write_custom(tmp_path)
    for split in ("train", "val"):
        data = build_dataset("whatever", path, split)
        assert len(data) == 2
        assert [(c.id, c.name, c.isthing) for c in data.categories] == [
            (row["id"], row["name"], bool(row["isthing"])) for row in CUSTOM_CATEGORIES
        ]
        sample = data[0]
        assert sample.segments == (TrueSegment(2), TrueSegment(0), TrueSegment(1), TrueSegment(1), TrueSegment(1, True))
        assert np.array_equal(sample.ids == 0, custom_ids() == 0)
        assert np.array_equal(sample.ids == 3, custom_ids() == 70000)


def test_images_without_ground_truth(tmp_path):
    path = write_custom(tmp_path)
    with pytest.raises(ValueError, match="split: expected one with ground truth, got 'wild'"):
        build_dataset("ducks", path, "wild")
    data = build_dataset("ducks", path, "wild", need_labels=False)
    assert isinstance(data, UnlabelledImages)
    assert (len(data), data[0].name, data[0].segments) == (1, "w", ())


def test_a_choice_of_classes_in_another_order_and_other_colours(tmp_path):
    path = write_custom(tmp_path, yaml=CUSTOM_YAML + "classes: [{name: duck, color: [9, 8, 7]}, lake]\n")
    data = build_dataset("ducks", path, "train")
    assert [(c.id, c.name, c.isthing) for c in data.categories] == [(3, "duck", True), (7, "lake", False)]
    assert data.categories[0].color == (9, 8, 7)
    sample = data[0]
    assert sample.segments == (TrueSegment(1), TrueSegment(0), TrueSegment(0), TrueSegment(0, True))
    old = custom_ids()
    for key, value in enumerate((5, 70000, 70001, 70002), 1):
        assert np.array_equal(sample.ids == key, old == value)
    assert not sample.ids[old == 500].any()  # reed is void


def test_paths_are_relative_to_the_file_or_to_root(tmp_path):
    write_custom(tmp_path / "data")
    path = tmp_path / "elsewhere.yaml"
    path.write_text("root: data\n" + CUSTOM_YAML)
    assert len(build_dataset("ducks", path, "val")) == 2
    path.write_text(f"root: {tmp_path / 'data'}\n" + CUSTOM_YAML)
    assert len(build_dataset("ducks", path, "val")) == 2


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("name: [", r"expected YAML, got while parsing"),
        ("- 1", r"expected the fields \['classes', 'name', 'root', 'splits'\], got \[1\]"),
        ("name: a", r"expected the fields \['name', 'splits'\] and perhaps .*, got no \['splits'\]"),
        ("name: a\nsplits: {}\nx: 1", r"expected the fields .*, got \['x'\]"),
        ("name: a\nsplits: {}", "splits: expected the files of each split, got {}"),
        ("name: 3\nsplits: {}", "name: expected a text, got 3"),
        ("name: a\nsplits: {train: x}", r"splits: train: expected the fields \['annotations', 'images', 'panoptic'\]"),
        ("name: a\nsplits: {train: {annotations: x}}", r"splits: train: .* got no \['images'\]"),
        ("name: a\nsplits: {train: {images: 3}}", "splits: train: images: expected a path, got 3"),
        ("name: a\nsplits: {t: {images: x, panoptic: y}}", "splits: t: expected annotations beside panoptic, got none"),
        ("name: a\nsplits: {t: {images: x}}\nclasses: duck", "classes: expected a list of names, got 'duck'"),
        ("name: a\nsplits: {t: {images: x}}\nclasses: [no]", "classes: expected names as texts, .* got False"),
        ("name: a\nsplits: {t: {images: x}}\nclasses: [b, b]", "classes: expected each name once, got 'b' twice"),
        (
            "name: a\nsplits: {t: {images: x}}\nclasses: [{name: b, color: [1, 2, 256]}]",
            r"classes: b: expected a color as \[R, G, B\] in 0\.\.255, got \[1, 2, 256\]",
        ),
    ],
)
def test_mistakes_in_the_file(tmp_path, yaml, message):
    path = tmp_path / "a.yaml"
    path.write_text(yaml)
    with pytest.raises(ValueError, match=rf"a\.yaml: {message}"):
        read_description(path)


def test_what_the_file_names_is_not_there(tmp_path):
    path = write_custom(tmp_path)
    with pytest.raises(ValueError, match=r"split: expected one of \['train', 'val', 'wild'\] of .*, got 'test'"):
        build_dataset("ducks", path, "test")
    (tmp_path / "val.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"val\.json: expected a COCO panoptic JSON, got no such file"):
        build_dataset("ducks", path, "val")
    with pytest.raises(FileNotFoundError, match=r"none\.yaml: expected the YAML file of a data set, got no such file"):
        build_dataset("ducks", tmp_path / "none.yaml", "val")


def test_classes_that_the_json_does_not_have(tmp_path):
    path = write_custom(tmp_path, yaml=CUSTOM_YAML + "classes: [duck, goose]\n")
    with pytest.raises(ValueError, match="classes: expected names of categories of the JSON, got 'goose'"):
        build_dataset("ducks", path, "train")


def test_two_categories_of_one_name(tmp_path):
    path = write_custom(tmp_path)
    data = json.loads((tmp_path / "train.json").read_text())
    data["categories"][0]["name"] = "duck"
    (tmp_path / "train.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="categories: expected distinct names, got 'duck' twice"):
        build_dataset("ducks", path, "train")


def test_the_recipe_of_a_training_carries_name_and_classes(tmp_path):
    path = write_custom(tmp_path)
    data = build_dataset(RECIPE.dataset, path, "train")
    recipe = recipe_for(RECIPE, path, data)
    assert (recipe.dataset, recipe.categories) == ("ducks", data.categories)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert recipe_for(RECIPE, None, data) is RECIPE
    expect_classes(recipe, build_dataset("ducks", path, "val"))
    expect_classes(recipe, build_dataset("ducks", path, "wild", need_labels=False))


def test_the_name_of_a_packaged_data_set_stands_for_its_classes(tmp_path):
    path = write_custom(tmp_path, yaml=CUSTOM_YAML.replace("ducks", "coco"))
    with pytest.raises(ValueError, match=r"ducks\.yaml: name: expected another than 'coco', whose classes are others"):
        recipe_for(RECIPE, path, build_dataset("coco", path, "train"))


def test_coco_in_a_layout_of_ones_own_trains_a_model_of_coco(tmp_path):
    write_coco(tmp_path)
    path = tmp_path / "mine.yaml"
    path.write_text("name: coco\nsplits: {val: {images: val2017, annotations: annotations/panoptic_val2017.json}}\n")
    recipe = recipe_for(RECIPE, path, build_dataset("coco", path, "val"))
    assert (recipe.dataset, recipe.classes) == ("coco", ())
    expect_classes(recipe, build_dataset("coco", tmp_path, "val"))


def test_a_model_of_other_classes_is_not_scored(tmp_path):
    path = write_custom(tmp_path)
    data = build_dataset("ducks", path, "val")
    with pytest.raises(ValueError, match=r"data: expected the classes that lpsnet_tiny_synthetic .*, 6 of them, got 3"):
        expect_classes(RECIPE, data)
    recipe = recipe_for(RECIPE, path, data)
    path.write_text(CUSTOM_YAML + "classes: [reed, duck, lake]\n")
    with pytest.raises(ValueError, match=r"number 0 is 'lake' \(id 7, stuff\), got 'reed' \(id 9, stuff\)"):
        expect_classes(recipe, build_dataset("ducks", path, "val"))


def test_a_model_of_a_data_set_of_ones_own_needs_its_file(tmp_path):
    with pytest.raises(ValueError, match=r"name: expected one of .*, or a YAML file as root, got 'ducks' and"):
        build_dataset("ducks", tmp_path, "val")
