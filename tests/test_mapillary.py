import json

import numpy as np
import pytest
from miniature import (
    HEIGHT,
    WIDTH,
    image,
    mapillary_index,
    mapillary_labels,
    mapillary_values,
    write_image,
    write_mapillary,
)

from lpsnet.categories import categories
from lpsnet.data.build import build_dataset
from lpsnet.data.mapillary import Mapillary


def test_classes_are_those_that_are_evaluated():
    table = categories("mapillary")
    assert len(table) == 65
    assert sum(c.isthing for c in table) == 37
    assert [c.id for c in table] == list(range(1, 66))  # as in the release's panoptic_2018.json


@pytest.mark.parametrize("newer", [False, True])
def test_reads_both_layouts(tmp_path, newer):
    data = Mapillary(write_mapillary(tmp_path, newer), "train")
    sample = data[0]
    assert (len(data), sample.name) == (2, "key0")
    assert np.abs(sample.image.astype(int) - image(0)).mean() < 10  # JPEG
    values = mapillary_values()
    found = {}
    for key, segment in enumerate(sample.segments, 1):
        value = np.unique(values[sample.ids == key])
        assert len(value) == 1
        assert np.array_equal(sample.ids == key, values == value[0])
        assert not segment.iscrowd
        found[int(value[0])] = data.categories[segment.label].name
    car = mapillary_index("Car") * 256
    sky, road = mapillary_index("Sky") * 256, mapillary_index("Road") * 256
    assert found == {sky: "Sky", road: "Road", car: "Car", car + 1: "Car"}
    assert np.array_equal(sample.ids == 0, values == 65 * 256)


def test_numbers_of_a_stuff_class_are_one_segment(tmp_path):
    write_mapillary(tmp_path)
    values = np.full((HEIGHT, WIDTH), mapillary_index("Road") * 256, np.uint16)
    values[:9] += 3
    write_image(tmp_path / "training/instances/key0.png", values)
    sample = Mapillary(tmp_path, "train")[0]
    assert len(sample.segments) == 1
    assert (sample.ids == 1).all()


def test_the_test_split_has_images_only(tmp_path):
    write_mapillary(tmp_path)
    with pytest.raises(ValueError, match="split: expected one with ground truth, got 'test'"):
        build_dataset("mapillary", tmp_path, "test")
    data = build_dataset("mapillary", tmp_path, "test", need_labels=False)
    assert (len(data), data[1].name, data[1].segments) == (2, "key1", ())


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        ("validation/images", "images: expected a folder of images, got no such folder"),
        ("validation/instances", "instances: expected a folder of maps of instances of Mapillary Vistas' val split"),
        ("validation/images/key0.jpg", r"instances.key0\.png: expected an image that belongs to it, got none"),
        ("validation/instances/key0.png", r"instances.key0\.png: expected the label map of key0\.jpg"),
        ("config.json", r"config\.json: expected the configuration of Mapillary Vistas 1\.2, got no such file"),
    ],
)
def test_missing(tmp_path, remove, message):
    (write_mapillary(tmp_path / "vistas") / remove).rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=message):
        Mapillary(tmp_path / "vistas", "val")


def renamed(labels: list[dict]) -> list[dict]:
    return [row | {"readable": "Bike Path"} if row["readable"] == "Bike Lane" else row for row in labels]


def swapped(labels: list[dict]) -> list[dict]:
    return [row | {"instances": True} if row["readable"] == "Curb" else row for row in labels]


def version_2(labels: list[dict]) -> list[dict]:
    return labels + labels[:58]


def without_instances(labels: list[dict]) -> list[dict]:
    return [{"readable": row["readable"], "evaluate": row["evaluate"]} for row in labels]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed, r"expected label 7 to be .* \('Bike Lane', False, True\), got \('Bike Path', False, True\)"),
        (swapped, r"expected label 2 to be .* \('Curb', False, True\), got \('Curb', True, True\)"),
        (version_2, r"expected the 66 labels of Mapillary Vistas 1\.2, got 124"),
        (without_instances, "expected labels with readable, instances and evaluate, got no field 'instances'"),
    ],
)
def test_configuration_of_other_labels(tmp_path, change, message):
    write_mapillary(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"labels": change(mapillary_labels())}))
    with pytest.raises(ValueError, match=rf"config\.json: {message}"):
        Mapillary(tmp_path, "val")


def test_damaged_configuration(tmp_path):
    write_mapillary(tmp_path)
    (tmp_path / "config.json").write_bytes(b'{"labels": [')
    with pytest.raises(ValueError, match=r"config\.json: expected JSON, got"):
        Mapillary(tmp_path, "val")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((7, WIDTH), 256, np.uint16), r"expected the size of its image, \[64, 96\], got \[7, 96\]"),
        (np.full((HEIGHT, WIDTH), 66 * 256 + 2, np.uint16), r"expected labels in 0\.\.65, got 66 in the value 16898"),
        (np.full((HEIGHT, WIDTH), 2, np.uint8), r"expected a single-channel 16-bit image, got uint8 \[64, 96\]"),
    ],
)
def test_bad_map(tmp_path, values, message):
    write_image(write_mapillary(tmp_path) / "validation/instances/key0.png", values)
    with pytest.raises(ValueError, match=rf"key0\.png: {message}"):
        Mapillary(tmp_path, "val")[0]


def test_a_jpeg_that_ends_too_early(tmp_path):
    # Some versions of OpenCV fill what lacks with gray and say nothing.
    path = write_mapillary(tmp_path) / "validation/images/key0.jpg"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"key0\.jpg: expected a whole image, got a file that ends too early, after"):
        Mapillary(tmp_path, "val")[0]
