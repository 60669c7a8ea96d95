import subprocess
import sys

import cv2
import numpy as np
import pytest

from lpsnet.categories import Category, categories
from lpsnet.structures import PanopticResult, Segment
from lpsnet.visualize import colorize, overlay

SKY, DISC = 0, 3  # of the synthetic classes


def result_of(ids: np.ndarray, labels: list[int], classes: tuple[Category, ...] = categories("synthetic")):
    """The panoptic map of ids 1..K, whose classes are `labels`."""
    segments = []
    for i, label in enumerate(labels, start=1):
        rows, columns = np.nonzero(ids == i)
        box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
        segments.append(Segment(i, label, 0.5, len(rows), box))
    return PanopticResult(ids.astype(np.int32), tuple(segments), classes)


def scene(height: int, width: int) -> tuple[np.ndarray, PanopticResult]:
    """Gray, with sky over void and four discs of which two touch."""
    ids = np.zeros((height, width), np.int32)
    ids[: height // 2] = 1
    quarter = width // 4
    for k in range(4):
        ids[height // 4 : 3 * height // 4, k * quarter : (k + 1) * quarter - k % 2] = k + 2
    return np.full((height, width, 3), 100, np.uint8), result_of(ids, [SKY, DISC, DISC, DISC, DISC])


def test_colorize_gives_stuff_and_first_instances_the_colour_of_their_class():
    _, result = scene(40, 60)
    picture = colorize(result)
    assert picture.shape == (40, 60, 3)
    assert picture.dtype == np.uint8
    classes = categories("synthetic")
    assert np.all(picture[result.ids == 1] == classes[SKY].color)
    assert np.all(picture[result.ids == 2] == classes[DISC].color)
    assert np.all(picture[result.ids == 0] == 0)


@pytest.mark.parametrize("color", [(220, 60, 50), (64, 0, 128), (0, 0, 0), (128, 128, 128), (255, 255, 255)])
def test_instances_of_a_class_can_be_told_apart(color):
    number = 12
    ids = np.arange(1, number + 1).reshape(1, -1)
    result = result_of(ids, [0] * number, (Category(1, "thing", True, color),))
    lab = cv2.cvtColor(colorize(result).astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0]
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(number, 1)]
    assert distances.min() > 2.3  # a just noticeable difference (Mahy et al., 1994)
    assert np.median(distances) > 10
    assert np.array_equal(colorize(result), colorize(result))


def test_overlay_mixes_colour_into_segments_and_leaves_void_and_the_image_alone():
    image, result = scene(200, 300)
    before = image.copy()
    picture = overlay(image, result, alpha=0.5)
    assert np.array_equal(image, before)
    sky = np.array(categories("synthetic")[SKY].color)
    assert np.abs(picture[5, 5].astype(int) - (0.5 * sky + 50)).max() <= 1
    assert picture[-1, 5].tolist() == [100, 100, 100]
    assert np.array_equal(overlay(image, result, alpha=0.5), picture)


def test_touching_instances_have_a_border_between_them():
    image, result = scene(200, 300)
    row = overlay(image, result, alpha=0)[140]  # names aside, without colour only borders are left
    assert row[75].min() > 200
    assert row[60].tolist() == [100, 100, 100]


def test_names_are_drawn_where_there_is_room():
    image, result = scene(400, 600)
    drawn = (overlay(image, result, alpha=0) != 100).any(-1)
    assert drawn.mean() > 0.02
    speck = np.zeros((400, 600), np.int32)
    speck[200:203, 300:303] = 1
    drawn = (overlay(image, result_of(speck, [DISC]), alpha=0) != 100).any(-1)
    assert 0 < drawn.sum() < 60  # its border, no name


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 3), (20, 400)])
@pytest.mark.parametrize("name", ["disc", "a name far too long for any of these images"])
def test_every_size(size, name):
    classes = (Category(1, name, True, (10, 200, 30)),)
    for ids in (np.zeros(size, np.int32), np.ones(size, np.int32)):
        result = result_of(ids, [0] * int(ids.max()), classes)
        assert overlay(np.full((*size, 3), 7, np.uint8), result).shape == (*size, 3)
        assert colorize(result).shape == (*size, 3)


def test_an_image_that_is_a_view_may_be_drawn_on():
    image, result = scene(60, 90)
    assert np.array_equal(overlay(image[:, ::-1, ::-1], result), overlay(image, result))


def test_what_does_not_fit_is_named():
    image, result = scene(40, 60)
    with pytest.raises(ValueError, match=r"image: expected uint8 \[40, 60, 3\], got uint8 \[39, 60, 3\]"):
        overlay(image[1:], result)
    with pytest.raises(ValueError, match=r"image: expected uint8 \[40, 60, 3\], got float32 \[40, 60, 3\]"):
        overlay(image.astype(np.float32), result)
    with pytest.raises(ValueError, match=r"alpha: expected a number in \[0, 1\], got 1.5"):
        overlay(image, result, alpha=1.5)


def test_it_needs_no_torch():
    code = "import sys, lpsnet.visualize, lpsnet.coco_format; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_number_gives_an_object_the_same_colour_in_every_image():
    image, result = scene(200, 300)
    flipped = result_of(result.ids[:, ::-1], [SKY, DISC, DISC, DISC, DISC])
    first = overlay(image, result, alpha=1, numbers={2: 1, 3: 7, 4: 3, 5: 4})
    second = overlay(image, flipped, alpha=1, numbers={2: 4, 3: 3, 4: 7, 5: 1})
    here = {i: tuple(np.median(first[result.ids == i], 0)) for i in range(2, 6)}
    there = {i: tuple(np.median(second[flipped.ids == i], 0)) for i in range(2, 6)}
    assert here[2] == categories("synthetic")[DISC].color
    assert len(set(here.values())) == 4
    assert there == {2: here[5], 3: here[4], 4: here[3], 5: here[2]}
