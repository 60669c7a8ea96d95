"""What a person sees of a training: a progress bar, lines where there is no terminal, TensorBoard curves."""

from pathlib import Path
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from lpsnet.config import Recipe
from lpsnet.training.log import StepReport


class Display:
    """Call it with the report of each step.

    Args:
        recipe: that is trained.
        output: folder of the curves.
    """

    def __init__(self, recipe: Recipe, output: Path) -> None:
        self._config, self._output = recipe.train, output
        self._curves: SummaryWriter | None = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
        )
        self._task = self._progress.add_task(recipe.name, total=recipe.train.iterations, numbers="")

    def __enter__(self) -> "Display":
        self._progress.start()
        return self

    def __call__(self, report: StepReport) -> None:
        self._progress.update(self._task, completed=report.step, numbers=str(report))
        if self._curves is None:
            # A run that goes on from an earlier step hides the curves that it drew beyond it.
            self._curves = SummaryWriter(str(self._output), purge_step=report.step)
        if report.step % self._config.log_every == 0:
            for name, value in report.scalars().items():
                self._curves.add_scalar(name, value, report.step)
            if not self._progress.console.is_terminal:
                print(f"step {report.step}: {report}", flush=True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._progress.stop()
        if self._curves is not None:
            self._curves.close()
