"""When a training has gone wrong, and what it leaves behind for whoever looks into it."""

import json
import math
import statistics
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lpsnet import atomic
from lpsnet.config import TrainConfig
from lpsnet.training.batches import Place

REPORT_NAME = "diverged.json"
WINDOW = 100
"""Steps whose losses tell what is usual."""
_FEWEST = 10
"""Steps before which nothing is known to be usual."""
MIN_SCALE = 2.0**-10
"""A loss scale below it overflows float16 whatever the scale: it starts at 2^16 and halves at each overflow."""


class TrainingDiverged(RuntimeError):
    """A loss or a gradient is not finite, or the loss is far from what it was."""


class LossWatch:
    """Tells a loss that exploded from the usual ones.

    Args:
        factor: `TrainConfig.explosion`.
        history: totals of the last steps, as `history` gave them.
    """

    def __init__(self, factor: float, history: Iterable[float] = ()) -> None:
        self.factor = factor
        self._totals: deque[float] = deque(history, maxlen=WINDOW)

    @property
    def history(self) -> list[float]:
        """Totals of the last steps."""
        return list(self._totals)

    def fault(self, total: float, grad_norm: float, loss_scale: float | None) -> str | None:
        """What is wrong with a step, if anything; a sound one is remembered.

        Args:
            total: loss of the step.
            grad_norm: of its gradient. It may be infinite under a loss scale, which then shrinks.
            loss_scale: None where there is none.
        """
        if not math.isfinite(total):
            return f"the loss is {total}"
        usual = max(1.0, statistics.median(self._totals)) if len(self._totals) >= _FEWEST else math.inf
        if self.factor > 0 and total > self.factor * usual:
            return f"the loss is {total:.4g}, more than {self.factor:g} times the usual {usual:.4g}"
        if loss_scale is None and not math.isfinite(grad_norm):
            return f"the norm of the gradient is {grad_norm}"
        if loss_scale is not None and loss_scale < MIN_SCALE:
            return f"float16 overflows at every loss scale, now {loss_scale:g}"
        self._totals.append(total)
        return None


def write_report(
    path: Path,
    reason: str,
    step: int,
    losses: dict[str, float],
    grad_norm: float,
    samples: Sequence[tuple[str, Place]],
    config: TrainConfig,
) -> None:
    """Writes what is needed to replay the batch of a step as JSON.

    Args:
        path: of the file.
        reason: what is wrong.
        step: counted from 1.
        losses, grad_norm: of the step.
        samples: names of the samples, in the order of the batch, and where they came from.
        config: of the run.
    """
    report: dict[str, Any] = {
        "reason": reason,
        "step": step,
        "losses": {name: _plain(value) for name, value in losses.items()},
        "grad_norm": _plain(grad_norm),
        "seed": config.seed,
        "batch_size": config.batch_size,
        "samples": [
            {"name": name, "index": place.index, "augmentation_seed": place.augmentation_seed}
            for name, place in samples
        ],
    }
    atomic.write_bytes(path, (json.dumps(report, indent=2) + "\n").encode())


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)  # JSON has no NaN
