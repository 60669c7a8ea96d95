"""The proof that an exported model computes what its checkpoint does: both are run on the same images."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from lpsnet.artifact import ArtifactInfo, dense_outputs
from lpsnet.config import ExportBounds
from lpsnet.data.sample import Dataset
from lpsnet.engine import Engine
from lpsnet.engine.backend import Network
from lpsnet.evaluation.evaluate import evaluate_samples
from lpsnet.inference import DenseArrays, prepare
from lpsnet.structures import PanopticResult

from .agreement import agreement


@dataclass
class OutputError:
    """How far an output is from the checkpoint's, over all images.

    Attributes:
        name: of the output.
        absolute: greatest difference.
        relative: that over the greatest magnitude of the checkpoint's output.
        not_finite: values that are NaN or infinite where the checkpoint's are not.
    """

    name: str
    absolute: float = 0.0
    relative: float = 0.0
    not_finite: int = 0

    def update(self, expected: np.ndarray, got: np.ndarray) -> None:
        """Takes in the output of one image."""
        self.not_finite += int((~np.isfinite(got) & np.isfinite(expected)).sum())
        both = np.isfinite(got) & np.isfinite(expected)
        if both.any():
            difference = float(np.abs(got[both].astype(np.float64) - expected[both]).max())
            self.absolute = max(self.absolute, difference)
            largest = float(np.abs(expected[both]).max())
            self.relative = max(self.relative, difference / largest if largest else difference)


@dataclass
class Report:
    """What the check found.

    Attributes:
        artifact: path of the file.
        runs_on: what ran it.
        images: how many were compared.
        identical: on so many of them every id is the same.
        agreement: the share of pixels in the same segment, mean over the images; least: on the worst one.
        errors: of the outputs; of a panoptic artifact none but the scores of its boxes can be compared.
        milliseconds: medians over the images, end to end, of the artifact, the checkpoint, and, for an artifact of less
            precision, the same in more.
        pq: panoptic quality in percent of artifact and checkpoint, where there was a truth to compare with.
        broken: the bounds that do not hold, in words.
        remarks: what a user should know and no bound forbids.
        ran: False where the artifact does not run here, and what it was built from was compared in its place.
    """

    artifact: str
    runs_on: str
    images: int = 0
    identical: int = 0
    agreement: float = 1.0
    least: float = 1.0
    errors: list[OutputError] = field(default_factory=list)
    milliseconds: dict[str, float] = field(default_factory=dict)
    pq: dict[str, float] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    ran: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON."""
        return asdict(self)


def check(
    path: Path,
    info: ArtifactInfo,
    engines: dict[str, Engine],
    images: Iterable[np.ndarray],
    bounds: ExportBounds,
    networks: tuple[Network, Network] | None = None,
    truth: Dataset | None = None,
) -> Report:
    """Runs artifact and checkpoint in turns.

    Args:
        path: of the artifact.
        info: what it says of itself.
        engines: `artifact`, `checkpoint`, and, to compare the speed with, any others, such as `fp32`.
        images: uint8[H, W, 3] RGB each.
        bounds: what must hold.
        networks: of a dense artifact, and of the checkpoint, to compare the outputs themselves.
        truth: a data set to compare the panoptic quality on.
    """
    artifact = engines["artifact"]
    report = Report(str(path), artifact.runs_on)
    times: dict[str, list[float]] = {name: [] for name in engines}
    errors = {name: OutputError(name) for name in ([*dense_outputs()] if networks else ["scores"])}
    shares = []
    for image in images:
        results = {}
        for name, engine in engines.items():
            if not times[name]:
                engine.predict(image)  # the first run makes room
            start = perf_counter()
            results[name] = engine.predict(image)
            times[name].append(1e3 * (perf_counter() - start))
        report.images += 1
        report.identical += int(np.array_equal(results["artifact"].ids, results["checkpoint"].ids))
        shares.append(agreement(results["checkpoint"], results["artifact"]))
        if networks is not None:
            prepared = prepare(image, info.recipe.input)
            for name, got, want in zip(errors, *(_flat(n.run(prepared)) for n in networks), strict=True):
                errors[name].update(want, got)
        else:
            _compare_scores(errors["scores"], results["checkpoint"], results["artifact"])
    if not shares:
        raise ValueError("images: expected images to compare on, got none")
    report.errors = list(errors.values())
    report.agreement, report.least = float(np.mean(shares)), min(shares)
    report.milliseconds = {name: median(values) for name, values in times.items()}
    if truth is not None:
        for name in ("artifact", "checkpoint"):
            report.pq[name] = _panoptic_quality(engines[name], truth)
    report.broken = _broken(report, bounds, compare_errors=networks is not None)
    report.remarks = _remarks(report, info)
    return report


def _flat(dense: DenseArrays) -> Sequence[np.ndarray]:
    return [dense.logits, *dense.ltrb, *dense.borderness]


def _compare_scores(error: OutputError, expected: PanopticResult, got: PanopticResult) -> None:
    if expected.detections is None or got.detections is None:
        return
    count = min(len(expected.detections), len(got.detections))
    error.update(expected.detections.scores[:count], got.detections.scores[:count])


def _panoptic_quality(engine: Engine, truth: Dataset) -> float:
    def predict(sample: Any) -> tuple[PanopticResult, np.ndarray]:
        result = engine.predict(sample.image)
        return result, result.labels()

    return evaluate_samples(predict, truth, engine.recipe.categories).panoptic.pq


def _broken(report: Report, bounds: ExportBounds, compare_errors: bool) -> list[str]:
    broken = []
    for error in report.errors:
        if error.not_finite:
            broken.append(f"{error.name}: expected finite values, got {error.not_finite} that are not")
        if compare_errors and error.relative > bounds.relative_error:
            most = f"{bounds.relative_error:g}"
            broken.append(f"{error.name}: expected a relative error of at most {most}, got {error.relative:.3g}")
    if report.agreement < bounds.agreement:
        broken.append(f"ids: expected {bounds.agreement:.2%} of the pixels to agree, got {report.agreement:.2%}")
    if report.pq:
        loss = report.pq["checkpoint"] - report.pq["artifact"]
        if not loss <= bounds.pq_loss:
            broken.append(f"PQ: expected a loss of at most {bounds.pq_loss:g} points, got {loss:.2f}")
    return broken


def _remarks(report: Report, info: ArtifactInfo) -> list[str]:
    times = report.milliseconds
    return [
        f"the {info.precision} artifact is slower than {name}: {times['artifact']:.1f} ms against {times[name]:.1f} ms"
        for name in times
        if name != "artifact" and times["artifact"] > times[name]
    ]
