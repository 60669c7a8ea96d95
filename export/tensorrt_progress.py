"""How far TensorRT is, on the terminal, and Ctrl-C while it works."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class BuildProgress:
    """A line for what happens, and a bar for each of TensorRT's phases below it. A context manager.

    Args:
        console: where to.
    """

    def __init__(self, console: Console) -> None:
        columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
        self._progress = Progress(*columns, console=console, transient=True)
        self._stage: TaskID | None = None
        self._phases: dict[str, TaskID] = {}

    def __enter__(self) -> "BuildProgress":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def stage(self, name: str) -> None:
        """Says what happens now."""
        if self._stage is not None:
            self._progress.remove_task(self._stage)
        self._stage = self._progress.add_task(name, total=None)

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps begins, maybe within another."""
        self._phases[phase] = self._progress.add_task(f"  {phase}" if parent else phase, total=steps)

    def step(self, phase: str, step: int) -> None:
        """A step of it, from 0, is done."""
        if phase in self._phases:
            self._progress.update(self._phases[phase], completed=step + 1)

    def finish(self, phase: str) -> None:
        """It is over."""
        if phase in self._phases:
            self._progress.remove_task(self._phases.pop(phase))


def new_monitor(trt: Any, progress: BuildProgress) -> Any:
    """An ``IProgressMonitor`` that tells `progress`. Ctrl-C ends the build, after which its `interrupted` is set."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interrupted = False

        # An exception would pass through TensorRT's own frames.
        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            try:
                progress.start(phase_name, parent_phase, num_steps)
            except KeyboardInterrupt:
                self.interrupted = True

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                progress.step(phase_name, step)
            except KeyboardInterrupt:
                self.interrupted = True
            return not self.interrupted

        def phase_finish(self, phase_name: str) -> None:
            try:
                progress.finish(phase_name)
            except KeyboardInterrupt:
                self.interrupted = True

    return Monitor()
