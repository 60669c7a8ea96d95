"""Exported files in the engine: the same ids as the checkpoint, and one line for whatever is wrong with a file."""

import dataclasses
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

import lpsnet.engine
from lpsnet.artifact import ArtifactInfo
from lpsnet.config import PostprocessConfig, Recipe, RuntimeConfig
from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.export.agreement import agreement
from lpsnet.export.run import OnnxOptions, write_onnx
from lpsnet.models.lpsnet import LPSNet

CONFIG = PostprocessConfig(score_threshold=0.01, paste_score=0.0, stuff_area_limit=8)
PROFILES = ("panoptic", "dense")


@pytest.fixture(scope="module")
def files(tiny_checkpoint, tmp_path_factory):
    """The tiny network in both profiles."""
    model = LPSNet.from_pretrained(tiny_checkpoint)
    folder = tmp_path_factory.mktemp("onnx")
    paths = {profile: folder / f"{profile}.onnx" for profile in PROFILES}
    for profile, path in paths.items():
        write_onnx(model, path, OnnxOptions(profile=profile))
    return paths


@pytest.fixture(scope="module", params=PROFILES)
def engine(request, files):
    with lpsnet.engine.load(files[request.param], RuntimeConfig(threads=1)) as engine:
        yield engine


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint):
    with lpsnet.engine.load(tiny_checkpoint) as engine:
        yield engine


def scene(index: int) -> np.ndarray:
    return SyntheticScenes(index + 1)[index].image


@pytest.mark.parametrize("height", [97, 128])
def test_the_page_shows_how_to_run_a_file_without_the_package(files, checkpoint, tmp_path, height, capsys):
    page = (Path(__file__).parents[1] / "docs" / "export.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    image = scene(3)[:height]
    cv2.imwrite(str(tmp_path / "street.png"), image[..., ::-1])
    for name, path in (("lpsnet_lite0_camvid.onnx", files["panoptic"]), ("street.jpg", tmp_path / "street.png")):
        assert f'"{name}"' in code
        code = code.replace(f'"{name}"', repr(str(path)))
    names: dict[str, Any] = {}
    exec(code, names)
    expected = checkpoint.predict(image)
    assert np.array_equal(names["result"]["ids"], expected.ids)
    assert len(capsys.readouterr().out.splitlines()) == len(expected.segments) > 0


def damaged(source, target, change) -> str:
    """A copy of a model after a change; its path."""
    model = onnx.load(source)
    change(model)
    onnx.save(model, target)
    return str(target)


@pytest.mark.parametrize("config", [CONFIG, None], ids=["low thresholds", "the recipe's"])
def test_ids_are_those_of_the_checkpoint(engine, checkpoint, config):
    for i in range(6):
        got, want = engine.predict(scene(i), config), checkpoint.predict(scene(i), config)
        assert np.array_equal(got.ids, want.ids)
        assert [dataclasses.replace(s, score=0) for s in got.segments] == [
            dataclasses.replace(s, score=0) for s in want.segments
        ]
        np.testing.assert_allclose([s.score for s in got.segments], [s.score for s in want.segments], atol=1e-5)
        np.testing.assert_allclose(got.detections.boxes, want.detections.boxes, atol=1e-3)
        assert got.categories == want.categories


@pytest.mark.parametrize("size", [(128, 192), (31, 500), (1, 1), (700, 90), (2, 300)])
def test_any_size(engine, checkpoint, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    got = engine.predict(image, CONFIG)
    assert got.ids.shape == size
    assert got.ids.dtype == np.int32
    assert sum(s.area for s in got.segments) == (got.ids > 0).sum()
    # Where the image is resized, rounding differs, and noise through random weights is full of near ties.
    assert agreement(checkpoint.predict(image, CONFIG), got) > 0.95


def test_images_of_any_layout(engine):
    image = scene(0)
    expected = engine.predict(image, CONFIG).ids
    assert np.array_equal(engine.predict(np.asfortranarray(image), CONFIG).ids, expected)
    assert np.array_equal(engine.predict(image[::-1][::-1], CONFIG).ids, expected)
    read_only = image.copy()
    read_only.flags.writeable = False
    assert np.array_equal(engine.predict(read_only, CONFIG).ids, expected)


def test_every_setting_has_its_effect(engine, checkpoint):
    image = scene(1)
    changes = [
        {"score_threshold": 0.5},
        {"topk": 3},
        {"iou_threshold": 0.0},
        {"max_detections": 2},
        {"paste_score": 0.9},
        {"overlap_threshold": 0.0},
        {"stuff_area_limit": 10**6},
    ]
    for change in changes:
        config = dataclasses.replace(CONFIG, **change)
        got, want = engine.predict(image, config), checkpoint.predict(image, config)
        assert np.array_equal(got.ids, want.ids), change
        assert len(got.detections) == len(want.detections), change


def test_threads_share_an_engine(engine):
    images = [scene(i % 4) for i in range(32)]
    expected = [engine.predict(image, CONFIG).ids for image in images[:4]]
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda image: engine.predict(image, CONFIG).ids, images))
    assert all(np.array_equal(ids, expected[i % 4]) for i, ids in enumerate(results))


def test_timings_and_what_it_runs_on(files):
    stages = {"panoptic": ["model"], "dense": ["preprocess", "network", "postprocess"]}
    for profile, path in files.items():
        with lpsnet.engine.load(path) as engine:
            assert list(engine.predict(scene(0)).timings) == stages[profile]
            assert "CPUExecutionProvider" in engine.runs_on
            assert "fp32" in engine.runs_on


def test_the_content_decides_not_the_name(files, tiny_checkpoint, tmp_path):
    shutil.copy(files["dense"], tmp_path / "model.safetensors")
    shutil.copy(tiny_checkpoint, tmp_path / "model.onnx")
    assert "onnxruntime" in lpsnet.engine.load(tmp_path / "model.safetensors").runs_on
    assert "torch" in lpsnet.engine.load(tmp_path / "model.onnx").runs_on


def test_a_closed_engine(files):
    for path in files.values():
        engine = lpsnet.engine.load(path)
        engine.close()
        engine.close()
        with pytest.raises(ValueError, match="expected an open engine"):
            engine.predict(scene(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iou_threshold": 1.5}, r"iou_threshold: expected a number in \[0, 1\], got 1.5"),
        ({"score_threshold": float("nan")}, r"score_threshold: expected a number in \[0, 1\], got nan"),
        ({"overlap_threshold": -1.0}, r"overlap_threshold: expected a number in \[0, 1\], got -1"),
        ({"max_detections": -1}, "max_detections: expected at least 0, got -1"),
        ({"topk": -1}, "topk: expected 0 to"),
        ({"stuff_area_limit": -5}, "stuff_area_limit: expected at least 0"),
        ({"assignment": "nearest"}, "assignment: expected"),
    ],
)
def test_absurd_settings(engine, change, message):
    with pytest.raises(ValueError, match=message):
        engine.predict(scene(0), dataclasses.replace(CONFIG, **change))


@pytest.mark.parametrize(
    ("shape", "dtype"), [((0, 4, 3), "uint8"), ((4, 4), "uint8"), ((4, 4, 3), "float64"), ((4, 4, 4), "uint8")]
)
def test_other_images(engine, shape, dtype):
    image = np.zeros(shape, dtype)
    with pytest.raises(ValueError, match=r"image: expected uint8 \[H, W, 3\], got"):
        engine.predict(image)


def test_what_is_built_in_cannot_be_changed(files):
    with lpsnet.engine.load(files["panoptic"]) as engine:
        config = dataclasses.replace(CONFIG, assignment="smallest_area")
        with pytest.raises(ValueError, match="assignment: expected 'closest_borderness', which is built into this"):
            engine.predict(scene(0), config)


def test_files_that_are_no_models(files, tmp_path):
    whole = files["dense"].read_bytes()
    contents = {
        "empty": b"",
        "text": b"not a model\n" * 10,
        "plan": b"ptrt" + bytes(100),
        "half": whole[: len(whole) // 2],
        "zeros": b"\x08\x08" + bytes(1000),
        "long header": (2**40).to_bytes(8, "little") + b"{}",
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="expected") as error:
            lpsnet.engine.load(path)
        assert name in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="model: expected a file or one of"):
        lpsnet.engine.load(tmp_path / "missing.onnx")
    with pytest.raises(ValueError, match="model: expected a file or one of"):
        lpsnet.engine.load(tmp_path)


def test_models_of_others(files, tmp_path):
    def forget(model):
        del model.metadata_props[:]

    def rename(model):
        for node in model.graph.node:
            for i, name in enumerate(node.output):
                node.output[i] = "classes" if name == "logits" else name
            for i, name in enumerate(node.input):
                node.input[i] = "classes" if name == "logits" else name
        for output in model.graph.output:
            output.name = "classes" if output.name == "logits" else output.name

    def set_metadata(**values):
        def change(model):
            for entry in model.metadata_props:
                entry.value = values.get(entry.key.rpartition(".")[2], entry.value)

        return change

    cases = [
        (forget, "expected a model that lpsnet-export wrote, got one without its metadata"),
        (rename, "outputs: expected logits .* differs in classes"),
        (set_metadata(format="99"), "expected format 1 of the metadata, got '99'"),
        (set_metadata(recipe="{"), "metadata that do not read"),
        (set_metadata(recipe='{"name": 1}'), "metadata that do not read"),
        (set_metadata(profile="whole"), "profile: expected one of .* got 'whole'"),
        (set_metadata(profile="panoptic"), "inputs: expected image"),
    ]
    for change, message in cases:
        path = damaged(files["dense"], tmp_path / "changed.onnx", change)
        with pytest.raises(ValueError, match=message):
            lpsnet.engine.load(path)


def test_a_model_that_reaches_for_other_files(files, tmp_path):
    """Weights outside of the file are not followed, wherever they point."""
    (tmp_path / "secret").write_bytes(bytes(1 << 20))

    def point_elsewhere(model):
        tensor = next(t for t in model.graph.initializer if len(t.raw_data) > 1000)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        for key, value in (("location", "secret"), ("offset", "0")):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value

    model = onnx.load(files["dense"])
    point_elsewhere(model)
    path = tmp_path / "reaching.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="expected a model that ONNX Runtime loads, got"):
        lpsnet.engine.load(path)


def test_providers_that_are_not_there(files):
    with pytest.raises(ValueError, match=r"device: expected a provider of ONNX Runtime .* got cuda, which is CUDAExec"):
        lpsnet.engine.load(files["dense"], "cuda")
    with pytest.raises(ValueError, match="got tensorrt:1, which is TensorrtExecutionProvider"):
        lpsnet.engine.load(files["dense"], "tensorrt:1")


def test_metadata_survive_the_trip(tiny_recipe):
    info = ArtifactInfo(tiny_recipe, "dense", "int8", "none")
    assert ArtifactInfo.from_metadata(info.to_metadata()) == info
    assert isinstance(info.recipe, Recipe)


BLOCKED = ("torch", "onnx", "onnxscript", "onnx_ir", "safetensors", "hotcoco", "tensorboard", "yaml", "PIL")


def test_torch_is_not_needed(files, tmp_path):
    """The runtime is numpy, OpenCV, ONNX Runtime, tyro and rich: nothing else of what is installed here is imported."""
    np.save(tmp_path / "image.npy", scene(0))
    code = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
import numpy as np
import lpsnet.engine, lpsnet.engine.cli
image = np.load({str(tmp_path / "image.npy")!r})
for path in {[str(p) for p in files.values()]!r}:
    print(len(lpsnet.engine.load(path).predict(image).segments))
try:
    lpsnet.engine.load("lpsnet_lite0_camvid")
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *segments, message = done.stdout.splitlines()
    assert segments[0] == segments[1]
    assert "expected" in message
    assert "to be installed, which runs checkpoints; an .onnx file needs none" in message


@pytest.mark.parametrize("frames", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_memory_does_not_grow(files, frames):
    """Frames of changing sizes leave the process as large as it was."""

    def resident() -> int:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * 4096

    image = scene(0)
    for path in files.values():
        with lpsnet.engine.load(path, RuntimeConfig(threads=1)) as engine:
            for i in range(40):
                engine.predict(image[: 64 + i])
            before = resident()
            for i in range(frames):
                engine.predict(image[: 64 + i % 40])
            assert resident() - before < 32 << 20
