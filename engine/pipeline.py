"""From an image to its panoptic map: the stages, in the order they run, each with its time."""

from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from lpsnet.config import PostprocessConfig, Recipe
from lpsnet.inference import StageTimer, postprocess, postprocess_by_stage, prepare
from lpsnet.structures import PanopticResult

from .images import read_image
from .torch_backend import TorchBackend

if TYPE_CHECKING:
    from lpsnet.models.lpsnet import LPSNet


def load(name_or_path: str | Path, device: str = "cpu") -> "Engine":
    """The engine of a packaged model or of a checkpoint.

    Args:
        name_or_path: such as ``lpsnet_lite0_camvid``, or the path of a checkpoint of this project.
        device: ``cpu`` or ``cuda``.

    Raises:
        ValueError: a name, a file or a device that does not fit; the message says what was expected.
    """
    from lpsnet.models.lpsnet import LPSNet

    return Engine(LPSNet.from_pretrained(name_or_path), device)


class Engine:
    """Runs one network. Safe to call from several threads.

    Args:
        model: the network; it is put into evaluation mode.
        device: ``cpu`` or ``cuda``.

    Attributes:
        recipe: of the model: its classes, its input, its post-processing.
    """

    def __init__(self, model: "LPSNet", device: str = "cpu") -> None:
        self.recipe: Recipe = model.recipe
        self._backend: TorchBackend | None = TorchBackend(model, device)

    def predict(
        self, image: np.ndarray | str | Path, config: PostprocessConfig | None = None, profile: bool = False
    ) -> PanopticResult:
        """The panoptic map of one image, at the image's own size.

        Args:
            image: uint8[H, W, 3] RGB, or the path of an image.
            config: of the post-processing; None takes the recipe's.
            profile: run the post-processing operator by operator, so that each has a time of its own.

        Returns:
            The result. Its `timings` are milliseconds per stage: read, preprocess, network, and postprocess or its
            operators. Ids and segments do not depend on `profile`.

        Raises:
            ValueError: an image that cannot be read, or of another shape or dtype; a setting out of its range.
        """
        backend = self._backend  # read once: another thread may close the engine meanwhile
        if backend is None:
            raise ValueError("engine: expected an open engine, got one that was closed")
        config = config or self.recipe.postprocess
        timer = StageTimer()
        if isinstance(image, str | Path):
            with timer("read"):
                image = read_image(image)
        with timer("preprocess"):
            prepared = prepare(image, self.recipe.input)
        with timer("network"):
            dense = backend.run(prepared)
        if profile:
            result = postprocess_by_stage(dense, prepared, self.recipe.categories, config, timer)
        else:
            with timer("postprocess"):
                result = postprocess(dense, prepared, self.recipe.categories, config)
        return replace(result, timings=timer.timings)

    def close(self) -> None:
        """Lets go of the network. The engine cannot be used afterwards."""
        self._backend = None

    def __enter__(self) -> "Engine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
