import dataclasses

import numpy as np
import pytest

from lpsnet.categories import categories
from lpsnet.config import BOX_STRIDES, InputConfig, PostprocessConfig
from lpsnet.inference import DenseArrays, StageTimer, postprocess, postprocess_by_stage, prepare, semantic_labels

COCO = categories("coco")


def scene(image: np.ndarray, seed: int) -> tuple[DenseArrays, object]:
    """Random dense outputs for an image: blocks of classes, boxes of plausible size."""
    prepared = prepare(image, InputConfig(short_side=96, max_side=160))
    rng = np.random.default_rng(seed)
    height, width = prepared.images.shape[2:]
    blocks = rng.normal(0, 4, (len(COCO), height // 32, width // 32))
    logits = np.kron(blocks, np.ones((8, 8))) + rng.normal(0, 0.1, (len(COCO), height // 4, width // 4))
    sizes = [(-(-height // s), -(-width // s)) for s in BOX_STRIDES]
    return DenseArrays(
        logits.astype(np.float32),
        [rng.uniform(0, 60, (4, *size)).astype(np.float32) for size in sizes],
        [rng.uniform(0, 1, size).astype(np.float32) for size in sizes],
    ), prepared


@pytest.mark.parametrize("size", [(100, 140), (31, 57), (1, 1), (300, 200)])
@pytest.mark.parametrize("fill_stuff", [False, True])
def test_one_call_equals_the_operators_one_by_one(size, fill_stuff):
    image = np.random.default_rng(3).integers(0, 256, (*size, 3), dtype=np.uint8)
    config = PostprocessConfig(score_threshold=0.01, paste_score=0.0, stuff_area_limit=50, fill_stuff=fill_stuff)
    for seed in range(3):
        dense, prepared = scene(image, seed)
        timer = StageTimer()
        expected = postprocess_by_stage(dense, prepared, COCO, config, timer)
        result = postprocess(dense, prepared, COCO, config)
        assert list(timer.timings) == ["decode", "nms", "upsample_argmax", "paste_boxes"]
        assert result.ids.shape == size
        assert np.array_equal(result.ids, expected.ids)
        assert result.segments == expected.segments
        for name in ("boxes", "scores", "labels"):
            assert np.array_equal(getattr(result.detections, name), getattr(expected.detections, name))


def test_detections_are_in_pixels_of_the_image():
    image = np.zeros((300, 200, 3), np.uint8)
    dense, prepared = scene(image, 0)
    result = postprocess(dense, prepared, COCO, PostprocessConfig(score_threshold=0.01))
    assert len(result.detections) > 0
    assert (result.detections.boxes[:, 2] <= 200 + 1e-3).all()
    assert (result.detections.boxes[:, 3] <= 300 + 1e-3).all()
    assert result.detections.boxes[:, 3].max() > 200


def test_labels_of_the_semantic_head_and_of_the_result_agree():
    dense, prepared = scene(np.zeros((100, 140, 3), np.uint8), 1)
    config = dataclasses.replace(PostprocessConfig(), stuff_area_limit=0)
    labels = semantic_labels(dense, prepared)
    result = postprocess(dense, prepared, COCO, config)
    kept = result.labels()
    assert (kept[kept != 255] == labels[kept != 255]).all()
    assert all(not COCO[label].isthing or (kept == label).any() for label in np.unique(kept[kept != 255]))


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_bad_images_are_named(bad):
    with pytest.raises(ValueError, match=r"image: expected uint8 \[H, W, 3\], got"):
        prepare(bad, InputConfig())
