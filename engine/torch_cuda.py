"""The whole way from image to panoptic map on one device, without the host in between."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from lpsnet.config import PostprocessConfig, RuntimeConfig
from lpsnet.inference import StageTimer, expect_image
from lpsnet.models.lpsnet import LPSNet
from lpsnet.native import library
from lpsnet.structures import PanopticResult

from .device_result import DevicePanopticResult
from .frames import Frames, FrameShape, StageContext
from .lane import Lane
from .streams import CudaStream, HostStream, Mark, Stream
from .torch_backend import limit_threads


class TorchCudaPipeline:
    """Runs an `LPSNet` and liblpsnet on one CUDA device. See `backend.Backend`.

    Nothing waits for the device until a result is asked for. A frame whose size and settings came before is the replay
    of a CUDA graph, which allocates nothing; the memory of its result is from torch's cache of device memory. On the
    CPU the same runs without streams and graphs.

    Frames on one stream run in the order of their calls; with several streams calls take turns.

    Args:
        model: is copied, its BatchNorm folded, and put into the precision that `runtime` names.
        runtime: device, precision, graphs.
        new_stream: makes a stream of the device; None takes torch's.

    Raises:
        ValueError: a device that torch does not have here, or that liblpsnet has no code for.
    """

    def __init__(
        self, model: LPSNet, runtime: RuntimeConfig, new_stream: Callable[[torch.device], Stream] | None = None
    ) -> None:
        _expect_device(runtime.device)
        limit_threads(runtime.threads)
        self.recipe = model.recipe
        frames = Frames(model, runtime)
        streams = [(new_stream or _new_stream)(frames.device) for _ in range(runtime.streams)]
        self._lanes = [
            Lane(frames, stream, runtime.max_graphs if runtime.graph and stream.has_graphs else 0) for stream in streams
        ]
        self._turns = itertools.count()
        self.runs_on = f"torch {torch.__version__} on {_in_words(runtime)}"

    def predict(self, image: np.ndarray, config: PostprocessConfig, timer: StageTimer, profile: bool) -> PanopticResult:
        """See `Backend`. There is one stage, pipeline; a profile has upload, preprocess, network, postprocess and
        download, without a graph, and waits for the device after each."""
        expect_image(image)
        if not profile:
            with timer("pipeline"):
                return self.submit([image], config)[0].to_host()
        lane = self._lane()

        @contextmanager
        def finished(name: str) -> Iterator[None]:
            with timer(name):
                yield
                lane.stream.synchronize()

        (result,) = self._submit_by_stage(lane, self._staged(lane, [image]), config, finished)
        with timer("download"):
            return result.to_host()

    def submit(
        self, images: Sequence[np.ndarray] | Tensor, config: PostprocessConfig | None = None
    ) -> tuple[DevicePanopticResult, ...]:
        """Enqueues images, which run through the network together, and returns at once.

        Args:
            images: of one size, uint8[H, W, 3] RGB each; or uint8[N, H, W, 3] on the device, where work on torch's
                current stream may still be writing them. Arrays may be changed after the call; a tensor may be
                dropped, and changed by work that comes after `DevicePanopticResult.tensors` or `to_host`.
            config: of the post-processing; None takes the recipe's.

        Returns:
            A result per image, each of its image's size.

        Raises:
            ValueError: no images, images of other types, of several sizes or on another device; a setting out of its
                range.
        """
        lane = self._lane()
        if isinstance(images, Tensor):
            _expect_batch(images, lane.stream.device)
            batch = images
        else:
            batch = self._staged(lane, images)
        shape = self._shape(batch, config)
        return self._results(lane, shape, *lane.submit(batch, shape))

    def submit_by_stage(
        self, images: Sequence[np.ndarray], config: PostprocessConfig | None, stage: StageContext
    ) -> tuple[DevicePanopticResult, ...]:
        """Like `submit`, without a graph: ``stage(name)`` is entered around each of upload, preprocess, network and
        postprocess, on the stream of the work."""
        lane = self._lane()
        return self._submit_by_stage(lane, self._staged(lane, images), config, stage)

    def close(self) -> None:
        """See `Backend`. Waits for the frames that were submitted; their results stay."""
        for lane in self._lanes:
            lane.close()

    def _lane(self) -> Lane:
        return self._lanes[next(self._turns) % len(self._lanes)]

    def _shape(self, batch: Tensor, config: PostprocessConfig | None) -> FrameShape:
        count, height, width = batch.shape[:3]
        return FrameShape(count, height, width, config or self.recipe.postprocess)

    @staticmethod
    def _staged(lane: Lane, images: Sequence[np.ndarray]) -> Tensor:
        """The images as one tensor on the host."""
        for image in images:
            expect_image(image)
        sizes = sorted({image.shape for image in images})
        if len(sizes) != 1:
            raise ValueError(f"images: expected some of one size, got {sizes}")
        batch = lane.stream.host_tensor((len(images), *images[0].shape), torch.uint8)
        for row, image in zip(batch.numpy(), images, strict=True):
            np.copyto(row, image)
        return batch

    def _submit_by_stage(
        self, lane: Lane, batch: Tensor, config: PostprocessConfig | None, stage: StageContext
    ) -> tuple[DevicePanopticResult, ...]:
        shape = self._shape(batch, config)
        return self._results(lane, shape, *lane.submit_by_stage(batch, shape, stage))

    def _results(self, lane: Lane, shape: FrameShape, blocks: Tensor, mark: Mark) -> tuple[DevicePanopticResult, ...]:
        resized = self.recipe.input.resized(shape.height, shape.width)
        scale = resized[0] / shape.height, resized[1] / shape.width
        layout = shape.layout(len(self.recipe.categories))
        return tuple(
            DevicePanopticResult(block, layout, self.recipe.categories, scale, mark, lane.stream) for block in blocks
        )


def _expect_device(name: str) -> None:
    if name == "cpu":
        return
    if not name.startswith("cuda"):
        raise ValueError(f"device: expected cpu or cuda for a torch network, got {name}")
    device = torch.device(name)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        raise ValueError(f"device: expected one of the {count} CUDA devices that torch finds here, got {name}")
    if not library.library().lps_num_cuda_devices():
        raise ValueError(
            f"device: expected one that liblpsnet has code for, got {name}: install lpsnet again with LPSNET_CUDA=ON"
        )


def _new_stream(device: torch.device) -> Stream:
    return CudaStream(device) if device.type == "cuda" else HostStream()


def _expect_batch(images: Tensor, device: torch.device) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
        raise ValueError(f"images: expected uint8 [N, H, W, 3], got {images.dtype} {list(images.shape)}")
    if images.device != device:
        raise ValueError(f"images: expected a tensor on {device}, got {images.device}")


def _in_words(runtime: RuntimeConfig) -> str:
    words = [runtime.device, runtime.precision]
    if runtime.compile:
        words.append("compiled")
    if runtime.graph and runtime.device != "cpu":
        words.append("CUDA graphs")
    return ", ".join(words)
