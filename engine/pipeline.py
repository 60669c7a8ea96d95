"""The engine: from an image, or the path of one, to its panoptic map, whatever runs the network."""

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from lpsnet.config import PostprocessConfig, Recipe, RuntimeConfig
from lpsnet.inference import StageTimer
from lpsnet.memory import give_back_freed_memory
from lpsnet.structures import PanopticResult

from .backend import Backend, timed
from .images import read_image
from .models import open_backend
from .torch_backend import open_torch

if TYPE_CHECKING:
    from lpsnet.models.lpsnet import LPSNet


def load(name_or_path: str | Path, runtime: RuntimeConfig | str = "cpu") -> "Engine":
    """The engine of a packaged model, a checkpoint, or an exported model; what it is, is read from the file.

    Args:
        name_or_path: such as ``lpsnet_lite0_camvid``, or the path of a file of lpsnet-train or lpsnet-export.
        runtime: what to run on, or a device, for the defaults of the rest.

    Raises:
        ValueError: a name, a file or a device that does not fit; the message says what was expected.
        ModuleNotFoundError: what runs such a file is not installed.
    """
    engine = Engine(open_backend(name_or_path, _runtime(runtime)))
    give_back_freed_memory()
    return engine


class Engine:
    """Runs one network. Safe to call from several threads.

    Args:
        backend: what runs it.

    Attributes:
        recipe: of the network: its classes, its input, its post-processing.
        runs_on: runtime and device, in words.
    """

    def __init__(self, backend: Backend) -> None:
        self.recipe: Recipe = backend.recipe
        self.runs_on = backend.runs_on
        self._backend: Backend | None = backend

    @classmethod
    def of(cls, model: "LPSNet", runtime: RuntimeConfig | str = "cpu") -> "Engine":
        """The engine of a torch network.

        Args:
            model: is copied: what becomes of it afterwards does not matter.
            runtime: what to run on, or a device, for the defaults of the rest.

        Raises:
            ValueError: a device that is not there.
        """
        return cls(open_torch(model, _runtime(runtime)))

    def predict(
        self, image: np.ndarray | str | Path, config: PostprocessConfig | None = None, profile: bool = False
    ) -> PanopticResult:
        """The panoptic map of one image, at the image's own size.

        Args:
            image: uint8[H, W, 3] RGB, or the path of an image.
            config: of the post-processing; None takes the recipe's.
            profile: run the post-processing operator by operator, where the backend can, so that each has a time of its
                own.

        Returns:
            The result. Its `timings` are milliseconds per stage, such as read, preprocess, network, and postprocess or
            its operators. Ids and segments do not depend on `profile`, but for the rounding of a GPU.

        Raises:
            ValueError: an image that cannot be read, or of another shape or dtype; a setting out of its range.
        """
        backend = self._backend  # read once: another thread may close the engine meanwhile
        if backend is None:
            raise ValueError("engine: expected an open engine, got one that was closed")
        timer = StageTimer()
        if isinstance(image, str | Path):
            with timer("read"):
                image = read_image(image)
        return timed(backend.predict(image, config or self.recipe.postprocess, timer, profile), timer)

    def warm_up(self, height: int, width: int, frames: int = 2) -> None:
        """Predicts blank frames, so that the first image of this size is as fast as the others: memory is
        allocated, and on CUDA kernels are loaded and the graph is captured.

        Args:
            height, width: of the images to come.
            frames: how many.

        Raises:
            ValueError: a size below 1, a closed engine.
        """
        if min(height, width, frames) < 1:
            raise ValueError(f"height, width, frames: expected at least 1, got {height}, {width}, {frames}")
        for _ in range(frames):
            self.predict(np.zeros((height, width, 3), np.uint8))

    def close(self) -> None:
        """Lets go of the network. The engine cannot be used afterwards."""
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _runtime(runtime: RuntimeConfig | str) -> RuntimeConfig:
    return RuntimeConfig(device=runtime) if isinstance(runtime, str) else runtime
