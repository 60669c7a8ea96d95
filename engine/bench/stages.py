"""Times the stages of a pipeline, the parts of the dense network among them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

from lpsnet.inference import StageTimer

if TYPE_CHECKING:
    from torch import nn

NETWORK = "network"
REST = "network_rest"
"""What the network's stage does outside its parts, such as copying its input and its outputs."""
NETWORK_STAGES = (
    "backbone",
    "fpn",
    "box_head",
    "semantic_head",
    "rpn_head",
    "proposals",
    "box_roi_align",
    "detections",
    "mask_roi_align",
    "mask_head",
    NETWORK,
    REST,
    "pipeline",
    "model",
)
"""Stages of the networks here that are no pre- or post-processing, or cannot be told from it (pipeline, model)."""
BEFORE = ("read", "upload", "preprocess")
_EMPTY_RUNS = 200


class WorkTimer(StageTimer):
    """A `StageTimer` that takes the time of the processor too, of all threads: what a busy machine changes little.

    Attributes:
        work: milliseconds of the processor per stage.
    """

    def __init__(self) -> None:
        super().__init__()
        self.work: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begin = process_time()
        with super().__call__(stage):
            yield
        self.work[stage] = 1e3 * (process_time() - begin)


class NetworkWatch:
    """Times the parts of an `LPSNet` through forward hooks, while it is told to.

    The hooks look at nothing and change nothing that passes; without a timer they only find that there is none.

    Args:
        model: gets the hooks. They are kept by copies of it, whose calls are timed here too.
        device: waited for at the end of each part, where it is a CUDA device.

    Attributes:
        timer: what times the parts; None times nothing.
    """

    def __init__(self, model: "nn.Module", device: str) -> None:
        from lpsnet.models.macs import PARTS

        self.timer: StageTimer | None = None
        self.parts = tuple(PARTS)
        self._device = device
        self._open: dict[str, AbstractContextManager] = {}
        for part in self.parts:
            getattr(model, part).register_forward_pre_hook(lambda *_, part=part: self._begin(part))
            getattr(model, part).register_forward_hook(lambda *_, part=part: self._end(part))

    # Hooks return None: anything else would replace what passes through.
    def _begin(self, part: str) -> None:
        if self.timer is not None:
            self._open[part] = self.timer(part)
            self._open[part].__enter__()

    def _end(self, part: str) -> None:
        if self.timer is not None:
            if self._device.startswith("cuda"):
                import torch

                torch.cuda.synchronize(self._device)
            self._open.pop(part).__exit__(None, None, None)


def split_network(timings: dict[str, float], parts: tuple[str, ...]) -> dict[str, float]:
    """The stages in their order, the network's replaced by those of its parts that were timed and the rest."""
    inside = {p: timings[p] for p in parts if p in timings}
    if NETWORK not in timings or not inside:
        return timings
    split: dict[str, float] = {}
    for stage, taken in timings.items():
        if stage == NETWORK:
            split |= {**inside, REST: max(0.0, taken - sum(inside.values()))}
        elif stage not in inside:
            split[stage] = taken
    return split


def watching_ms(stages: int) -> float:
    """Milliseconds that it takes to time so many empty stages."""
    timer = StageTimer()
    begin = perf_counter()
    for _ in range(_EMPTY_RUNS):
        for stage in range(stages):
            with timer(str(stage)):
                pass
    return 1e3 * (perf_counter() - begin) / _EMPTY_RUNS


def postprocess_share(stages: "dict[str, float]") -> float | None:
    """Share of the post-processing in all stages; None where it cannot be told from the network."""
    if not stages or {"pipeline", "model"} & set(stages):
        return None
    rest = sum(ms for name, ms in stages.items() if name not in (*NETWORK_STAGES, *BEFORE))
    return rest / (sum(stages.values()) or 1.0)


class RangedTimer(StageTimer):
    """A `StageTimer` that opens a range of a profiler around each stage.

    Args:
        ranges: makes the context of a range by its name.
    """

    def __init__(self, ranges: Any) -> None:
        super().__init__()
        self._ranges = ranges

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        with super().__call__(stage), self._ranges(stage):
            yield
