"""``lpsnet-export``: turns a checkpoint into an artifact that runs elsewhere, and proves that it computes the same."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lpsnet import atomic
from lpsnet.artifact import Precision, Profile
from lpsnet.config import DEFAULT_MODEL, EXPORT_BOUNDS, EXPORT_IMAGES, ExportBounds, RuntimeConfig
from lpsnet.engine_file import Flavour

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

    from lpsnet.data.sample import Dataset
    from lpsnet.models.lpsnet import LPSNet

    from .check import Report


@dataclass(frozen=True)
class Arguments:
    """Exports a model. Exits with 1 where the artifact does not compute what the checkpoint does.

    Attributes:
        model: a packaged model or the path of a checkpoint.
        to: the kind of artifact. TensorRT builds an engine for the GPU of this machine, TensorRT-RTX for any of
            `target`.
        output: the file; by default the name of the recipe in this folder.
        profile: panoptic, from an image to its panoptic map, or dense, the network alone; by default panoptic, for
            engines dense, which is all that they can be.
        precision: of the network.
        deform_conv: deformable convolutions as the standard operator, in an engine our plugin, or as GridSample for
            runtimes without it.
        target: of TensorRT-RTX: the compute capabilities of the GPUs; by default sm86, sm89 and sm120.
        min_size, opt_size, max_size: of an engine: heights and widths of the network's input that it takes and is
            fastest at, multiples of 32; by default all that the recipe resizes images to.
        timing_cache: of TensorRT: a file with what was measured in earlier builds, which is read and written.
        calibration: images, folders and globs that int8 measures its ranges on; by default those of `images`.
        images: images, folders and globs to compare on; by default made-up scenes and a photograph.
        limit: so many images are taken of each of the two, spread evenly.
        data: folder of a data set, or the YAML file of one of your own, to compare the panoptic quality on.
        split: part of it.
        samples: so many of its samples are taken; all by default.
        report: the file for all that was found; by default the output's name and .json.
        device: that runs the artifact for the comparison; by default cpu, for engines cuda.
        relative_error: bound on the error of each dense output; by default that of the precision.
        agreement: bound on the share of pixels in the same segment; by default that of the precision.
        pq_loss: bound on the loss of panoptic quality, in points; by default that of the precision.
    """

    model: tyro.conf.Positional[str] = DEFAULT_MODEL
    to: Literal["onnx", "tensorrt", "tensorrt-rtx"] = "onnx"
    output: Path | None = None
    profile: Profile | None = None
    precision: Precision = "fp32"
    deform_conv: Literal["standard", "gridsample"] = "standard"
    target: tuple[str, ...] = ()
    min_size: tuple[int, int] | None = None
    opt_size: tuple[int, int] | None = None
    max_size: tuple[int, int] | None = None
    timing_cache: Path | None = None
    calibration: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    limit: int = EXPORT_IMAGES
    data: Path | None = None
    split: str = "val"
    samples: int | None = None
    report: Path | None = None
    device: str | None = None
    relative_error: float | None = None
    agreement: float | None = None
    pq_loss: float | None = None


def main(args: Sequence[str] | None = None) -> None:
    """The entry point."""
    arguments = tyro.cli(Arguments, args=args)
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        report = run(arguments, errors)
    except (ValueError, OSError, ImportError, RuntimeError, MemoryError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        errors.print(f"lpsnet-export: {message}", style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("lpsnet-export: stopped; nothing was written")
        sys.exit(130)
    Console().print(*tables(report))
    for remark in report.remarks:
        errors.print(f"lpsnet-export: {remark}", style="yellow", markup=False)
    for bound in report.broken:
        errors.print(f"lpsnet-export: {bound}", style="red", markup=False)
    verdict = "rejected" if report.broken else "proven" if report.ran else "built, not run"
    Console().print(f"{verdict}: [bold]{escape(report.artifact)}[/]")
    sys.exit(1 if report.broken else 0)


def run(arguments: Arguments, errors: Console) -> "Report":
    """Exports as the arguments say, and writes the report."""
    from lpsnet.data.build import build_dataset
    from lpsnet.data.classes import expect_classes
    from lpsnet.data.sample import Subset
    from lpsnet.evaluation.evaluate import json_bytes
    from lpsnet.models.lpsnet import LPSNet

    from .images import ImageFiles, MadeUpImages

    _expect_that_they_fit(arguments)
    if arguments.limit < 1:
        raise ValueError(f"limit: expected at least 1, got {arguments.limit}")
    if arguments.precision == "int8" and not (arguments.calibration or arguments.images):
        raise ValueError("calibration: expected images like those it will see, for int8 to measure on, got none")
    model = LPSNet.from_pretrained(arguments.model)
    images = ImageFiles(arguments.images, arguments.limit) if arguments.images else MadeUpImages(arguments.limit)
    calibration = ImageFiles(arguments.calibration, arguments.limit) if arguments.calibration else None
    truth: Dataset | None = None
    if arguments.data is not None:
        labelled = build_dataset(model.recipe.dataset, arguments.data, arguments.split)
        expect_classes(model.recipe, labelled)
        count = len(labelled) if arguments.samples is None else min(arguments.samples, len(labelled))
        truth = Subset(labelled, range(count))
    suffix = "onnx" if arguments.to == "onnx" else "engine"
    output = arguments.output or Path(f"{model.recipe.name}.{suffix}")
    if arguments.to == "onnx":
        report = _export_onnx(arguments, model, output, images, calibration, truth, errors)
    else:
        report = _export_tensorrt(arguments.to, arguments, model, output, images, calibration, truth, errors)
    atomic.write_bytes(arguments.report or output.with_name(output.name + ".json"), json_bytes(report.to_dict()))
    return report


def tables(report: "Report") -> list[Table]:
    """What was found, for the terminal."""
    outputs = Table(title="Outputs beside the checkpoint's")
    outputs.add_column("output")
    for name in ("greatest error", "relative", "not finite"):
        outputs.add_column(name, justify="right")
    for error in report.errors:
        outputs.add_row(error.name, f"{error.absolute:.3g}", f"{error.relative:.3g}", str(error.not_finite))
    whole = Table(title=f"{report.images} images, {escape(report.runs_on)}")
    whole.add_column("what")
    whole.add_column("found", justify="right")
    whole.add_row("images with all ids equal", f"{report.identical} of {report.images}")
    whole.add_row("pixels in the same segment", f"{report.agreement:.3%}, at least {report.least:.3%}")
    for name, value in report.pq.items():
        whole.add_row(f"PQ of the {name}", f"{value:.2f}")
    for name, value in report.milliseconds.items():
        whole.add_row(f"median ms per image, {name}", f"{value:.1f}")
    return [outputs, whole]


def _expect_that_they_fit(arguments: Arguments) -> None:
    """Raises ValueError for options that say nothing of this kind of artifact."""
    if arguments.to != "onnx":
        if arguments.profile == "panoptic":
            raise ValueError(f"profile: expected dense for {arguments.to}, got panoptic")
        return
    for name in ("target", "min_size", "opt_size", "max_size", "timing_cache"):
        if getattr(arguments, name):
            option = name.replace("_", "-")
            raise ValueError(f"{option}: expected none for onnx, got {getattr(arguments, name)}")


def _export_onnx(
    arguments: Arguments,
    model: "LPSNet",
    output: Path,
    images: "Iterable[np.ndarray]",
    calibration: "Iterable[np.ndarray] | None",
    truth: "Dataset | None",
    errors: Console,
) -> "Report":
    from .run import OnnxOptions, export_onnx

    options = OnnxOptions(arguments.profile or "panoptic", arguments.precision, arguments.deform_conv)
    with errors.status(f"exporting {model.recipe.name}") as status:
        return export_onnx(
            model,
            output,
            options,
            images,
            calibration,
            truth,
            _bounds(arguments),
            RuntimeConfig(device=arguments.device or "cpu"),
            lambda stage: status.update(stage),
        )


def _export_tensorrt(
    flavour: Flavour,
    arguments: Arguments,
    model: "LPSNet",
    output: Path,
    images: "Iterable[np.ndarray]",
    calibration: "Iterable[np.ndarray] | None",
    truth: "Dataset | None",
    errors: Console,
) -> "Report":
    from .tensorrt_build import BuildOptions
    from .tensorrt_progress import BuildProgress
    from .tensorrt_run import TensorrtOptions, export_tensorrt, size_range

    sizes = size_range(model.recipe.input, arguments.min_size, arguments.opt_size, arguments.max_size)
    build = BuildOptions(flavour, sizes, arguments.target, arguments.timing_cache)
    runtime = RuntimeConfig(device=arguments.device or "cuda")
    if not runtime.device.startswith("cuda"):
        raise ValueError(f"device: expected cuda or cuda:N for {flavour}, got {runtime.device}")
    with BuildProgress(errors) as progress:
        return export_tensorrt(
            model,
            output,
            TensorrtOptions(build, arguments.precision, arguments.deform_conv),
            images,
            progress,
            calibration,
            truth,
            _bounds(arguments),
            runtime,
        )


def _bounds(arguments: Arguments) -> ExportBounds:
    given = {name: getattr(arguments, name) for name in ("relative_error", "agreement", "pq_loss")}
    return replace(EXPORT_BOUNDS[arguments.precision], **{k: v for k, v in given.items() if v is not None})


if __name__ == "__main__":
    main()
