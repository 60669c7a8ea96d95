import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

import lpsnet.engine
from lpsnet import LPSNet
from lpsnet.config import PostprocessConfig
from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.engine import Engine

CONFIG = PostprocessConfig(score_threshold=0.01, paste_score=0.0, stuff_area_limit=8)


@pytest.fixture(scope="module")
def engine(tiny_checkpoint):
    with lpsnet.engine.load(tiny_checkpoint) as engine:
        yield engine


@pytest.mark.parametrize("size", [(128, 192), (31, 500), (1, 1), (700, 90)])
def test_the_map_has_the_size_of_the_image(engine, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    result = engine.predict(image)
    assert result.ids.shape == size
    assert list(result.timings) == ["preprocess", "network", "postprocess"]
    assert sum(s.area for s in result.segments) == (result.ids > 0).sum()


def test_a_profile_changes_the_timings_alone(engine):
    image = SyntheticScenes(1)[0].image
    fast, profiled = engine.predict(image, CONFIG), engine.predict(image, CONFIG, profile=True)
    assert np.array_equal(fast.ids, profiled.ids)
    assert fast.segments == profiled.segments
    stages = ["preprocess", "network", "decode", "nms", "upsample_argmax", "paste_boxes"]
    assert list(profiled.timings) == stages


def test_a_path_and_a_model_work_too(tiny_checkpoint, tmp_path):
    image = SyntheticScenes(1)[0].image
    cv2.imwrite(str(tmp_path / "scene.png"), image[..., ::-1])
    engine = Engine.of(LPSNet.from_pretrained(tiny_checkpoint))
    result = engine.predict(tmp_path / "scene.png", CONFIG)
    assert next(iter(result.timings)) == "read"
    assert np.array_equal(result.ids, engine.predict(image, CONFIG).ids)
    info = result.segments_info[0]
    assert {"id", "label_id", "score", "was_fused"} <= set(info)
    assert info["area"] == (result.segmentation == info["id"]).sum()


def test_a_large_image(engine):
    image = np.zeros((2000, 3000, 3), np.uint8)
    image[:1000] = 200
    assert engine.predict(image).ids.shape == (2000, 3000)


def test_threads_share_an_engine(engine):
    scenes = SyntheticScenes(16)
    images = [scenes[i].image for i in range(16)]
    expected = [engine.predict(image, CONFIG).ids for image in images]
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda image: engine.predict(image, CONFIG).ids, images))
    assert all(np.array_equal(a, b) for a, b in zip(results, expected, strict=True))


def test_mistakes_are_named(tiny_checkpoint):
    with pytest.raises(ValueError, match="device: expected cpu, cuda, cuda:N, tensorrt or tensorrt:N, got 'tpu'"):
        lpsnet.engine.load(tiny_checkpoint, "tpu")
    with pytest.raises(ValueError, match="lpsnet_lite0_camvid"):
        lpsnet.engine.load("upsnet")
    engine = lpsnet.engine.load(tiny_checkpoint)
    with pytest.raises(ValueError, match=r"image: expected uint8 \[H, W, 3\], got float64 \[4, 4, 3\]"):
        engine.predict(np.zeros((4, 4, 3)))
    engine.close()
    with pytest.raises(ValueError, match="expected an open engine"):
        engine.predict(np.zeros((4, 4, 3), np.uint8))


def test_warm_up(engine):
    engine.warm_up(40, 60)
    for size in ((0, 60), (40, -1), (40, 60, 0)):
        with pytest.raises(ValueError, match="height, width, frames: expected at least 1, got"):
            engine.warm_up(*size)


def test_the_packaged_model_segments_a_photograph():
    from lpsnet.engine.sample import sample_photograph

    result = lpsnet.engine.load("lpsnet_lite0_camvid").predict(sample_photograph())
    share = {result.categories[s.label].name: s.area / result.ids.size for s in result.segments}
    assert share["Sky"] > 0.35
    assert share["Building"] > 0.1
    assert share["Tree"] > 0.2


def test_import_is_free_of_torch():
    code = "import sys, lpsnet.engine, lpsnet.visualize, lpsnet.coco_format; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
