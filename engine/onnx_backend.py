"""Exported ONNX files as backends: the dense network, and the whole way from the image to the panoptic map."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from lpsnet import native
from lpsnet.artifact import (
    BUILT_IN,
    DENSE_INPUT,
    IMAGE_INPUT,
    PANOPTIC_OUTPUTS,
    SETTINGS,
    dense_outputs,
)
from lpsnet.config import BOX_STRIDES, PostprocessConfig, RuntimeConfig
from lpsnet.inference import DenseArrays, NetworkInput, StageTimer, expect_image
from lpsnet.native.library import set_num_threads
from lpsnet.structures import Detections, PanopticResult, Segment

from .backend import Backend, HostPipeline
from .onnx_session import OnnxSession, expect_signature


def open_onnx(path: Path, runtime: RuntimeConfig) -> Backend:
    """The backend of a file of lpsnet-export.

    Raises:
        ValueError: another file, a provider that is not there, a graph with other inputs or outputs.
    """
    session = OnnxSession(path, runtime)
    if runtime.threads:
        set_num_threads(runtime.threads)
    if session.info.profile == "dense":
        return HostPipeline(OnnxNetwork(session, path))
    return PanopticOnnx(session, path)


class OnnxNetwork:
    """The dense network. See `backend.Network`."""

    def __init__(self, session: OnnxSession, path: Path) -> None:
        expect_signature(path, "inputs", {DENSE_INPUT: "tensor(float)"}, session.inputs)
        expect_signature(path, "outputs", dict.fromkeys(dense_outputs(), "tensor(float)"), session.outputs)
        self.recipe = session.info.recipe
        self.runs_on = session.runs_on
        self._session: OnnxSession | None = session

    def run(self, prepared: NetworkInput) -> DenseArrays:
        """The dense outputs of one image."""
        if self._session is None:
            raise ValueError("engine: expected an open engine, got one that was closed")
        logits, *levels = self._session.run(dense_outputs(), {DENSE_INPUT: prepared.images})
        count = len(BOX_STRIDES)
        return DenseArrays(logits[0], [t[0] for t in levels[:count]], [b[0] for b in levels[count:]])

    def close(self) -> None:
        """See `backend.Network`."""
        self._session = None


class PanopticOnnx:
    """All of it in one graph. See `backend.Backend`."""

    def __init__(self, session: OnnxSession, path: Path) -> None:
        expect_signature(path, "inputs", {IMAGE_INPUT: "tensor(uint8)"}, session.inputs)
        types = {
            name: "tensor(float)" if name in ("segment_scores", "boxes", "scores") else "tensor(int32)"
            for name in PANOPTIC_OUTPUTS
        }
        expect_signature(path, "outputs", types, session.outputs)
        self.recipe = session.info.recipe
        self.runs_on = session.runs_on
        self._session: OnnxSession | None = session

    def predict(self, image: np.ndarray, config: PostprocessConfig, timer: StageTimer, profile: bool) -> PanopticResult:
        """See `backend.Backend`. There is one stage, model: the runtime does not tell more apart."""
        session = self._session
        if session is None:
            raise ValueError("engine: expected an open engine, got one that was closed")
        expect_image(image)
        feeds: dict[str, np.ndarray] = {IMAGE_INPUT: np.ascontiguousarray(image)}
        feeds |= self._settings(config)
        with timer("model"):
            outputs = dict(zip(PANOPTIC_OUTPUTS, session.run(list(PANOPTIC_OUTPUTS), feeds), strict=True))
        rows = zip(
            *(outputs[f"segment_{k}"].tolist() for k in ("ids", "labels", "scores", "areas", "boxes")), strict=True
        )
        segments = tuple(Segment(i, label, score, area, tuple(box)) for i, label, score, area, box in rows)
        found = Detections(outputs["boxes"], outputs["scores"], outputs["labels"])
        return PanopticResult(outputs["ids"], segments, self.recipe.categories, found)

    def close(self) -> None:
        """See `backend.Backend`."""
        self._session = None

    def _settings(self, config: PostprocessConfig) -> dict[str, np.ndarray]:
        built = self.recipe.postprocess
        for name in BUILT_IN:
            if getattr(config, name) != getattr(built, name):
                raise ValueError(
                    f"{name}: expected {getattr(built, name)!r}, which is built into this artifact, "
                    f"got {getattr(config, name)!r}; export it again, or run the dense profile"
                )
        _expect_in_range(config)
        return {name: np.array(getattr(config, name), dtype) for name, dtype in SETTINGS.items()}


@lru_cache(maxsize=64)
def _expect_in_range(config: PostprocessConfig) -> None:
    """Raises ValueError for a setting out of its range: liblpsnet's checks, on an image of one pixel."""
    pixel = np.zeros((1, 1, 1), np.float32)
    native.postprocess(
        pixel, np.ones(1, np.uint8), [np.zeros((4, 1, 1), np.float32)], [pixel[0]], (1, 1), (1, 1), config, [1]
    )
