"""From an image to its panoptic map through a two-stage network, stage by stage."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import numpy as np
import torch

from lpsnet import native
from lpsnet.baselines.masks import PastedMasks, paste_masks
from lpsnet.baselines.segments import Entry, make_segments
from lpsnet.baselines.two_stage import Stages, TwoStageNetwork, TwoStageOutputs
from lpsnet.categories import Category
from lpsnet.config import SEMANTIC_STRIDE
from lpsnet.inference import NetworkInput, StageTimer, prepare
from lpsnet.models.deform import DeformConv2d
from lpsnet.models.fold import fold_batch_norms
from lpsnet.structures import Detections, PanopticResult


class TwoStagePipeline:
    """Runs a two-stage network as the engine runs ours: BatchNorm folded, channels last in memory.

    Args:
        model: `UPSNet` or `PanopticFPN`; is copied.
        device: as torch names it.
        dtype: of the dense network: float32, float16 or bfloat16. Offsets, RoIAlign and all that follows the heads are
            float32 in any case.

    Attributes:
        recipe: of the model.
    """

    def __init__(self, model: TwoStageNetwork, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.device, self.dtype = torch.device(device), dtype
        self.recipe = model.recipe
        self.model = fold_batch_norms(model)
        kept = {id(p) for m in self.model.modules() if isinstance(m, DeformConv2d) for p in m.offset.parameters()}
        for parameter in self.model.parameters():
            if id(parameter) not in kept:
                parameter.data = parameter.data.to(dtype)
        self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def predict(self, image: np.ndarray, timer: StageTimer | None = None) -> PanopticResult:
        """The panoptic map of one image, at the image's own size.

        Args:
            image: uint8[H, W, 3] RGB.
            timer: of the stages; a CUDA device is waited for at the end of each.

        Raises:
            ValueError: an image of another shape or dtype.
        """
        timer = timer or StageTimer()
        stages = self._stages(timer)
        with stages("preprocess"):
            prepared = prepare(image, self.recipe.input)
            images = torch.from_numpy(prepared.images).to(self.device, self.dtype, memory_format=torch.channels_last)
        with torch.inference_mode():
            outputs = self.model(images, prepared.image_size, stages)
            result = self.model.panoptic(outputs, prepared, stages)
        return replace(result, timings=timer.timings)

    def _stages(self, timer: StageTimer) -> Stages:
        @contextmanager
        def synchronised(stage: str) -> Iterator[None]:
            with timer(stage):
                yield
                torch.cuda.synchronize(self.device)

        if self.device.type == "cuda":
            return synchronised

        def direct(stage: str) -> AbstractContextManager:
            return timer(stage)

        return direct


def pasted(outputs: TwoStageOutputs, prepared: NetworkInput) -> PastedMasks:
    """The masks of the instances in pixels of the image."""
    return paste_masks(outputs.instances, outputs.masks, prepared.scale, prepared.output_size)


def logit_scale(prepared: NetworkInput) -> tuple[float, float]:
    """(y, x), semantic logits per pixel of the image."""
    return prepared.scale[0] / SEMANTIC_STRIDE, prepared.scale[1] / SEMANTIC_STRIDE


def stuff_classes(categories: tuple[Category, ...]) -> list[int]:
    """The indices of the stuff classes."""
    return [i for i, c in enumerate(categories) if not c.isthing]


def panoptic_result(
    slots: torch.Tensor,
    kept: PastedMasks,
    model: TwoStageNetwork,
    outputs: TwoStageOutputs,
    prepared: NetworkInput,
) -> PanopticResult:
    """The result of a map of slots: first the stuff classes, then the kept instances, last void."""
    categories = model.recipe.categories
    entries = [Entry(i) for i in stuff_classes(categories)]
    entries += [Entry(model.things[label], score) for label, score in zip(kept.labels, kept.scores, strict=True)]
    limit = native.output_area_limit(model.config.stuff_area_limit, prepared.image_size, prepared.output_size)
    ids, segments = make_segments(slots, entries, limit)
    instances = outputs.instances
    boxes = instances.boxes.cpu().numpy() / np.tile(prepared.scale[::-1], 2).astype(np.float32)
    labels = np.array(model.things, np.int32)[instances.labels.cpu().numpy()]
    detections = Detections(boxes, instances.scores.cpu().numpy(), labels)
    return PanopticResult(ids, segments, categories, detections)
