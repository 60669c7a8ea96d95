"""Engines of TensorRT in the engine, over a fake of it that runs on the host: memory, shapes, streams, mistakes."""

import dataclasses
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fake_tensorrt import VERSION, FakeDevice, FakeTensorrt, put_on_streams

import lpsnet.engine
from lpsnet.artifact import ArtifactInfo
from lpsnet.config import PostprocessConfig
from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.engine import Engine, tensorrt_backend
from lpsnet.engine.tensorrt_backend import TensorrtPipeline
from lpsnet.engine.tensorrt_library import import_tensorrt
from lpsnet.engine_file import EngineManifest, SizeRange, write_engine
from lpsnet.export.run import OnnxOptions, write_onnx
from lpsnet.inference import prepare
from lpsnet.models.lpsnet import LPSNet

CONFIG = PostprocessConfig(score_threshold=0.01, paste_score=0.0, stuff_area_limit=8)
SIZES = SizeRange((32, 32), (128, 192), (512, 512))


@pytest.fixture(scope="module")
def network(tiny_checkpoint, tmp_path_factory):
    """The tiny network as an ONNX file, dense."""
    path = tmp_path_factory.mktemp("onnx") / "dense.onnx"
    write_onnx(LPSNet.from_pretrained(tiny_checkpoint), path, OnnxOptions(profile="dense"))
    return path


@pytest.fixture(scope="module")
def manifest(tiny_recipe):
    info = ArtifactInfo(tiny_recipe, "dense", "fp32", "none")
    return EngineManifest(info, "tensorrt-rtx", VERSION, ("sm86", "sm89"), "", SIZES)


@pytest.fixture(scope="module")
def expected(network):
    with lpsnet.engine.load(network) as engine:
        yield engine


@pytest.fixture
def opened(network, manifest, tmp_path, monkeypatch):
    """Opens pipelines; gives each with its device, its TensorRT, and the calls of liblpsnet."""
    pipelines = []

    def open_(streams=1, content=None, **changes):
        device = FakeDevice()
        trt = FakeTensorrt(device)
        calls = put_on_streams(device, monkeypatch)
        content = network.read_bytes() if content is None else content
        path = tmp_path / "model.engine"
        pipeline = TensorrtPipeline(path, dataclasses.replace(manifest, **changes), content, trt, device, streams)
        pipelines.append(pipeline)
        return pipeline, device, trt, calls

    yield open_
    for pipeline in pipelines:
        pipeline.close()


def scene(index: int) -> np.ndarray:
    return SyntheticScenes(index + 1)[index].image


def assert_same(got, want) -> None:
    assert np.array_equal(got.ids, want.ids)
    assert got.segments == want.segments
    for field in ("boxes", "scores", "labels"):
        assert np.array_equal(getattr(got.detections, field), getattr(want.detections, field))


@pytest.mark.parametrize("size", [(128, 192), (31, 50), (100, 300), (1, 1), (257, 130)])
def test_results_are_those_of_the_same_network_elsewhere(opened, expected, size):
    pipeline, _, _, calls = opened()
    engine = Engine(pipeline)
    for seed in range(3):
        image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        for config in (CONFIG, dataclasses.replace(CONFIG, max_detections=3, fill_stuff=True), None):
            assert_same(engine.predict(image, config), expected.predict(image, config))
    assert calls == ["resize_normalize", "postprocess"] * 9


def test_sizes_take_turns_in_one_memory(opened, expected):
    pipeline, device, _, _ = opened()
    engine = Engine(pipeline)
    images = [scene(i)[: 64 + 8 * (i % 5), : 192 - 16 * (i % 3)] for i in range(8)]
    results = [engine.predict(image, CONFIG) for image in images]
    for image, result in zip(images, results, strict=True):  # none was written over by a later frame
        assert_same(result, expected.predict(image, CONFIG))
    allocations, held = device.allocations, len(device.memory)
    for image in images * 4:
        engine.predict(image, CONFIG)
    assert (device.allocations, len(device.memory)) == (allocations, held)


def test_images_of_any_layout(opened, expected):
    engine = Engine(opened()[0])
    image = scene(0)
    want = expected.predict(image, CONFIG)
    assert_same(engine.predict(np.asfortranarray(image), CONFIG), want)
    assert_same(engine.predict(image[::-1][::-1], CONFIG), want)


def test_dense_outputs(opened, network, tiny_recipe):
    from lpsnet.config import RuntimeConfig
    from lpsnet.engine.onnx_backend import OnnxNetwork
    from lpsnet.engine.onnx_session import OnnxSession

    runtime = RuntimeConfig()
    want_of, pipeline = OnnxNetwork(OnnxSession(network, runtime), network), opened()[0]
    for i in range(2):
        prepared = prepare(scene(i)[: 100 + i], tiny_recipe.input)
        got, want = pipeline.run(prepared), want_of.run(prepared)
        assert np.array_equal(got.logits, want.logits)
        for a, b in zip((*got.ltrb, *got.borderness), (*want.ltrb, *want.borderness), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("streams", [1, 3])
def test_threads_share_an_engine(opened, expected, streams):
    pipeline, device, _, _ = opened(streams=streams)
    engine = Engine(pipeline)
    images = [scene(i)[: 64 + 32 * i] for i in range(3)]
    want = [expected.predict(image, CONFIG) for image in images]
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda i: engine.predict(images[i % 3], CONFIG), range(32)))
    for i, result in enumerate(results):
        assert_same(result, want[i % 3])
    assert len(device.queues) == streams


def test_a_profile_has_a_time_for_every_stage(opened):
    engine = Engine(opened()[0])
    assert list(engine.predict(scene(0)).timings) == ["pipeline"]
    stages = ["upload", "preprocess", "network", "postprocess", "download"]
    assert list(engine.predict(scene(0), profile=True).timings) == stages
    assert engine.runs_on == f"tensorrt-rtx {VERSION} on a test, fp32"


def test_a_closed_engine_holds_nothing(opened):
    pipeline, device, _, _ = opened(streams=2)
    engine = Engine(pipeline)
    for _ in range(3):
        engine.predict(scene(0), CONFIG)
    engine.close()
    assert device.closed
    assert not device.memory
    for closed in (lambda: engine.predict(scene(0)), lambda: pipeline.run(prepare(scene(0), engine.recipe.input))):
        with pytest.raises(ValueError, match="expected an open engine, got one that was closed"):
            closed()


def test_a_frame_that_fails_costs_no_other(opened, expected):
    pipeline, _, trt, _ = opened()
    engine = Engine(pipeline)
    trt.failures.append("[executionContext.cpp]\n out of memory")
    with pytest.raises(RuntimeError, match=r"expected the network to run, got: \[executionContext.cpp\] out of memory"):
        engine.predict(scene(0), CONFIG)
    assert_same(engine.predict(scene(0), CONFIG), expected.predict(scene(0), CONFIG))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score_threshold": float("nan")}, "score_threshold: expected"),
        ({"max_detections": -1}, "max_detections: expected at least 0, got -1"),
        ({"assignment": "nearest"}, "assignment: expected"),
    ],
)
def test_absurd_settings(opened, monkeypatch, change, message):
    pipeline, *_ = opened()
    monkeypatch.undo()  # an operator checks its settings when it is called, not when its turn comes
    device = pipeline._device
    put_through(device, monkeypatch)
    with pytest.raises(ValueError, match=message):
        Engine(pipeline).predict(scene(0), dataclasses.replace(CONFIG, **change))


def put_through(device, monkeypatch):
    """Work on streams happens at once, in the order of the calls."""
    monkeypatch.setattr(device, "enqueue", lambda stream, work: work())


def test_other_images(opened):
    engine = Engine(opened()[0])
    for image in (np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3))):
        with pytest.raises(ValueError, match=r"image: expected uint8 \[H, W, 3\], got"):
            engine.predict(image)


def test_sizes_that_the_engine_was_not_built_for(opened):
    pipeline, device, _, calls = opened(sizes=SizeRange((64, 64), (128, 192), (128, 192)))
    engine = Engine(pipeline)
    held = len(device.memory)
    with pytest.raises(
        ValueError, match=r"expected a network input of 64x64 to 128x192, .* got 192x128 of the 192x128"
    ):
        engine.predict(np.zeros((192, 128, 3), np.uint8))
    assert (len(device.memory), calls) == (held, [])


def test_engines_of_other_versions_and_gpus(opened):
    with pytest.raises(ValueError, match=f"expected an engine of tensorrt-rtx {VERSION}, .* got one of 1.0: export it"):
        opened(tensorrt="1.0")
    with pytest.raises(ValueError, match=r"expected an engine for sm86 \(a test\), got one for sm120: export it again"):
        opened(targets=("sm120",))
    with pytest.raises(ValueError, match=r"got one for sm89 \(NVIDIA L4\)"):
        opened(targets=("sm89",), gpu="NVIDIA L4")


def test_engines_that_do_not_load(opened, tmp_path):
    with pytest.raises(ValueError, match="expected an engine that TensorRT loads, got: Serialization failed:") as error:
        opened(content=b"nonsense")
    assert "\n" not in str(error.value)


def test_engines_with_other_tensors(opened, network):
    import onnx

    model = onnx.load(network)
    del model.graph.output[-1]
    with pytest.raises(ValueError, match="expected an engine from images to dense outputs in float32, got tensors"):
        opened(content=model.SerializeToString())


def test_the_content_of_a_file_decides(manifest, network, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    write_engine(path, manifest, network.read_bytes())
    with pytest.raises(ValueError, match="device: expected cuda or cuda:N for an engine of tensorrt-rtx, got cpu"):
        lpsnet.engine.load(path)
    device = FakeDevice()
    monkeypatch.setattr(tensorrt_backend, "import_tensorrt", lambda flavour: FakeTensorrt(device))
    monkeypatch.setattr(tensorrt_backend, "CudaDevice", lambda index: device)
    put_on_streams(device, monkeypatch)
    with lpsnet.engine.load(path, "cuda:0") as engine:
        assert engine.predict(scene(0)).ids.shape == (128, 192)
    assert device.closed
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="a truncated file"):
        lpsnet.engine.load(path, "cuda")


def test_a_device_is_let_go_when_an_engine_does_not_open(manifest, tmp_path, monkeypatch):
    path = tmp_path / "model.engine"
    write_engine(path, manifest, b"nonsense")
    device = FakeDevice()
    monkeypatch.setattr(tensorrt_backend, "import_tensorrt", lambda flavour: FakeTensorrt(device))
    monkeypatch.setattr(tensorrt_backend, "CudaDevice", lambda index: device)
    with pytest.raises(ValueError, match="expected an engine that TensorRT loads"):
        lpsnet.engine.load(path, "cuda")
    assert device.closed


BLOCKED = ("torch", "onnx", "onnxscript", "onnx_ir", "onnxruntime", "safetensors", "tensorrt", "tensorrt_bindings")


def test_neither_torch_nor_onnx_is_needed_and_what_is_missing_is_named(manifest, tmp_path):
    write_engine(tmp_path / "a.engine", dataclasses.replace(manifest, flavour="tensorrt"), b"engine")
    code = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
import lpsnet.engine
try:
    lpsnet.engine.load({str(tmp_path / "a.engine")!r}, "cuda")
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "expected tensorrt to be installed: pip install 'lpsnet[tensorrt]'"


def test_pycuda_is_named_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    from lpsnet.engine.device_memory import CudaDevice

    with pytest.raises(
        ModuleNotFoundError, match=r"expected pycuda to be installed, .* pip install 'lpsnet\[pycuda\]'"
    ):
        CudaDevice(0)


def test_the_fake_has_no_names_of_its_own():
    try:
        real = import_tensorrt("tensorrt-rtx")
    except ImportError as error:
        pytest.skip(str(error))
    names = {
        real: ["__version__", "Runtime", "ILogger", "TensorIOMode", "DataType"],
        real.Runtime: ["deserialize_cuda_engine"],
        real.ICudaEngine: [
            "num_io_tensors",
            "get_tensor_name",
            "get_tensor_mode",
            "get_tensor_dtype",
            "create_execution_context",
        ],
        real.IExecutionContext: ["set_input_shape", "get_tensor_shape", "set_tensor_address", "execute_async_v3"],
        real.ILogger.Severity: ["INTERNAL_ERROR", "ERROR", "WARNING"],
        real.TensorIOMode: ["INPUT", "OUTPUT"],
        real.DataType: ["FLOAT", "HALF"],
    }
    for owner, expected in names.items():
        assert [name for name in expected if not hasattr(owner, name)] == []
