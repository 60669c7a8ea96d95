"""From a checkpoint to an engine of TensorRT, proven where it runs; elsewhere what it was built from is."""

import dataclasses
import importlib.util
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from lpsnet.artifact import ArtifactInfo, Precision
from lpsnet.config import EXPORT_BOUNDS, ExportBounds, InputConfig, RuntimeConfig
from lpsnet.data.sample import Dataset
from lpsnet.engine import Engine, load
from lpsnet.engine.backend import HostPipeline, Network
from lpsnet.engine.gpus import gpus
from lpsnet.engine.onnx_backend import OnnxNetwork
from lpsnet.engine.onnx_session import OnnxSession
from lpsnet.engine.tensorrt_backend import open_tensorrt
from lpsnet.engine.torch_backend import TorchNetwork
from lpsnet.engine_file import EngineManifest, SizeRange, read_manifest, write_engine
from lpsnet.models.lpsnet import LPSNet
from lpsnet.native.library import library

from .check import Report, check
from .deform import DeformForm
from .dense import export_dense
from .onnx_model import write
from .quantize import quantize
from .run import COMPARED_WITH
from .tensorrt_build import BuildOptions, build, expect_buildable
from .tensorrt_network import prepare_deform_convs
from .tensorrt_progress import BuildProgress

_USUAL_SHAPE = (300, 400)
"""An image's, for the size that an engine is fastest at unless another is asked for."""


@dataclass(frozen=True)
class TensorrtOptions:
    """What to make of a network.

    Attributes:
        build: flavour of TensorRT, sizes, targets.
        precision: of the network.
        deform_conv: deformable convolutions by our plugin, or as GridSample without one.
    """

    build: BuildOptions
    precision: Precision = "fp32"
    deform_conv: DeformForm = "standard"


def size_range(
    config: InputConfig,
    smallest: tuple[int, int] | None = None,
    best: tuple[int, int] | None = None,
    largest: tuple[int, int] | None = None,
) -> SizeRange:
    """The heights and widths of an engine. Those not given: as small as the network takes, an image of 3:4, and all
    that the recipe resizes images to.

    Raises:
        ValueError: sizes that are no multiples of the network's stride, or not in their order.
    """
    divisor = config.size_divisor
    for name, size in (("min-size", smallest), ("opt-size", best), ("max-size", largest)):
        if size is not None and (min(size) < 1 or any(side % divisor for side in size)):
            raise ValueError(f"{name}: expected multiples of {divisor}, got {size[0]} {size[1]}")
    smallest = smallest or (divisor, divisor)
    largest = largest or config.padded(config.max_side, config.max_side)
    if best is None:
        usual = config.padded(*config.resized(*_USUAL_SHAPE))
        height, width = (max(a, min(s, b)) for s, a, b in zip(usual, smallest, largest, strict=True))
        best = height, width
    return SizeRange(smallest, best, largest)


def write_tensorrt(
    model: LPSNet,
    folder: Path,
    name: str,
    options: TensorrtOptions,
    progress: BuildProgress,
    calibration: Iterable[np.ndarray] = (),
) -> tuple[Path, Path]:
    """Writes an engine, unproven, and beside it the ONNX file that it was built from.

    Args:
        model: stays as it is.
        folder: for the two files.
        name: of them, without a suffix.
        options: what to make.
        progress: is told how far it is.
        calibration: for int8, uint8[H, W, 3] RGB each, like those that the network will see.

    Returns:
        The paths of the engine and of the ONNX file.

    Raises:
        See `tensorrt_build.build`. ValueError: int8 without an image.
    """
    deforms = model.recipe.model.deform != "off"
    info = ArtifactInfo(model.recipe, "dense", options.precision, options.deform_conv if deforms else "none")
    progress.stage(f"writing {options.precision}")
    graph = export_dense(model, options.deform_conv, half=options.precision == "fp16")
    if options.precision == "int8":
        graph = quantize(graph, calibration, model.recipe.input, symmetric=True)
    source, target = folder / f"{name}.onnx", folder / f"{name}.engine"
    write(graph, source, info)
    has_deform_conv = prepare_deform_convs(graph) > 0
    progress.stage(f"building for {options.build.flavour}")
    network = ir.to_proto(graph).SerializeToString()
    built = build(network, options.precision, has_deform_conv, options.build, progress)
    manifest = EngineManifest(info, options.build.flavour, built.version, built.targets, built.gpu, options.build.sizes)
    write_engine(target, manifest, built.engine)
    return target, source


def export_tensorrt(
    model: LPSNet,
    path: Path,
    options: TensorrtOptions,
    images: Iterable[np.ndarray],
    progress: BuildProgress,
    calibration: Iterable[np.ndarray] | None = None,
    truth: Dataset | None = None,
    bounds: ExportBounds | None = None,
    runtime: RuntimeConfig | None = None,
) -> Report:
    """Builds an engine and proves it: on this machine's GPU, where that runs it; else the ONNX file that it was built
    from is run in its place, by ONNX Runtime, and the report says so. Names are as `run.export_onnx` gives them.

    Args:
        model: stays as it is.
        path: of the file.
        options: what to make.
        images: to compare on, those of sizes that the engine takes; uint8[H, W, 3] RGB each.
        progress: is told how far it is.
        calibration: for int8; None takes the images to compare on.
        truth: a data set to compare the panoptic quality on.
        bounds: what must hold; None takes those of the precision.
        runtime: the GPU to run it on; None takes the first.

    Raises:
        See `tensorrt_build.build`. ValueError: no image of a size that the engine takes, int8 without an image.
    """
    bounds = bounds or EXPORT_BOUNDS[options.precision]
    runtime = runtime or RuntimeConfig(device="cuda")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: expected a file in a folder that exists")
    expect_buildable(options.build)
    fitting = _Fitting(images, model.recipe.input, options.build.sizes)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".lpsnet-export-") as name:
        folder = Path(name)
        made, source = write_tensorrt(
            model, folder, "artifact", options, progress, images if calibration is None else calibration
        )
        reason = why_not_here(read_manifest(made), runtime)
        engines = {"checkpoint": Engine.of(model)}
        network: Network
        if reason is None:
            pipeline = network = open_tensorrt(made, runtime)
            engines["artifact"] = Engine(pipeline)
            for precision in COMPARED_WITH[options.precision]:
                other = dataclasses.replace(options, precision=precision)
                engines[precision] = load(write_tensorrt(model, folder, precision, other, progress)[0], runtime)
        else:
            network = OnnxNetwork(OnnxSession(source, RuntimeConfig()), source)
            engines["artifact"] = Engine(HostPipeline(network))
        progress.stage("comparing with the checkpoint")
        info = read_manifest(made).info
        networks = network, TorchNetwork(model, RuntimeConfig())
        try:
            report = check(path, info, engines, fitting, bounds, networks, truth)
        finally:
            for engine in engines.values():
                engine.close()
        target = path.with_name(path.name + ".rejected") if report.broken else path
        shutil.move(made, target)
    if reason is not None:
        remark = f"built, not run: {reason}; the ONNX file that it was built from was compared in its place"
        report = dataclasses.replace(report, ran=False, milliseconds={}, remarks=[remark])
    if fitting.left_out:
        report.remarks.append(f"{fitting.left_out} images left out: the engine takes inputs of {options.build.sizes}")
    return dataclasses.replace(report, artifact=str(target))


def why_not_here(manifest: EngineManifest, runtime: RuntimeConfig) -> str | None:
    """What this machine lacks to run an engine; None where nothing is known to be missing."""
    found = gpus()
    index = int(runtime.device.partition(":")[2] or 0)
    if index >= len(found):
        return "no GPU here" if not found else f"no GPU {index} here"
    if found[index].target not in manifest.targets:
        return f"the GPU here is {found[index].target}, the engine is for {', '.join(manifest.targets)}"
    if importlib.util.find_spec("pycuda") is None:
        return "pycuda is not installed: pip install 'lpsnet[pycuda]'"
    if not library().lps_num_cuda_devices():
        return "liblpsnet was built without CUDA: install lpsnet again with LPSNET_CUDA=ON"
    return None


class _Fitting:
    """The images that an engine takes; counts the others."""

    def __init__(self, images: Iterable[np.ndarray], config: InputConfig, sizes: SizeRange) -> None:
        self._images, self._config, self._sizes = images, config, sizes
        self.left_out = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        self.left_out = fitting = 0
        for image in self._images:
            if self._config.padded(*self._config.resized(*image.shape[:2])) in self._sizes:
                fitting += 1
                yield image
            else:
                self.left_out += 1
        if self.left_out and not fitting:
            raise ValueError(
                f"images: expected some that give network inputs of {self._sizes}, got {self.left_out} that do not"
            )
