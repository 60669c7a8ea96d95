"""Engines of TensorRT as a backend: image in, panoptic map out, all of it on one stream of a GPU. No torch."""

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lpsnet.artifact import DENSE_INPUT, dense_outputs
from lpsnet.config import PostprocessConfig, RuntimeConfig
from lpsnet.engine_file import EngineManifest, read_engine
from lpsnet.inference import DenseArrays, NetworkInput, StageTimer, expect_image
from lpsnet.structures import PanopticResult

from .device_memory import CudaDevice, Device
from .tensorrt_lane import FrameSizes, TensorrtLane
from .tensorrt_library import import_tensorrt, logger_of
from .tensorrt_plugin import register_deform_conv


def open_tensorrt(path: Path, runtime: RuntimeConfig) -> "TensorrtPipeline":
    """The backend of an engine that lpsnet-export wrote.

    Raises:
        ValueError: a damaged file, an engine of another version or for another GPU, a device that is not there.
        ImportError: TensorRT or pycuda is missing; the message says how to get it.
    """
    manifest, engine = read_engine(path)
    if re.fullmatch(r"cuda(:\d+)?", runtime.device) is None:
        raise ValueError(f"device: expected cuda or cuda:N for an engine of {manifest.flavour}, got {runtime.device}")
    trt = import_tensorrt(manifest.flavour)
    _expect_version(path, manifest, trt.__version__)
    device = CudaDevice(int(runtime.device.partition(":")[2] or 0))
    try:
        return TensorrtPipeline(path, manifest, engine, trt, device, runtime.streams)
    except BaseException:
        device.close()
        raise


class TensorrtPipeline:
    """Runs an engine and liblpsnet on one device. See `backend.Backend` and `backend.Network`.

    Frames on one stream run one after the other; with several streams calls take turns.

    Args:
        path: of the file, for messages.
        manifest: of the engine.
        engine: as TensorRT serialised it.
        trt: the Python API of its version of TensorRT.
        device: to run on; `close` closes it.
        streams: how many frames may run at the same time.

    Raises:
        ValueError: an engine for another GPU or of another version, or one that TensorRT does not load.
        RuntimeError: no memory for it.
    """

    def __init__(
        self, path: Path, manifest: EngineManifest, engine: bytes, trt: Any, device: Device, streams: int = 1
    ) -> None:
        _expect_version(path, manifest, trt.__version__)
        if device.target not in manifest.targets:
            built_for = ", ".join(manifest.targets) + (f" ({manifest.gpu})" if manifest.gpu else "")
            raise ValueError(
                f"{path}: expected an engine for {device.target} ({device.name}), got one for {built_for}: "
                "export it again for this GPU"
            )
        self.recipe = manifest.info.recipe
        self.runs_on = f"{manifest.flavour} {manifest.tensorrt} on {device.name}, {manifest.info.precision}"
        self._sizes = manifest.sizes
        self._device = device
        logger, messages = logger_of(trt)
        messages.take()
        if manifest.info.deform_conv == "standard":
            register_deform_conv(trt)
        with device.entered():
            self._runtime = trt.Runtime(logger)  # lives as long as its engine
            self._engine = self._runtime.deserialize_cuda_engine(engine)
            if self._engine is None:
                raise ValueError(f"{path}: expected an engine that TensorRT loads, got: {messages.take()}")
            _expect_signature(path, trt, self._engine)
            self._lanes = [TensorrtLane(self._engine, self.recipe, device, messages) for _ in range(streams)]
        self._turns = itertools.count()

    def predict(self, image: np.ndarray, config: PostprocessConfig, timer: StageTimer, profile: bool) -> PanopticResult:
        """See `backend.Backend`. There is one stage, pipeline; a profile has upload, preprocess, network, postprocess
        and download, and waits for the device after each."""
        expect_image(image)
        resized = self.recipe.input.resized(*image.shape[:2])
        sizes = FrameSizes((image.shape[0], image.shape[1]), resized, self.recipe.input.padded(*resized))
        self._expect_size(sizes.padded, f"the {image.shape[0]}x{image.shape[1]} image")
        if profile:
            return self._lane().predict(image, sizes, config, timer, wait=True)
        with timer("pipeline"):
            return self._lane().predict(image, sizes, config, _untimed, wait=False)

    def run(self, prepared: NetworkInput) -> DenseArrays:
        """See `backend.Network`."""
        height, width = prepared.images.shape[2:]
        self._expect_size((height, width), "the image")
        return self._lane().run(prepared.images)

    def close(self) -> None:
        """See `backend.Backend`. Waits for the frames that are running."""
        lanes, self._lanes = self._lanes, []
        if not lanes:
            return
        for lane in lanes:
            lane.close()
        with self._device.entered():
            self._engine = self._runtime = None
        self._device.close()

    def _lane(self) -> TensorrtLane:
        lanes = self._lanes  # read once: another thread may close the engine meanwhile
        if not lanes:
            raise ValueError("engine: expected an open engine, got one that was closed")
        return lanes[next(self._turns) % len(lanes)]

    def _expect_size(self, padded: tuple[int, int], image: str) -> None:
        if padded not in self._sizes:
            raise ValueError(
                f"image: expected a network input of {self._sizes}, which the engine was built for, got "
                f"{padded[0]}x{padded[1]} of {image}; export it with other --min-size, --max-size"
            )


def _expect_version(path: Path, manifest: EngineManifest, version: str) -> None:
    if manifest.tensorrt != version:
        raise ValueError(
            f"{path}: expected an engine of {manifest.flavour} {version}, which is installed here, got one of "
            f"{manifest.tensorrt}: export it again, or install that version"
        )


def _expect_signature(path: Path, trt: Any, engine: Any) -> None:
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    found = {
        name: ("input" if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else "output")
        for name in names
        if engine.get_tensor_dtype(name) == trt.DataType.FLOAT
    }
    if len(names) != len(found) or found != {DENSE_INPUT: "input", **dict.fromkeys(dense_outputs(), "output")}:
        raise ValueError(f"{path}: expected an engine from images to dense outputs in float32, got tensors {names}")


@contextmanager
def _untimed(_: str) -> Iterator[None]:
    yield
