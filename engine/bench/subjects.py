"""The networks that are measured, each a function from image files to panoptic maps."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from lpsnet.config import RECIPES, InputConfig, PostprocessConfig, Recipe, RuntimeConfig, get_recipe
from lpsnet.inference import StageTimer
from lpsnet.packaged import packaged_file, packaged_models
from lpsnet.structures import PanopticResult

from ..backend import Backend
from ..images import read_image
from ..models import open_backend
from .results import PartCost
from .stages import NetworkWatch, split_network

BASELINES = ("upsnet", "panoptic_fpn")
"""The two-stage networks that come with the package."""
ASPECT = 1333 / 800
"""Long over short side of an image, where a size names the short side alone: the limits of COCO's images."""

Boxes = Literal["auto", "all", "model"]


@dataclass(frozen=True)
class Plan:
    """All that a process needs to build one network for one case.

    Attributes:
        name: of a packaged model, a file, a recipe, a baseline or a peer.
        recipe: name or file of ours that a baseline or peer takes classes, backbone and input from.
        image: (height, width) of the images, which becomes the network's input; None keeps the model's own.
        batch: images per run.
        boxes: `all` sets the thresholds of score to 0, so that as many boxes as may be come through; `auto` does so
            for random weights, which otherwise find none.
    """

    name: str
    recipe: str
    image: tuple[int, int] | None
    batch: int = 1
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    device: str = "cpu"
    threads: int = 0
    compile: bool = False
    boxes: Boxes = "auto"

    @property
    def runtime(self) -> RuntimeConfig:
        """For our networks."""
        return RuntimeConfig(self.device, self.threads, self.precision, self.compile)


class Subject(Protocol):
    """A network that is ready to run.

    Attributes:
        runs_on, weights, postprocess, input: as in `results.SubjectResult`.
        stages_apart: the stages take another way through the code than a plain run: they need runs of their own.
    """

    runs_on: str
    weights: str
    postprocess: str
    input: tuple[int, int] | None
    stages_apart: bool

    def run(self, paths: Sequence[Path], timer: StageTimer, staged: bool) -> PanopticResult:
        """Reads the images of a batch and takes them to panoptic maps on the host, of which the last is returned."""

    def stages(self, timings: dict[str, float]) -> dict[str, float]:
        """Of what a timer took of a run: milliseconds per stage, in order, none within another."""

    def costs(self) -> tuple[PartCost, ...]:
        """Parameters and multiply-accumulates per part; none where they are not known."""


def expect_size(text: str) -> tuple[int, int] | None:
    """(height, width) of the images: of ``800`` with the sides of COCO's images, of ``1024x2048``; None of ``own``.

    Raises:
        ValueError: another text, or a side below 32.
    """
    if text == "own":
        return None
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    height = int(found[1]) if found else 0
    width = int(found[2]) if found and found[2] else round(height * ASPECT)
    if min(height, width) < 32:
        raise ValueError(f"sizes: expected a short side, HEIGHTxWIDTH (at least 32 each) or own, got {text!r}")
    return height, width


def is_ours(name: str) -> bool:
    """Whether this names one of our models."""
    return name in packaged_models() or name in RECIPES or Path(name).is_file()


def build_subject(plan: Plan) -> Subject:
    """The network of a plan.

    Raises:
        ValueError: a name, file, device or batch that does not fit.
        ModuleNotFoundError: what runs it is not installed.
    """
    if plan.threads:
        import cv2

        cv2.setNumThreads(plan.threads)
    if is_ours(plan.name):
        path = None if plan.name in RECIPES and plan.name not in packaged_models() else packaged_file(plan.name)
        if path is not None and not _is_checkpoint(path):
            if plan.batch != 1:
                raise ValueError(f"batch: expected 1 for an artifact, got {plan.batch}")
            return _Ours(plan, open_backend(path, plan.runtime), None, _digest(path))
        return _torch_subject(plan, path)
    if plan.batch != 1:
        raise ValueError(f"batch: expected 1 for {plan.name}, which takes one image at a time, got {plan.batch}")
    return _Theirs(plan)


def recipe_of(name: str) -> Recipe:
    """Of one of our models. Raises ValueError for no such model."""
    if name in RECIPES and name not in packaged_models():
        return get_recipe(name)
    path = packaged_file(name)
    if _is_checkpoint(path):
        from lpsnet.checkpoint import load_checkpoint

        return load_checkpoint(path)[0]
    backend = open_backend(path, RuntimeConfig())
    recipe = backend.recipe
    backend.close()
    return recipe


class _Ours:
    """A backend of the engine, called as `Engine.predict` calls it."""

    stages_apart = True

    def __init__(self, plan: Plan, backend: Backend, watch: NetworkWatch | None, weights: str) -> None:
        self.runs_on, self.weights = backend.runs_on, weights
        self._plan, self._backend, self._watch = plan, backend, watch
        recipe = backend.recipe
        self.input = None if plan.image is None else recipe.input.padded(*recipe.input.resized(*plan.image))
        self._config, self.postprocess = _settings(plan.boxes, weights, recipe.postprocess)

    def run(self, paths: Sequence[Path], timer: StageTimer, staged: bool) -> PanopticResult:
        with timer("read"):
            images = [read_image(path) for path in paths]
        if self._watch is not None:
            self._watch.timer = timer if staged else None
        try:
            if self._plan.batch == 1:
                return self._backend.predict(images[0], self._config, timer, staged)
            return self._run_batch(images, timer)
        finally:
            if self._watch is not None:
                self._watch.timer = None

    def _run_batch(self, images: list, timer: StageTimer) -> PanopticResult:
        backend: Any = self._backend  # a TorchCudaPipeline
        with timer("pipeline"):
            return [result.to_host() for result in backend.submit(images, self._config)][-1]

    def stages(self, timings: dict[str, float]) -> dict[str, float]:
        return split_network(timings, self._watch.parts if self._watch else ())

    def costs(self) -> tuple[PartCost, ...]:
        if self.input is None:
            return ()
        try:
            from lpsnet.models.macs import network_costs
        except ModuleNotFoundError:  # of torch, which an exported model runs without
            return ()
        costs = network_costs(self._backend.recipe, self.input)
        return tuple(PartCost(name, c.parameters, c.macs) for name, c in costs.items())


def _torch_subject(plan: Plan, path: Path | None) -> Subject:
    import torch

    from lpsnet.models.lpsnet import LPSNet

    from ..torch_backend import open_torch
    from ..torch_cuda import TorchCudaPipeline

    torch.manual_seed(0)
    model = LPSNet(get_recipe(plan.name)) if path is None else LPSNet.from_pretrained(path)
    model.recipe = at_size(model.recipe, plan.image)
    # A compiled network is one graph, which has no place for hooks.
    watch = None if plan.compile else NetworkWatch(model, plan.device)
    backend = open_torch(model, plan.runtime) if plan.batch == 1 else TorchCudaPipeline(model, plan.runtime)
    return _Ours(plan, backend, watch, "random" if path is None else _digest(path))


class _Theirs:
    """A baseline or an installed peer, with random weights. Its runs are always timed by stage."""

    weights = "random"
    stages_apart = False

    def __init__(self, plan: Plan) -> None:
        import torch

        from lpsnet.baselines.peers import build_peer

        from ..torch_backend import limit_threads

        limit_threads(plan.threads)
        torch.manual_seed(0)
        recipe = at_size(recipe_of(plan.recipe), plan.image)
        self.input = None
        self.postprocess = ""
        self.runs_on = f"torch {torch.__version__} on {plan.device}, {plan.precision}"
        self._name, self._recipe, self._baseline = plan.name, recipe, plan.name in BASELINES
        if self._baseline:
            from lpsnet.baselines.pipeline import TwoStagePipeline

            from ..dense_network import DTYPES

            self._pipeline: Any = TwoStagePipeline(self._build(), plan.device, DTYPES[plan.precision])
            self.postprocess = f"{self._pipeline.model.config.detections} detections"
            if plan.image is not None:
                self.input = recipe.input.padded(*recipe.input.resized(*plan.image))
        else:
            if plan.precision != "fp32":
                raise ValueError(f"precision: expected fp32 for {plan.name}, got {plan.precision}")
            self._pipeline = build_peer(plan.name, recipe, plan.device)

    def run(self, paths: Sequence[Path], timer: StageTimer, staged: bool) -> PanopticResult:
        with timer("read"):
            image = read_image(paths[0])
        return self._pipeline.predict(image, timer)

    def stages(self, timings: dict[str, float]) -> dict[str, float]:
        return dict(timings)

    def costs(self) -> tuple[PartCost, ...]:
        from lpsnet.baselines.two_stage import two_stage_costs

        if not self._baseline or self.input is None:
            return ()
        costs = two_stage_costs(self._build, self.input)
        return tuple(PartCost(name, c.parameters, c.macs) for name, c in costs.items())

    def _build(self) -> Any:
        from lpsnet.baselines.panoptic_fpn import PanopticFPN
        from lpsnet.baselines.upsnet import UPSNet

        return (UPSNet if self._name == "upsnet" else PanopticFPN)(self._recipe)


def at_size(recipe: Recipe, image: tuple[int, int] | None) -> Recipe:
    """The recipe with an input that images of (height, width) fill without a resize; None leaves it as it is."""
    if image is None:
        return recipe
    sizes: InputConfig = replace(recipe.input, short_side=min(image), max_side=max(image))
    return replace(recipe, input=sizes)


def _settings(boxes: Boxes, weights: str, own: PostprocessConfig) -> tuple[PostprocessConfig, str]:
    if boxes == "model" or (boxes == "auto" and weights != "random"):
        return own, ""
    return replace(own, score_threshold=0.0, paste_score=0.0), "score_threshold 0, paste_score 0"


def _is_checkpoint(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(9)[8:9] == b"{"


def _digest(path: Path) -> str:
    return f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
