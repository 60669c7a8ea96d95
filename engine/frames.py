"""From images to the blocks of their results: the work that is enqueued for a frame, and captured."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lpsnet.config import BOX_STRIDES, PostprocessConfig, RuntimeConfig
from lpsnet.models.lpsnet import LPSNet
from lpsnet.ops.postprocess import postprocess_into
from lpsnet.ops.resize_normalize import resize_normalize_into
from lpsnet.structures import DenseOutputs

from .dense_network import DenseNetwork
from .result_layout import ResultLayout
from .streams import Stream

StageContext = Callable[[str], AbstractContextManager[None]]


def unwatched(stage: str) -> AbstractContextManager[None]:
    """The context of a stage that nobody looks at."""
    return nullcontext()


@dataclass(frozen=True)
class FrameShape:
    """All that decides which work a frame is. Frames of equal shape are replays of one graph.

    Attributes:
        batch: images that run together.
        height, width: of each, in pixels.
        config: of the post-processing.
    """

    batch: int
    height: int
    width: int
    config: PostprocessConfig

    def layout(self, num_classes: int) -> ResultLayout:
        """Of the result of each image."""
        return ResultLayout(num_classes, self.config.max_detections, (self.height, self.width))


class Frames:
    """The network with all that comes before it and after it, on one device.

    Args:
        model: is copied.
        runtime: device, precision, compilation.

    Attributes:
        recipe: of the network.
        device: that the work runs on.
    """

    def __init__(self, model: LPSNet, runtime: RuntimeConfig) -> None:
        self.recipe = model.recipe
        self._network = DenseNetwork(model, runtime, half_logits=True)
        self.device = self._network.device
        self._is_thing = torch.tensor([c.isthing for c in self.recipe.categories], dtype=torch.uint8).to(self.device)

    def enqueue(
        self, images: Tensor, blocks: Tensor, shape: FrameShape, stream: Stream, stage: StageContext = unwatched
    ) -> None:
        """Enqueues the work of a frame on torch's current stream, which is that of `stream`. Waits for nothing.

        Args:
            images: uint8[N, H, W, 3] on the device.
            blocks: int32[N, words] on the device, for the results.
            shape: of the frame.
            stream: that the work goes to.
            stage: entered around preprocess, network and postprocess.
        """
        with torch.inference_mode():
            image_size = self.recipe.input.resized(shape.height, shape.width)
            with stage("preprocess"):
                inputs = self._prepared(images, image_size)
            with stage("network"):
                dense = self._network(inputs, image_size)
            with stage("postprocess"):
                layout = shape.layout(len(self.recipe.categories))
                stream.parallel(
                    [
                        partial(self._postprocess, dense, i, blocks[i], layout, image_size, shape)
                        for i in range(shape.batch)
                    ]
                )

    def _prepared(self, images: Tensor, image_size: tuple[int, int]) -> Tensor:
        """[N, 3, h, w] in channels-last memory, in the network's precision."""
        config = self.recipe.input
        sizes = list(image_size), list(config.padded(*image_size))
        moments = list(config.mean), list(config.std)
        batch = torch.empty(len(images), *sizes[1], 3, dtype=self._network.dtype, device=images.device)
        for image, out in zip(images, batch, strict=True):
            resize_normalize_into(out.permute(2, 0, 1), image, sizes[0], *moments)
        return batch.permute(0, 3, 1, 2)

    def _postprocess(
        self,
        dense: DenseOutputs,
        index: int,
        block: Tensor,
        layout: ResultLayout,
        image_size: tuple[int, int],
        shape: FrameShape,
    ) -> None:
        postprocess_into(
            layout.tensors(block),
            dense.logits[index],
            self._is_thing,
            [t[index].contiguous() for t in dense.ltrb],
            [t[index].contiguous() for t in dense.borderness],
            list(BOX_STRIDES),
            list(image_size),
            [shape.height, shape.width],
            shape.config,
        )
