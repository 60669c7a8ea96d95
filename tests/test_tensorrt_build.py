"""Engines that TensorRT-RTX really builds, without a GPU, for some; and what is said where it cannot."""

import ctypes
import dataclasses
import io
import json
import re
import subprocess
import sys

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper
from rich.console import Console

from lpsnet.config import InputConfig
from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.engine import tensorrt_library
from lpsnet.engine.gpus import Gpu
from lpsnet.engine.library_alias import alias_library
from lpsnet.engine.tensorrt_library import Messages, import_tensorrt
from lpsnet.engine.tensorrt_plugin import NAME, DeformConv
from lpsnet.engine_file import SizeRange, read_engine, read_manifest
from lpsnet.export import cli, tensorrt_build
from lpsnet.export.tensorrt_build import DEFAULT_TARGETS, BuildOptions, build
from lpsnet.export.tensorrt_network import prepare_deform_convs
from lpsnet.export.tensorrt_progress import BuildProgress
from lpsnet.export.tensorrt_run import TensorrtOptions, size_range, write_tensorrt
from lpsnet.models.deform import DeformConv2d
from lpsnet.models.lpsnet import LPSNet
from lpsnet.native import deform_conv2d
from lpsnet.native.library import CPU, FLOAT16, FLOAT32

SIZES = SizeRange((32, 32), (128, 192), (256, 256))
RTX = BuildOptions("tensorrt-rtx", SIZES, ("sm86",))


@pytest.fixture(scope="module")
def rtx():
    try:
        return import_tensorrt("tensorrt-rtx")
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


class Recorded(BuildProgress):
    """Keeps the names of stages and phases."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO(), force_terminal=True))
        self.stages: list[str] = []
        self.phases: list[str] = []
        self.steps = 0

    def stage(self, name):
        self.stages.append(name)
        super().stage(name)

    def start(self, phase, parent, steps):
        self.phases.append(phase)
        super().start(phase, parent, steps)

    def step(self, phase, step):
        self.steps += 1
        super().step(phase, step)


def model_of(recipe, **changes) -> LPSNet:
    torch.manual_seed(0)
    model = LPSNet(dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **changes))).eval()
    for module in model.modules():
        if isinstance(module, DeformConv2d):
            torch.nn.init.normal_(module.offset.weight, std=0.1)
    return model


@pytest.fixture(scope="module")
def plain(rtx, tiny_recipe, tmp_path_factory):
    """The paths of an engine and of its ONNX file, and how the build went."""
    folder = tmp_path_factory.mktemp("plain")
    with Recorded() as progress:
        options = TensorrtOptions(RTX)
        engine, source = write_tensorrt(model_of(tiny_recipe), folder, "plain", options, progress)
    return engine, source, progress


def test_an_engine_and_its_manifest(plain, rtx, tiny_recipe):
    engine, source, progress = plain
    manifest, content = read_engine(engine)
    assert len(content) > 1e6
    assert (manifest.flavour, manifest.tensorrt, manifest.gpu) == ("tensorrt-rtx", rtx.__version__, "")
    assert (manifest.targets, manifest.sizes) == (("sm86",), SIZES)
    info = manifest.info
    assert (info.recipe, info.profile, info.precision, info.deform_conv) == (tiny_recipe, "dense", "fp32", "none")
    assert onnx.load(source).graph.node
    assert progress.stages == ["writing fp32", "building for tensorrt-rtx"]
    assert progress.phases
    assert progress.steps


@pytest.mark.parametrize(
    ("deform", "options", "operator"),
    [
        ("v2", TensorrtOptions(dataclasses.replace(RTX, targets=()), "fp16", "standard"), "DeformConv"),
        ("v1", TensorrtOptions(RTX, "fp32", "gridsample"), "GridSample"),
    ],
    ids=["plugin", "gridsample"],
)
def test_both_forms_of_deformable_convolutions_build(rtx, tiny_recipe, tmp_path, deform, options, operator):
    with Recorded() as progress:
        engine, source = write_tensorrt(model_of(tiny_recipe, deform=deform), tmp_path, "m", options, progress)
    manifest = read_manifest(engine)
    assert (manifest.info.precision, manifest.info.deform_conv) == (options.precision, options.deform_conv)
    assert manifest.targets == (options.build.targets or DEFAULT_TARGETS)
    assert operator in {node.op_type for node in onnx.load(source).graph.node}


def test_int8_builds(rtx, plain, tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("lpsnet.export.tensorrt_run.export_dense", lambda *_, half: ir.load(plain[1]))
    images = [SyntheticScenes(1)[0].image]
    with Recorded() as progress:
        options = TensorrtOptions(RTX, "int8")
        engine, source = write_tensorrt(model_of(tiny_recipe), tmp_path, "m", options, progress, images)
    assert read_manifest(engine).info.precision == "int8"
    zeros = {
        i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(source).graph.initializer if "zero_point" in i.name
    }
    assert zeros
    assert all(value.dtype == np.int8 and not value.any() for value in zeros.values())


def deform_network(dtype: int, channels: int, out_channels: int) -> ir.Model:
    """``images`` to ``y``: casts to `dtype`, a 1x1 convolution to `channels`, a deformable one, a cast back."""
    rng = np.random.default_rng(0)
    kind = helper.tensor_dtype_to_np_dtype(dtype)

    def weights(name, *shape):
        return onnx.numpy_helper.from_array(rng.normal(size=shape).astype(kind), name)

    def single(name, *shape):
        return onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=dtype),
        helper.make_node("Conv", ["x", "w0"], ["features"]),
        helper.make_node("Conv", ["images", "w1"], ["offset_single"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Cast", ["offset_single"], ["offset"], to=dtype),
        helper.make_node("Conv", ["x", "w2"], ["mask"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node(
            "DeformConv",
            ["features", "weight", "offset", "bias", "mask"],
            ["z"],
            kernel_shape=[3, 3],
            pads=[1, 1, 1, 1],
            strides=[2, 2],
            offset_group=1,
        ),
        helper.make_node("Cast", ["z"], ["y"], to=TensorProto.FLOAT),
    ]
    initializers = [
        weights("w0", channels, 3, 1, 1),
        single("w1", 18, 3, 3, 3),
        weights("w2", 9, 3, 3, 3),
        weights("weight", out_channels, channels, 3, 3),
        weights("bias", out_channels),
    ]
    graph = helper.make_graph(
        nodes,
        "deform",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return ir.from_proto(model)


@pytest.mark.parametrize(
    ("dtype", "channels", "out_channels"), [(TensorProto.FLOAT, 5, 7), (TensorProto.FLOAT16, 8, 24)]
)
def test_a_network_of_one_deformable_convolution(rtx, monkeypatch, dtype, channels, out_channels):
    """Masks, strides, any number of channels in single precision."""
    monkeypatch.setattr(tensorrt_build, "_expect_signature", lambda definition: None)
    model = deform_network(dtype, channels, out_channels)
    assert prepare_deform_convs(model) == 1
    with Recorded() as progress:
        engine = build(ir.to_proto(model).SerializeToString(), "fp16", True, RTX, progress).engine
    for name, values in DeformConv((3, 3), (2, 2), (1, 1, 1, 1)).values().items():  # it serialised what it got
        after = [engine[at : at + 32] for at in occurrences(engine, name.encode() + b"\0")]
        assert any(np.array(values, np.int32).tobytes() in text for text in after), name


def occurrences(text: bytes, part: bytes) -> list[int]:
    """Where each ends."""
    return [match.end() for match in re.finditer(re.escape(part), text)]


@pytest.mark.parametrize(("dtype", "number"), [(np.float32, FLOAT32), (np.float16, FLOAT16)])
@pytest.mark.parametrize("modulated", [False, True])
def test_the_plugin_calls_liblpsnet(dtype, number, modulated):
    """Its `enqueue`, over memory of the host as TensorRT lays it out."""
    rng = np.random.default_rng(0)
    conv = DeformConv((3, 3), (2, 1), (1, 2, 1, 2), (1, 2), 1, 2)
    image = rng.normal(size=(2, 8, 9, 12)).astype(dtype)
    weight = rng.normal(size=(16, 8, 3, 3)).astype(dtype)
    offset = rng.normal(size=(2, 36, 5, 12)).astype(np.float32)
    bias = rng.normal(size=16).astype(np.float32)
    mask = rng.random(size=(2, 18, 5, 12)).astype(np.float32) if modulated else None
    wide = [a.astype(np.float64) for a in (image, offset, weight, bias)]
    mask_wide = None if mask is None else mask.astype(np.float64)
    expected = deform_conv2d(*wide, (2, 1), (1, 2), (1, 2), mask_wide, 2)
    inputs = [np.ascontiguousarray(a.transpose(0, 2, 3, 1)) for a in (image, weight)] + [offset, bias]
    inputs += [] if mask is None else [mask]
    out = np.full((2, 5, 12, 16), np.nan, dtype)
    shapes = image.shape, weight.shape, offset.shape
    params = conv.params(number, *shapes, modulated)
    conv.enqueue(params, [a.ctypes.data for a in inputs], out.ctypes.data, device=CPU)
    tolerance = 1e-5 if dtype is np.float32 else 2e-2
    np.testing.assert_allclose(out.transpose(0, 3, 1, 2), expected, rtol=tolerance, atol=tolerance)


def test_offsets_are_not_rounded():
    model = deform_network(TensorProto.FLOAT16, 8, 16)
    assert prepare_deform_convs(model) == 1
    assert "DeformConv" not in {n.op_type for n in model.graph}
    (node,) = [n for n in model.graph if n.op_type == NAME]
    image, weight, offset, bias, mask = node.inputs
    assert (image.name, weight.name, offset.name) == ("features", "weight", "offset_single")
    for value in (bias, mask):
        assert value.producer().op_type == "Cast"
        assert value.producer().attributes["to"].as_int() == TensorProto.FLOAT
    untouched = deform_network(TensorProto.FLOAT, 5, 7)
    before = [v.name for n in untouched.graph for v in n.inputs]
    assert prepare_deform_convs(untouched) == 1
    assert [v.name for n in untouched.graph for v in n.inputs] == before


@pytest.mark.parametrize(("channels", "out_channels"), [(12, 16), (16, 12)])
def test_half_precision_wants_channels_by_eights(channels, out_channels):
    with pytest.raises(
        ValueError, match=f"expected fp32 for a deformable .* from {channels} to {out_channels} channels"
    ):
        prepare_deform_convs(deform_network(TensorProto.FLOAT16, channels, out_channels))


def test_attributes_of_the_plugin():
    conv = DeformConv((3, 5), (2, 1), (1, 2, 1, 2), (1, 3), 1, 4)
    assert DeformConv.of(conv.values()) == conv
    assert DeformConv.of({"kernel_shape": [1, 1]}) == DeformConv((1, 1))
    params = conv.params(0, (2, 8, 10, 20), (16, 8, 3, 5), (2, 120, 5, 20), True)
    assert [getattr(params, name) for name, _ in params._fields_] == [
        *(0, 2, 8, 10, 20, 16, 5, 20),
        *(3, 5, 2, 1, 1, 2, 1, 3, 4, 1),
    ]
    for values, message in (
        ({}, r"kernel_shape: expected 2 integers, got \[\]"),
        ({"kernel_shape": [3, 3], "pads": [1, 1]}, r"pads: expected 4 integers, got \[1, 1\]"),
        ({"kernel_shape": [3, 3], "pads": [1, 1, 0, 1]}, "pads: expected the same at opposite sides"),
        ({"kernel_shape": [3, 3], "group": [2]}, "group: expected 1, got 2"),
    ):
        with pytest.raises(ValueError, match=message):
            DeformConv.of(values)


@pytest.mark.parametrize("method", ["start", "step", "finish"])
def test_ctrl_c_ends_a_build(plain, monkeypatch, method):
    def interrupt(*_):
        raise KeyboardInterrupt

    with Recorded() as progress:
        monkeypatch.setattr(progress, method, interrupt)
        with pytest.raises(KeyboardInterrupt):
            build(plain[1].read_bytes(), "fp32", False, RTX, progress)


@pytest.fixture
def as_tensorrt(rtx, monkeypatch):
    """The calls of TensorRT itself, which cannot be installed everywhere, go to TensorRT-RTX, whose API is the same."""
    monkeypatch.setattr(tensorrt_build, "import_tensorrt", lambda flavour: rtx)
    monkeypatch.setattr(tensorrt_build, "gpus", lambda: [Gpu("NVIDIA L4", "sm89")])
    return BuildOptions("tensorrt", SIZES)


@pytest.mark.filterwarnings("ignore:.*no-ops in TensorRT-RTX:DeprecationWarning")
def test_timing_caches(plain, as_tensorrt, tmp_path):
    network, cache = plain[1].read_bytes(), tmp_path / "timing.cache"
    options = dataclasses.replace(as_tensorrt, timing_cache=cache)
    for _ in range(2):  # it takes what it wrote
        with Recorded() as progress:
            build(network, "fp32", False, options, progress)
        assert cache.stat().st_size
    cache.write_bytes(b"holiday pictures" * 100)
    with Recorded() as progress, pytest.raises(ValueError, match="expected a timing cache of this TensorRT, got"):
        build(network, "fp32", False, options, progress)
    assert cache.read_bytes() == b"holiday pictures" * 100
    options = dataclasses.replace(as_tensorrt, timing_cache=tmp_path / "nowhere" / "timing.cache")
    with Recorded() as progress, pytest.raises(FileNotFoundError, match="expected a file in a folder that exists"):
        build(network, "fp32", False, options, progress)


def test_mistakes(plain):
    network = plain[1].read_bytes()

    def expect(error, message, network=network, **changes):
        with Recorded() as progress, pytest.raises(error, match=message) as raised:
            build(network, "fp32", False, dataclasses.replace(RTX, **changes), progress)
        assert "\n" not in str(raised.value)

    expect(ValueError, "target: expected some of .*sm86, sm89, .* got 'sm90'", targets=("sm86", "sm90"))
    expect(ValueError, "got 'current'", targets=("current",))
    expect(ValueError, "expected a network that tensorrt-rtx takes, got: .*parse the ONNX", network=b"nonsense")
    expect(ValueError, "expected a dense network, got one from", network=b"")
    other = onnx.load(plain[1])
    other.graph.node[0].op_type = "Surprise"
    expect(ValueError, "expected a network .* got: .*Surprise", network=other.SerializeToString())


def test_tensorrt_wants_a_gpu_and_takes_its_name(plain, as_tensorrt, monkeypatch):
    def expect(error, message, **changes):
        with Recorded() as progress, pytest.raises(error, match=message):
            build(b"", "fp32", False, dataclasses.replace(as_tensorrt, **changes), progress)

    with Recorded() as progress:
        built = build(plain[1].read_bytes(), "fp32", False, as_tensorrt, progress)
    assert (built.targets, built.gpu) == (("sm89",), "NVIDIA L4")
    monkeypatch.setattr(tensorrt_build, "gpus", list)
    expect(RuntimeError, "tensorrt: expected a GPU, on which it measures")


def test_what_is_missing_is_named(monkeypatch):
    for flavour in ("tensorrt", "tensorrt-rtx"):
        for name in tensorrt_library._MODULES[flavour]:
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ModuleNotFoundError, match=rf"to be installed: pip install 'lpsnet\[{flavour}\]'"):
            import_tensorrt(flavour)


def test_messages_are_one_line_and_the_first():
    messages = Messages()
    assert messages.take() == "no reason given"
    messages.add("[E]\n  the reason")
    messages.add("what follows")
    assert messages.take() == "[E] the reason"
    assert messages.take() == "no reason given"


def test_a_library_gets_a_second_name():
    code = """
import ctypes
from lpsnet.engine.library_alias import alias_library
try:
    ctypes.CDLL("libsecond-name.so")
except OSError:
    print("not there")
alias_library("libsecond-name.so", "libm.so.6")
alias_library("libsecond-name.so", "libm.so.6")
cos = ctypes.CDLL("libsecond-name.so").cos
cos.restype, cos.argtypes = ctypes.c_double, [ctypes.c_double]
print(cos(0.0))
alias_library("libthird-name.so", "libpthread.so.0")
print(ctypes.CDLL("libthird-name.so").pthread_self is not None)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("not there\n1.0\nTrue\n", "")


def test_a_name_for_a_library_that_is_not_there():
    with pytest.raises(OSError, match="libno-such-library"):
        alias_library("libanother-name.so", "libno-such-library.so.7")
    with pytest.raises(OSError, match="libanother-name"):
        ctypes.CDLL("libanother-name.so")


def test_sizes():
    config = InputConfig(short_side=360, max_side=640)
    assert size_range(config) == SizeRange((32, 32), (384, 480), (640, 640))
    assert size_range(config, (64, 64), None, (320, 640)).best == (320, 480)
    assert size_range(config, (64, 64), (96, 128), (320, 640)).best == (96, 128)
    with pytest.raises(ValueError, match="max-size: expected multiples of 32, got 360 640"):
        size_range(config, largest=(360, 640))
    with pytest.raises(ValueError, match="min-size: expected multiples of 32, got 0 32"):
        size_range(config, (0, 32))
    with pytest.raises(ValueError, match="expected heights 1 <= min <= opt <= max"):
        size_range(config, (640, 640), None, (320, 640))


@pytest.fixture
def command(tiny_checkpoint, tmp_path, capsys):
    """Runs lpsnet-export; gives the exit code, the output and the errors."""

    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            cli.main([str(tiny_checkpoint), "--limit", "5", "--output", str(tmp_path / "m.engine"), *map(str, args)])
        captured = capsys.readouterr()
        return exit_.value.code, captured.out, captured.err

    return run


def test_the_command_says_that_nothing_ran(plain, command, tmp_path, monkeypatch):
    monkeypatch.setattr("lpsnet.export.tensorrt_run.export_dense", lambda *_, half: ir.load(plain[1]))
    monkeypatch.setattr("lpsnet.export.tensorrt_run.gpus", list)
    code, text, errors = command("--to", "tensorrt-rtx", "--target", "sm89", "sm120", "--max-size", "128", "192")
    assert code == 0, errors
    assert "built, not run: " in text
    assert "proven" not in text
    assert "built, not run: no GPU here; the ONNX file that it was built from was compared in its place" in errors
    assert "images left out: the engine takes inputs of 32x32 to 128x192" in errors
    report = json.loads((tmp_path / "m.engine.json").read_text())
    assert report["ran"] is False
    assert report["milliseconds"] == {}
    assert "onnxruntime" in report["runs_on"]
    assert report["broken"] == []
    manifest = read_manifest(tmp_path / "m.engine")
    assert manifest.targets == ("sm89", "sm120")
    assert manifest.sizes.largest == (128, 192)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.engine", "m.engine.json"]


def test_images_that_the_engine_does_not_take(plain, command, tmp_path, monkeypatch):
    monkeypatch.setattr("lpsnet.export.tensorrt_run.export_dense", lambda *_, half: ir.load(plain[1]))
    code, _, errors = command("--to", "tensorrt-rtx", "--max-size", "32", "64")
    assert code == 1
    assert "images: expected some that give network inputs of 32x32 to 32x64, got 5 that do not" in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "tensorrt-rtx", "--profile", "panoptic"], "profile: expected dense for tensorrt-rtx, got panoptic"),
        (["--target", "sm86"], "target: expected none for onnx, got ('sm86',)"),
        (["--max-size", "64", "64"], "max-size: expected none for onnx, got (64, 64)"),
        (
            ["--to", "tensorrt-rtx", "--timing-cache", "a"],
            "timing-cache: expected none for tensorrt-rtx, which measures",
        ),
        (["--to", "tensorrt-rtx", "--device", "cpu"], "device: expected cuda or cuda:N for tensorrt-rtx, got cpu"),
        (["--to", "tensorrt-rtx", "--max-size", "100", "64"], "max-size: expected multiples of 32, got 100 64"),
        (["--to", "tensorrt-rtx", "--precision", "int8"], "calibration: expected images like those it will see"),
    ],
)
def test_options_that_do_not_fit(command, tmp_path, arguments, message):
    code, _, errors = command(*arguments)
    assert code == 1
    assert message in errors
    assert len(errors.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
