"""What an engine runs on: the one interface that every runtime has, and the way around a network on the host."""

from dataclasses import replace
from typing import Protocol

import numpy as np

from lpsnet.config import PostprocessConfig, Recipe
from lpsnet.inference import DenseArrays, NetworkInput, StageTimer, postprocess, postprocess_by_stage, prepare
from lpsnet.structures import PanopticResult


class Backend(Protocol):
    """Takes images to panoptic maps with one network. Safe to call from several threads.

    Attributes:
        recipe: of the network: its classes, its input, its post-processing.
        runs_on: runtime and device in words, such as ``torch 2.13.0 on cpu``.
    """

    recipe: Recipe
    runs_on: str

    def predict(self, image: np.ndarray, config: PostprocessConfig, timer: StageTimer, profile: bool) -> PanopticResult:
        """The panoptic map of uint8[H, W, 3] RGB, each stage timed by `timer`; `profile` asks for as many stages as
        the backend can tell apart. Raises ValueError for any other image, or a setting out of its range."""

    def close(self) -> None:
        """Lets go of what the backend holds. It is not called again afterwards."""


class Network(Protocol):
    """The dense network in some runtime: what `HostPipeline` makes a backend of. Safe to call from several threads."""

    recipe: Recipe
    runs_on: str

    def run(self, prepared: NetworkInput) -> DenseArrays:
        """The dense outputs of one image."""

    def close(self) -> None:
        """As `Backend.close`."""


class HostPipeline:
    """The backend of a dense network: liblpsnet on the CPU before it and after it."""

    def __init__(self, network: Network) -> None:
        self.recipe = network.recipe
        self.runs_on = network.runs_on
        self._network = network

    def predict(self, image: np.ndarray, config: PostprocessConfig, timer: StageTimer, profile: bool) -> PanopticResult:
        """See `Backend`. The stages are preprocess, network, and postprocess or its operators."""
        with timer("preprocess"):
            prepared = prepare(image, self.recipe.input)
        with timer("network"):
            dense = self._network.run(prepared)
        if profile:
            return postprocess_by_stage(dense, prepared, self.recipe.categories, config, timer)
        with timer("postprocess"):
            return postprocess(dense, prepared, self.recipe.categories, config)

    def close(self) -> None:
        """See `Backend`."""
        self._network.close()


def timed(result: PanopticResult, timer: StageTimer) -> PanopticResult:
    """The result with the times of its stages."""
    return replace(result, timings=dict(timer.timings))
