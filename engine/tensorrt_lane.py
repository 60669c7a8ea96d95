"""One stream of a GPU with an execution context of TensorRT and the memory of one frame."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpsnet.artifact import DENSE_INPUT, dense_outputs
from lpsnet.config import BOX_STRIDES, PostprocessConfig, Recipe
from lpsnet.inference import DenseArrays
from lpsnet.native.library import call, pointer_array, workspace_size
from lpsnet.native.postprocess import PostprocessParams
from lpsnet.native.resize_normalize import ResizeNormalizeParams
from lpsnet.structures import PanopticResult

from .device_memory import Buffers, Device
from .result_layout import ResultLayout, panoptic_result
from .tensorrt_library import Messages

Stage = Callable[[str], AbstractContextManager[None]]
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class FrameSizes:
    """(height, width) of an image, of it in the network's input, and of that input."""

    image: tuple[int, int]
    resized: tuple[int, int]
    padded: tuple[int, int]


class TensorrtLane:
    """Runs frames one after the other. Safe to call from several threads, which wait for each other.

    Args:
        engine: of TensorRT.
        recipe: of its network.
        device: that all of it is on, which the caller has entered.
        messages: what TensorRT logs.

    Raises:
        RuntimeError: TensorRT has no room for it.
    """

    def __init__(self, engine: Any, recipe: Recipe, device: Device, messages: Messages) -> None:
        self._recipe = recipe
        self._device = device
        self._messages = messages
        self._lock = threading.Lock()
        self._context = engine.create_execution_context()
        if self._context is None:
            raise RuntimeError(f"TensorRT: expected memory for an execution context, got: {messages.take()}")
        self._stream = device.new_stream()
        self._buffers = Buffers(device)
        self._is_thing = np.array([c.isthing for c in recipe.categories], np.uint8)
        self._is_thing_address = self._uploaded("is_thing", self._is_thing)

    def predict(
        self, image: np.ndarray, sizes: FrameSizes, config: PostprocessConfig, stage: Stage, wait: bool
    ) -> PanopticResult:
        """The panoptic map of uint8[H, W, 3]; every stage in a context of `stage`, `wait` for it to end."""
        with self._entered():
            return self._predict(image, sizes, config, stage, wait)

    def run(self, images: np.ndarray) -> DenseArrays:
        """The dense outputs of float32[1, 3, H, W]."""
        with self._entered():
            self._uploaded(DENSE_INPUT, images)
            shapes = self._network((images.shape[2], images.shape[3]))
            arrays = [self._downloaded(name, shape) for name, shape in shapes.items()]
            self._device.synchronize(self._stream)
            logits, *levels = [array.copy() for array in arrays]
        count = len(BOX_STRIDES)
        return DenseArrays(logits[0], [t[0] for t in levels[:count]], [b[0] for b in levels[count:]])

    def close(self) -> None:
        """Waits for the frame that is running and gives its memory back. Not twice."""
        with self._entered():
            self._context = None
            self._buffers.free()

    @contextmanager
    def _entered(self) -> Iterator[None]:
        with self._lock:
            if self._context is None:
                raise ValueError("engine: expected an open engine, got one that was closed")
            with self._device.entered():
                try:
                    yield
                finally:  # a frame that failed leaves nothing running on memory that the next one takes
                    self._device.synchronize(self._stream)

    def _predict(
        self, image: np.ndarray, sizes: FrameSizes, config: PostprocessConfig, stage: Stage, wait: bool
    ) -> PanopticResult:
        def finish() -> None:
            if wait:
                self._device.synchronize(self._stream)

        with stage("upload"):
            image_address = self._uploaded("image", image)
            finish()
        with stage("preprocess"):
            self._preprocess(image_address, sizes)
            finish()
        with stage("network"):
            shapes = self._network(sizes.padded)
            finish()
        layout = ResultLayout(len(self._is_thing), config.max_detections, sizes.image)
        with stage("postprocess"):
            block = self._postprocess(shapes, sizes, config, layout)
            finish()
        with stage("download"):
            words = self._buffers.host_array("result", 4 * layout.words)
            self._device.download(words, block, self._stream)
            self._device.synchronize(self._stream)
            scale = sizes.resized[0] / sizes.image[0], sizes.resized[1] / sizes.image[1]
            return panoptic_result(layout.arrays(words.view(np.int32).copy()), self._recipe.categories, scale)

    def _preprocess(self, image: int, sizes: FrameSizes) -> None:
        config = self._recipe.input
        params = ResizeNormalizeParams.of(
            sizes.image,
            3 * sizes.image[1],
            sizes.resized,
            sizes.padded,
            config.mean,
            config.std,
            reverse_channels=False,
            channels_last=False,
        )
        size = 3 * _FLOAT_BYTES * sizes.padded[0] * sizes.padded[1]
        self._call("resize_normalize", params, image, self._buffers.address(DENSE_INPUT, size))

    def _network(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """Runs the network on the memory of its input; the shapes of its outputs."""
        context = self._context
        shape = 1, 3, *size
        if not context.set_input_shape(DENSE_INPUT, shape):
            raise ValueError(f"image: expected an input that the engine takes, got {shape}: {self._messages.take()}")
        shapes = {name: tuple(context.get_tensor_shape(name)) for name in dense_outputs()}
        for name, dimensions in {DENSE_INPUT: shape, **shapes}.items():
            size_in_bytes = _FLOAT_BYTES * int(np.prod(dimensions))
            context.set_tensor_address(name, self._buffers.address(name, size_in_bytes))
        if not context.execute_async_v3(self._stream):
            raise RuntimeError(f"TensorRT: expected the network to run, got: {self._messages.take()}")
        return shapes

    def _postprocess(
        self, shapes: dict[str, tuple[int, ...]], sizes: FrameSizes, config: PostprocessConfig, layout: ResultLayout
    ) -> int:
        """The address of the result."""
        logits, *levels = shapes
        ltrb, borderness = levels[: len(BOX_STRIDES)], levels[len(BOX_STRIDES) :]
        level_sizes = [(shapes[name][1], shapes[name][2]) for name in borderness]
        params = PostprocessParams.of(shapes[logits][1:], level_sizes, sizes.resized, sizes.image, config)
        block = self._buffers.address("result", 4 * layout.words)
        self._call(
            "postprocess",
            params,
            self._output(logits),
            self._is_thing_address,
            pointer_array([self._output(name) for name in ltrb]),
            pointer_array([self._output(name) for name in borderness]),
            *(block + 4 * start for start in layout.starts),
        )
        return block

    def _output(self, name: str) -> int:
        return self._buffers.address(name, 0)

    def _call(self, name: str, params: Any, *pointers: Any) -> None:
        size = workspace_size(name, params, self._device.kind)
        workspace = self._buffers.address(f"workspace of {name}", size)
        call(
            name,
            params,
            *pointers,
            device=self._device.kind,
            stream=self._stream,
            workspace=workspace,
            workspace_size=size,
        )

    def _uploaded(self, name: str, array: np.ndarray) -> int:
        """The address of a copy on the device, which is there for the work that comes after."""
        staged = self._buffers.host_array(name, array.nbytes)
        np.copyto(staged.view(array.dtype).reshape(array.shape), array)
        address = self._buffers.address(name, array.nbytes)
        self._device.upload(address, staged, self._stream)
        return address

    def _downloaded(self, name: str, shape: Sequence[int]) -> np.ndarray:
        """float32[shape], filled once the stream is synchronised."""
        staged = self._buffers.host_array(name, _FLOAT_BYTES * int(np.prod(shape)))
        self._device.download(staged, self._output(name), self._stream)
        return staged.view(np.float32).reshape(shape)
