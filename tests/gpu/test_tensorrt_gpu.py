"""Engines on a GPU beside the checkpoint on the CPU: built here, loaded here, run here."""

import dataclasses
import importlib.util
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from lpsnet import LPSNet
from lpsnet.config import PostprocessConfig, RuntimeConfig
from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.engine import Engine, load
from lpsnet.engine.gpus import gpus
from lpsnet.engine.tensorrt_library import import_tensorrt
from lpsnet.engine_file import SizeRange
from lpsnet.export.agreement import agreement
from lpsnet.export.tensorrt_build import BuildOptions
from lpsnet.export.tensorrt_progress import BuildProgress
from lpsnet.export.tensorrt_run import TensorrtOptions, export_tensorrt, write_tensorrt
from lpsnet.models.deform import DeformConv2d

pytestmark = pytest.mark.gpu

CONFIG = PostprocessConfig(score_threshold=0.01, paste_score=0.0, stuff_area_limit=8)
SIZES = SizeRange((32, 32), (128, 192), (256, 256))


@pytest.fixture(scope="module", params=["tensorrt", "tensorrt-rtx"])
def build_options(request) -> BuildOptions:
    try:
        trt = import_tensorrt(request.param)
    except ImportError as error:
        pytest.skip(str(error))
    if importlib.util.find_spec("pycuda") is None:
        pytest.skip("pycuda is not installed")
    if request.param == "tensorrt":
        return BuildOptions("tensorrt", SIZES)
    target = gpus()[0].target
    if target.upper() not in trt.ComputeCapability.__members__:
        pytest.skip(f"TensorRT-RTX has no code for {target}")
    return BuildOptions("tensorrt-rtx", SIZES, (target,))


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    scenes = SyntheticScenes(6)
    return [scenes[i].image[: 128 - 16 * (i % 3)] for i in range(6)]


def model_of(recipe, deform: str) -> LPSNet:
    torch.manual_seed(0)
    model = LPSNet(dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, deform=deform))).eval()
    for module in model.modules():
        if isinstance(module, DeformConv2d):
            torch.nn.init.normal_(module.offset.weight, std=0.05)
    return model


def progress() -> BuildProgress:
    return BuildProgress(Console(file=io.StringIO()))


def written(model: LPSNet, folder: Path, options: TensorrtOptions, images: list[np.ndarray]) -> Path:
    with progress() as shown:
        return write_tensorrt(model, folder, "m", options, shown, images)[0]


@pytest.mark.parametrize(
    ("deform", "form", "precision", "least"),
    [
        ("off", "standard", "fp32", 0.995),
        ("off", "standard", "fp16", 0.95),
        ("off", "standard", "int8", 0.7),
        ("v1", "standard", "fp32", 0.99),
        ("v2", "standard", "fp32", 0.99),
        ("v2", "standard", "fp16", 0.9),
        ("v1", "gridsample", "fp32", 0.98),
    ],
)
def test_results_are_those_of_the_cpu(build_options, tiny_recipe, images, tmp_path, deform, form, precision, least):
    model = model_of(tiny_recipe, deform)
    options = TensorrtOptions(build_options, precision, form)
    path = written(model, tmp_path, options, images)
    with load(path, "cuda") as engine, Engine.of(model) as expected:
        for image in images:
            want = expected.predict(image, CONFIG)
            assert agreement(want, engine.predict(image, CONFIG)) > least
            assert agreement(want, engine.predict(image, CONFIG, profile=True)) > least


def test_frames_repeat_and_threads_share(build_options, tiny_recipe, images, tmp_path):
    path = written(model_of(tiny_recipe, "v1"), tmp_path, TensorrtOptions(build_options), images)
    for streams in (1, 2):
        with load(path, RuntimeConfig(device="cuda", streams=streams)) as engine:
            want = [engine.predict(image, CONFIG).ids for image in images]
            with ThreadPoolExecutor(16) as pool:
                results = list(pool.map(lambda i: engine.predict(images[i % 6], CONFIG).ids, range(96)))
            assert all(np.array_equal(ids, want[i % 6]) for i, ids in enumerate(results))


def test_frames_keep_no_memory(build_options, tiny_recipe, images, tmp_path):
    path = written(model_of(tiny_recipe, "off"), tmp_path, TensorrtOptions(build_options), images)
    torch.cuda.synchronize()
    with load(path, "cuda") as engine:

        def free(frames: int) -> int:
            for i in range(frames):
                engine.predict(images[i % len(images)], CONFIG)
            return torch.cuda.mem_get_info()[0]

        before = free(20)
        assert free(1000) >= before


def test_an_export_is_proven_here(build_options, tiny_recipe, images, tmp_path):
    with progress() as shown:
        report = export_tensorrt(
            model_of(tiny_recipe, "v1"), tmp_path / "m.engine", TensorrtOptions(build_options), images, shown
        )
    assert report.ran
    assert report.broken == []
    assert set(report.milliseconds) == {"artifact", "checkpoint"}
    assert report.artifact == str(tmp_path / "m.engine")
