"""From a checkpoint to a proven artifact: builds it, runs it beside the checkpoint, and only then gives it its name."""

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lpsnet.artifact import ArtifactInfo, Precision, Profile
from lpsnet.config import EXPORT_BOUNDS, ExportBounds, RuntimeConfig
from lpsnet.data.sample import Dataset
from lpsnet.engine import Engine, load
from lpsnet.engine.backend import Network
from lpsnet.engine.onnx_backend import OnnxNetwork
from lpsnet.engine.onnx_session import OnnxSession
from lpsnet.engine.torch_backend import TorchNetwork
from lpsnet.models.lpsnet import LPSNet

from .check import Report, check
from .deform import DeformForm
from .dense import export_dense
from .onnx_model import make_panoptic, write
from .quantize import quantize

COMPARED_WITH: dict[Precision, tuple[Precision, ...]] = {"fp32": (), "fp16": ("fp32",), "int8": ("fp32", "fp16")}
"""The precisions whose speed a loss of precision must be worth."""


@dataclass(frozen=True)
class OnnxOptions:
    """What to make of a network.

    Attributes:
        profile: panoptic, from an image to its panoptic map, or dense, the network alone.
        precision: of the network.
        deform_conv: the form of deformable convolutions.
    """

    profile: Profile = "panoptic"
    precision: Precision = "fp32"
    deform_conv: DeformForm = "standard"


def write_onnx(model: LPSNet, path: Path, options: OnnxOptions, calibration: Iterable[np.ndarray] = ()) -> ArtifactInfo:
    """Writes an ONNX file, unproven.

    Args:
        model: stays as it is.
        path: of the file.
        options: what to make.
        calibration: for int8, uint8[H, W, 3] RGB each, like those that the network will see.

    Raises:
        ValueError: int8 without an image.
        OSError: the file cannot be written.
    """
    deforms = model.recipe.model.deform != "off"
    info = ArtifactInfo(model.recipe, options.profile, options.precision, options.deform_conv if deforms else "none")
    graph = export_dense(model, options.deform_conv, half=options.precision == "fp16")
    if options.precision == "int8":
        graph = quantize(graph, calibration, model.recipe.input)
    if options.profile == "panoptic":
        make_panoptic(graph, model.recipe)
    write(graph, path, info)
    return info


def export_onnx(
    model: LPSNet,
    path: Path,
    options: OnnxOptions,
    images: Iterable[np.ndarray],
    calibration: Iterable[np.ndarray] | None = None,
    truth: Dataset | None = None,
    bounds: ExportBounds | None = None,
    runtime: RuntimeConfig | None = None,
    on_stage: Callable[[str], None] = lambda _: None,
) -> Report:
    """Writes an ONNX file and proves it. The file gets its name where all bounds hold, else that name and
    ``.rejected``; a file of that name that was there before then stays.

    Args:
        model: stays as it is.
        path: of the file.
        options: what to make.
        images: to compare on, uint8[H, W, 3] RGB each; iterated over more than once.
        calibration: for int8; None takes the images to compare on.
        truth: a data set to compare the panoptic quality on.
        bounds: what must hold; None takes those of the precision.
        runtime: to run the artifact on.
        on_stage: is told what happens next.

    Returns:
        What was found; `Report.broken` is empty where the file has its name.

    Raises:
        ValueError: options that do not fit, no images.
        OSError: the file cannot be written.
    """
    bounds = bounds or EXPORT_BOUNDS[options.precision]
    runtime = runtime or RuntimeConfig()
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: expected a file in a folder that exists")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".lpsnet-export-") as folder:
        made = Path(folder) / path.name
        on_stage(f"writing {options.precision} {options.profile}")
        info = write_onnx(model, made, options, images if calibration is None else calibration)
        others = {name: Path(folder) / f"{name}.onnx" for name in COMPARED_WITH[options.precision]}
        for name, other in others.items():
            write_onnx(model, other, dataclasses.replace(options, precision=name))
        on_stage("comparing with the checkpoint")
        engines = {"artifact": load(made, runtime), "checkpoint": Engine.of(model)}
        engines |= {name: load(other, runtime) for name, other in others.items()}
        networks: tuple[Network, Network] | None = None
        if options.profile == "dense":
            networks = OnnxNetwork(OnnxSession(made, runtime), made), TorchNetwork(model, RuntimeConfig())
        report = check(path, info, engines, images, bounds, networks, truth)
        for engine in engines.values():
            engine.close()
        target = path.with_name(path.name + ".rejected") if report.broken else path
        shutil.move(made, target)
    return dataclasses.replace(report, artifact=str(target))
