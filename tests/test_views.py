import dataclasses
import math

import numpy as np
import pytest
import torch

from lpsnet.categories import categories
from lpsnet.config import BOX_STRIDES, InputConfig, PostprocessConfig
from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.data.transforms import flip
from lpsnet.evaluation.box_levels import levels_of_size
from lpsnet.evaluation.predictor import Predictor
from lpsnet.evaluation.views import View, ViewMerger, views_of
from lpsnet.inference import DenseArrays, NetworkInput, detections, paste, postprocess, prepare, semantic_labels
from lpsnet.models.lpsnet import LPSNet
from lpsnet.structures import PanopticResult

CLASSES = categories("synthetic")
BOUNDS = (0, 32, 64, 128, 256, math.inf)
CONFIG = PostprocessConfig(score_threshold=0.05, paste_score=0.1, stuff_area_limit=20)
ALIGNED = InputConfig(short_side=128, max_side=256)
"""Of a 128 x 256 image: a multiple of every stride, so that the cells of a mirrored view are those of the plain one."""


def scene(seed: int, prepared: NetworkInput) -> DenseArrays:
    """Random dense outputs: blocks of classes, boxes of plausible size."""
    rng = np.random.default_rng(seed)
    height, width = prepared.images.shape[2:]
    blocks = rng.normal(0, 3, (len(CLASSES), height // 32, width // 32))
    logits = np.kron(blocks, np.ones((8, 8))) + rng.normal(0, 0.3, (len(CLASSES), height // 4, width // 4))
    sizes = [(-(-height // s), -(-width // s)) for s in BOX_STRIDES]
    return DenseArrays(
        logits.astype(np.float32),
        [rng.uniform(5, 60, (4, *size)).astype(np.float32) for size in sizes],
        [rng.uniform(0, 1, size).astype(np.float32) for size in sizes],
    )


def mirror(dense: DenseArrays) -> DenseArrays:
    """What a perfectly symmetric network computes of the mirrored image, where cells fill the width."""
    return DenseArrays(
        np.ascontiguousarray(dense.logits[..., ::-1]),
        [np.ascontiguousarray(level[[2, 1, 0, 3], :, ::-1]) for level in dense.ltrb],
        [np.ascontiguousarray(level[:, ::-1]) for level in dense.borderness],
    )


def merged(*views: tuple[View, NetworkInput, DenseArrays], config: PostprocessConfig = CONFIG):
    merger = ViewMerger(CLASSES, config, BOUNDS)
    for view in views:
        merger.add(*view)
    return merger.result()


def assert_same(result: PanopticResult, expected: PanopticResult) -> None:
    assert np.array_equal(result.ids, expected.ids)
    assert [s.label for s in result.segments] == [s.label for s in expected.segments]
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_allclose(
            getattr(result.detections, name), getattr(expected.detections, name), rtol=1e-5, atol=1e-3
        )


def test_the_reference_comes_first():
    assert views_of((0.75, 1.0, 1.25), False) == (View(1.0), View(1.25), View(0.75))
    assert views_of((1.0,), True) == (View(1.0), View(1.0, True))
    assert views_of((0.5, 2.0), True)[0] == View(0.5)
    for bad in ((), (1.0, 1.0), (0.0,), (-1.0,), (math.nan,), (math.inf,)):
        with pytest.raises(ValueError, match="scales: expected distinct numbers above 0"):
            views_of(bad, False)


def test_a_view_is_the_scaled_and_mirrored_input():
    image = np.random.default_rng(0).integers(0, 256, (100, 150, 3), np.uint8)
    config = InputConfig(short_side=96, max_side=400)
    assert View(0.5).prepare(image, config).image_size == (48, 72)
    assert View(1.5).prepare(image, config).output_size == (100, 150)
    plain, twice = View().prepare(image, config), View(1.0, True).prepare(image[:, ::-1], config)
    assert np.array_equal(plain.images, prepare(image, config).images)
    assert np.array_equal(plain.images, twice.images)  # the mirrored view of the mirrored image


@pytest.mark.parametrize("fill_stuff", [False, True])
def test_one_view_gives_the_plain_result(fill_stuff):
    prepared = prepare(np.zeros((90, 141, 3), np.uint8), InputConfig(short_side=120, max_side=250))
    config = dataclasses.replace(CONFIG, fill_stuff=fill_stuff)
    for seed in range(3):
        dense = scene(seed, prepared)
        inputs = merged((View(), prepared, dense), config=config)
        assert_same(paste(inputs, CLASSES, config), postprocess(dense, prepared, CLASSES, config))
        assert np.array_equal(inputs.labels, semantic_labels(dense, prepared))


def test_a_symmetric_network_gains_nothing_from_the_mirror():
    prepared = prepare(np.zeros((128, 256, 3), np.uint8), ALIGNED)
    for seed in range(3):
        dense = scene(seed, prepared)
        inputs = merged((View(), prepared, dense), (View(1.0, True), prepared, mirror(dense)))
        for level, expected in zip(inputs.borderness, dense.borderness, strict=True):
            np.testing.assert_allclose(level, expected, atol=1e-6)
        assert_same(paste(inputs, CLASSES, CONFIG), postprocess(dense, prepared, CLASSES, CONFIG))


def test_the_order_of_a_view_and_its_mirror_mirrors_the_result():
    """Merging (a, b) in the frame of a and (b, a) in the frame of b are mirror images."""
    prepared = prepare(np.zeros((128, 256, 3), np.uint8), ALIGNED)
    a, b = scene(1, prepared), scene(2, prepared)
    plain = merged((View(), prepared, a), (View(1.0, True), prepared, b))
    turned = merged((View(1.0, True), prepared, b), (View(), prepared, a))
    assert (plain.labels == turned.labels[:, ::-1]).mean() > 0.9999
    boxes = detections(turned.boxes, prepared).boxes
    boxes[:, [0, 2]] = 256 - boxes[:, [2, 0]]
    np.testing.assert_allclose(detections(plain.boxes, prepared).boxes, boxes, atol=1e-3)
    for level, other in zip(plain.borderness, turned.borderness, strict=True):
        np.testing.assert_allclose(level, other[:, ::-1], atol=1e-6)


def cell_centres(prepared: NetworkInput, stride: int, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """Where the cells of a view lie in the image, as (y[h, 1], x[1, w])."""
    height, width = (-(-side // stride) for side in prepared.images.shape[2:])
    y = (np.arange(height)[:, None] + 0.5) * stride / prepared.scale[0]
    x = (np.arange(width)[None] + 0.5) * stride / prepared.scale[1]
    return y, (prepared.output_size[1] - x if mirrored else x)


def field_view(view: View, image: np.ndarray, config: InputConfig) -> tuple[View, NetworkInput, DenseArrays]:
    """Dense outputs that are functions of the place in the image alone, linear so that no resampling changes them."""
    prepared = view.prepare(image, config)
    y, x = cell_centres(prepared, 4, view.mirrored)
    slopes = np.linspace(-0.7, 0.7, len(CLASSES))[:, None, None]
    probabilities = 0.5 + slopes * ((x - 80) / 400 + (y - 60) / 900)
    logits = np.log(probabilities / probabilities.sum(0))
    ltrb, borderness = [], []
    for stride in BOX_STRIDES:
        y, x = cell_centres(prepared, stride, view.mirrored)
        ltrb.append(np.full((4, *np.broadcast_shapes(y.shape, x.shape)), 1.5 * stride))
        borderness.append(0.3 + x / 1000 + y / 2000)
    as_floats = [[a.astype(np.float32) for a in arrays] for arrays in (ltrb, borderness)]
    return view, prepared, DenseArrays(logits.astype(np.float32), *as_floats)


def test_maps_of_all_views_meet_at_the_same_places():
    image, config = np.zeros((120, 163, 3), np.uint8), InputConfig(short_side=130, max_side=400)
    views = [field_view(view, image, config) for view in views_of((0.75, 1.0, 1.25), True)]
    reference, inputs = views[0], merged(*views)
    assert (inputs.labels == semantic_labels(reference[2], reference[1])).mean() > 0.999
    for level, (found, expected) in enumerate(zip(inputs.borderness, reference[2].borderness, strict=True)):
        # At the outer cells a mirrored view has nothing further to interpolate with.
        y, x = cell_centres(reference[1], BOX_STRIDES[level], False)
        margin = BOX_STRIDES[level] / reference[1].scale[1]
        inside = (x > margin) & (x < 163 - margin) & (y > -1)
        np.testing.assert_allclose(found[inside], expected[inside], atol=1e-4)


def test_boxes_of_other_views_land_on_the_same_object():
    image, config = np.zeros((128, 192, 3), np.uint8), InputConfig(short_side=128, max_side=400)
    object_box, label = (32.0, 40.0, 96.0, 104.0), next(i for i, c in enumerate(CLASSES) if c.isthing)

    def seen(view: View, level: int, score: float):
        prepared = view.prepare(image, config)
        dense = scene(0, prepared)
        logits, ltrb = np.full_like(dense.logits, -20), [np.zeros_like(level) for level in dense.ltrb]
        borderness = [np.full_like(level, 0.1) for level in dense.borderness]
        logits[label] = 20
        y, x = cell_centres(prepared, BOX_STRIDES[level], view.mirrored)
        row, column = np.abs(y[:, 0] - 72).argmin(), np.abs(x[0] - 64).argmin()
        x1, y1, x2, y2 = object_box
        left, right = x[0, column] - x1, x2 - x[0, column]
        sides = [right, y[row, 0] - y1, left, y2 - y[row, 0]] if view.mirrored else None
        sides = sides or [left, y[row, 0] - y1, right, y2 - y[row, 0]]
        ltrb[level][:, row, column] = np.array(sides) * view.scale
        borderness[level][row, column] = score
        return view, prepared, DenseArrays(logits, ltrb, borderness)

    views = [seen(View(), 1, 0.5), seen(View(1.0, True), 1, 0.7), seen(View(2.0), 2, 0.9), seen(View(0.5), 0, 0.6)]
    inputs = merged(*views)
    found = detections(inputs.boxes, inputs.prepared)
    best = found.scores > 0.45
    assert best.sum() == 1  # four views of one object
    np.testing.assert_allclose(found.boxes[best], [object_box], atol=1e-3)
    assert found.scores[best] == pytest.approx([0.9])
    # Half its side is 32: the first level learns it at scale 1, though the best view saw it on the third.
    assert inputs.boxes.levels[best].tolist() == [0]
    assert merged(*views[:2]).boxes.levels[:1].tolist() == [1]  # of the reference's scale: as decoded


def test_levels_follow_the_rule_of_the_targets():
    sides = np.array([1, 63.9, 64, 64.1, 128, 512, 513, 1e6], np.float32)
    boxes = np.stack([np.zeros_like(sides), np.zeros_like(sides), sides, sides / 2], 1)
    assert levels_of_size(boxes, BOUNDS).tolist() == [0, 0, 0, 1, 1, 3, 4, 4]
    assert levels_of_size(boxes[:0], BOUNDS).shape == (0,)


@pytest.fixture(scope="module")
def model(tiny_recipe) -> LPSNet:
    torch.manual_seed(1)
    return LPSNet(tiny_recipe).eval()


def test_the_plain_predictor_is_the_plain_path_bit_for_bit(model):
    config = dataclasses.replace(CONFIG, score_threshold=0.01, paste_score=0.0)
    sample = SyntheticScenes(1, size=(90, 130))[0]
    result, labels = Predictor(model, config=config, scales=(1.0,))(sample)
    prepared = prepare(sample.image, model.recipe.input)
    with torch.inference_mode():
        dense = DenseArrays.of(model(torch.from_numpy(prepared.images), prepared.image_size))
    expected = postprocess(dense, prepared, CLASSES, config)
    assert np.array_equal(labels, semantic_labels(dense, prepared))
    assert np.array_equal(result.ids, expected.ids)
    assert result.segments == expected.segments
    for name in ("boxes", "scores", "labels"):
        assert np.array_equal(getattr(result.detections, name), getattr(expected.detections, name))
    assert len(result.detections) > 0


def test_a_mirrored_sample_gives_the_mirrored_result(model):
    config = dataclasses.replace(CONFIG, score_threshold=0.01, paste_score=0.0, topk=50)
    predict = Predictor(model, config=config, scales=(1.0, 1.5), flip=True)
    sample = SyntheticScenes(1, size=(128, 256))[0]
    recipe_input = model.recipe.input
    assert recipe_input.resized(128, 256) == (96, 192)
    (result, labels), (turned, turned_labels) = predict(sample), predict(flip(sample))
    assert (labels == turned_labels[:, ::-1]).mean() > 0.999
    assert len(result.detections) == len(turned.detections) > 0
    boxes = turned.detections.boxes.copy()
    boxes[:, [0, 2]] = 256 - boxes[:, [2, 0]]
    same = np.abs(result.detections.boxes[:10, None] - boxes[None]).max(-1).min(1)
    assert same.max() < 0.1
