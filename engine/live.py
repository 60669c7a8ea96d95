"""What a person sees of a stream while it runs: a line that is renewed, or one now and then without a terminal."""

from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from .statistics import StreamStatistics


class LiveDisplay:
    """Call it with the statistics as often as you like.

    Args:
        console: where to.
        report_every: seconds between two lines where that is no terminal.
    """

    def __init__(self, console: Console, report_every: float) -> None:
        self._console, self._every = console, report_every
        self._next = monotonic() + report_every
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[numbers]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None, numbers="opening")

    def __enter__(self) -> "LiveDisplay":
        self._progress.start()
        return self

    def __call__(self, statistics: StreamStatistics) -> None:
        """Shows where the stream is."""
        source = statistics.source
        if self._console.is_terminal:
            self._progress.update(
                self._task,
                description=escape(source.name),
                completed=statistics.written,
                total=source.frame_count,
                numbers=statistics.line(),
            )
        elif monotonic() >= self._next:
            self._next = monotonic() + self._every
            self._console.print(f"{source.name}: {statistics.line()}", markup=False)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._progress.stop()
