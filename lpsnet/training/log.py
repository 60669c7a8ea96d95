"""What each step measured, and the file that keeps it."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from lpsnet import atomic


@dataclass(frozen=True)
class StepReport:
    """What one step measured.

    Attributes:
        step: counted from 1.
        losses: weighted, by name; ``total`` is their sum.
        learning_rate: of the heads.
        grad_norm: of the gradient, before it is clipped.
        images: that the step learnt from, in all processes.
        seconds: of the whole step.
        waited: seconds of it spent waiting for data, in the process that waited longest.
    """

    step: int
    losses: dict[str, float]
    learning_rate: float
    grad_norm: float
    images: int
    seconds: float
    waited: float

    @property
    def images_per_second(self) -> float:
        """Of all processes together."""
        return self.images / self.seconds

    @property
    def waiting(self) -> float:
        """Share of the step spent waiting for data, 0..1."""
        return min(1.0, self.waited / self.seconds)

    def __str__(self) -> str:
        numbers = " ".join(f"{name} {value:.3f}" for name, value in self.losses.items())
        return f"{numbers}  {self.images_per_second:.1f} images/s, {self.waiting:.0%} waiting"

    def scalars(self) -> dict[str, float]:
        """Its curves, by name."""
        return {f"loss/{name}": value for name, value in self.losses.items()} | {
            "learning_rate": self.learning_rate,
            "grad_norm": self.grad_norm,
            "speed/images_per_second": self.images_per_second,
            "speed/waiting": self.waiting,
        }

    def to_dict(self) -> dict[str, Any]:
        """Its line in the log."""
        return {
            "step": self.step,
            **self.losses,
            "lr": self.learning_rate,
            "grad_norm": self.grad_norm,
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
            "waiting": self.waiting,
        }


class Log:
    """One JSON object per step. What a run wrote after the state that it goes on from is dropped.

    Args:
        path: of the file.
        step: that the run goes on from; 0 starts anew.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path, self._step = path, step

    def __enter__(self) -> "Log":
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._step and self._path.exists() else []
        kept = [line for line in lines if 0 < _step(line) <= self._step]
        atomic.write_bytes(self._path, "".join(f"{line}\n" for line in kept).encode())
        self._file: TextIO = self._path.open("a", encoding="utf-8")
        return self

    def write(self, report: StepReport) -> None:
        """Adds a step; a crash loses none that was added."""
        self._file.write(json.dumps(report.to_dict()) + "\n")
        self._file.flush()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._file.close()


def _step(line: str) -> int:
    """Of a line; 0 where the line was cut off."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 0
