"""A network as evaluation asks it: one view or several, with or without a part of the truth."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from lpsnet.config import PostprocessConfig
from lpsnet.data.sample import Sample
from lpsnet.evaluation.oracle import Oracle, with_truth
from lpsnet.evaluation.views import View, ViewMerger, views_of
from lpsnet.inference import (
    DenseArrays,
    HeadInputs,
    NetworkInput,
    decode,
    detections,
    paste,
    postprocess,
    semantic_labels,
    stuff_labels,
    suppress,
)
from lpsnet.models.lpsnet import LPSNet
from lpsnet.structures import PanopticResult


class Predictor:
    """Gives the panoptic map of a sample, and its semantic label map.

    Args:
        model: in evaluation mode; it is moved to the device.
        device: cpu or cuda.
        config: of the post-processing; None takes the recipe's.
        scales: distinct factors on the size of the network's input; `lpsnet.evaluation.views` says how views merge.
        flip: takes each scale mirrored as well.
        oracle: a part of the truth that the panoptic head gets, see `with_truth`; None for a real test.

    Raises:
        ValueError: scales that are not distinct numbers above 0.
    """

    def __init__(
        self,
        model: LPSNet,
        device: str = "cpu",
        config: PostprocessConfig | None = None,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        oracle: Oracle | None = None,
    ) -> None:
        self._views = views_of(scales, flip)
        self._model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device, self._oracle = device, oracle
        self._recipe = model.recipe
        self._config = config or model.recipe.postprocess

    def __call__(self, sample: Sample) -> tuple[PanopticResult, np.ndarray]:
        """The panoptic map and the label map, uint8[H, W].

        Label map and detections are the network's own, whatever the oracle: it changes what the head makes of them.
        """
        categories = self._recipe.categories
        if len(self._views) == 1 and self._oracle is None:
            prepared, dense = self._run(self._views[0], sample.image)
            return postprocess(dense, prepared, categories, self._config), semantic_labels(dense, prepared)
        inputs = self._head_inputs(sample.image)
        if self._oracle is None:
            return paste(inputs, categories, self._config), inputs.labels
        told = with_truth(inputs, sample, self._oracle, categories, self._recipe.targets.level_bounds)
        result = paste(told, categories, self._config)
        return replace(result, detections=detections(inputs.boxes, inputs.prepared)), inputs.labels

    def _head_inputs(self, image: np.ndarray) -> HeadInputs:
        categories, config = self._recipe.categories, self._config
        if len(self._views) == 1:
            prepared, dense = self._run(self._views[0], image)
            boxes = suppress(decode(dense, prepared, categories, config), config)
            stuff = stuff_labels(dense, prepared, categories, config)
            return HeadInputs(semantic_labels(dense, prepared), stuff, boxes, dense.borderness, prepared)
        merger = ViewMerger(categories, config, self._recipe.targets.level_bounds)
        for view in self._views:
            merger.add(view, *self._run(view, image))
        return merger.result()

    def _run(self, view: View, image: np.ndarray) -> tuple[NetworkInput, DenseArrays]:
        prepared = view.prepare(image, self._recipe.input)
        with torch.inference_mode():
            images = torch.from_numpy(prepared.images).to(self._device, memory_format=torch.channels_last)
            return prepared, DenseArrays.of(self._model(images, prepared.image_size))
