"""``lpsnet-predict``: panoptic maps of images, folders and globs, videos, cameras and network streams."""

import dataclasses
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import cv2
import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from lpsnet.config import DEFAULT_ARTIFACT, PostprocessConfig, RuntimeConfig, StreamConfig
from lpsnet.inference import StageTimer
from lpsnet.overrides import NO_OVERRIDES, PostprocessOverrides, overridden
from lpsnet.structures import PanopticResult

from .images import read_image
from .outputs import OutputFolder
from .pipeline import Engine, load
from .predict_streams import StreamRunner, check_streams
from .sample import sample_photograph
from .sources import StreamAddress, find_inputs
from .stream_pipeline import FAILURES as _FAILURES


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Segments images and videos.

    Attributes:
        inputs: images, videos, folders of them, globs; a camera (0, /dev/video0), an address (rtsp://, http://).
        output: folder for the overlays, the panoptic PNGs and panoptic.json, and for videos with their summaries.
        model: a packaged model, or the path of a checkpoint or of an exported model.
        sample: take the photograph that comes with the package.
        profile: time each operator of the post-processing.
        runtime: what runs the model.
        stream: settings of videos and live sources.
        overrides: settings of the post-processing; what is not given is the model's own.
    """

    inputs: tyro.conf.Positional[tuple[str, ...]]
    output: Path
    model: str = DEFAULT_ARTIFACT
    sample: bool = False
    profile: bool = False
    runtime: Annotated[RuntimeConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=RuntimeConfig)
    stream: Annotated[StreamConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=StreamConfig)
    overrides: Annotated[PostprocessOverrides, tyro.conf.arg(name="")] = NO_OVERRIDES


def main(args: Sequence[str] | None = None) -> None:
    """The entry point. Exits with 1 where anything could not be done, after doing the rest; 2 for a bad usage."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        arguments = tyro.cli(Arguments, args=args)
    except ValueError as error:  # of a setting out of its range
        _complain(errors, error)
        sys.exit(2)
    if not arguments.inputs and not arguments.sample:
        _complain(errors, ValueError("inputs: expected images, folders, globs or --sample, got none"))
        sys.exit(2)
    # An image that cannot be read is one line of this command; OpenCV would add its own.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        failures = run(arguments, Console(), errors)
    except (*_FAILURES, ImportError) as error:
        _complain(errors, error)
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("lpsnet-predict: stopped; what was finished is written")
        sys.exit(130)
    sys.exit(1 if failures else 0)


def run(arguments: Arguments, console: Console, errors: Console) -> int:
    """Segments every input; returns how many could not be. One line on `errors` for each of those."""
    paths, streams, failures = _inputs(arguments, errors)
    check_streams(streams, arguments.stream)
    with load(arguments.model, arguments.runtime) as engine:
        config = overridden(engine.recipe.postprocess, arguments.overrides)
        if paths:
            failures = _predict_images(arguments, engine, paths, config, failures, console, errors)
        if streams:
            settings = (config, arguments.stream, arguments.output, console, errors, partial(_complain, errors))
            failures += StreamRunner(engine, *settings, arguments.profile).run(streams)
    return failures


def _predict_images(
    arguments: Arguments,
    engine: Engine,
    paths: Sequence[Path],
    config: PostprocessConfig,
    failures: int,
    console: Console,
    errors: Console,
) -> int:
    """Segments images; returns how many inputs could not be, `failures` of which failed before."""
    output = OutputFolder(arguments.output, engine.recipe.categories)
    first: PanopticResult | None = None
    timings: list[dict[str, float]] = []  # not the results: their maps are as large as the images
    try:
        with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
            for path in progress.track(paths, description=engine.recipe.name):
                try:
                    result = _segment(engine, path, config, arguments.profile, output)
                except _FAILURES as error:
                    failures += 1
                    _complain(errors, error)
                    continue
                first = first or result
                timings.append(result.timings)
    finally:
        output.write_json()
    if first is not None:
        if len(timings) == 1:
            console.print(segment_table(first))
        console.print(timing_table(timings, engine.runs_on))
        console.print(f"{len(timings)} of {len(timings) + failures} images in [bold]{escape(str(output.path))}[/]")
    return failures


def _inputs(arguments: Arguments, errors: Console) -> tuple[list[Path], list[StreamAddress], int]:
    found: dict[Path, None] = {}
    streams: dict[StreamAddress, None] = {}
    failures = 0
    if arguments.sample:
        found[sample_photograph()] = None
    for name in arguments.inputs:
        try:
            images, addresses = find_inputs(name)
        except ValueError as error:
            failures += 1
            _complain(errors, error)
            continue
        found.update(dict.fromkeys(images))
        streams.update(dict.fromkeys(addresses))
    if not found and not streams:
        raise ValueError("inputs: nothing to segment")
    return list(found), list(streams), failures


def _segment(
    engine: Engine, path: Path, config: PostprocessConfig, profile: bool, output: OutputFolder
) -> PanopticResult:
    timer = StageTimer()
    with timer("read"):
        image = read_image(path)
    result = engine.predict(image, config, profile)
    timer.timings.update(result.timings)
    with timer("write"):
        output.write(path, image, result)
    return dataclasses.replace(result, timings=timer.timings)


def segment_table(result: PanopticResult) -> Table:
    """The segments of one image."""
    table = Table(title="Segments")
    for name in ("id", "class", "kind"):
        table.add_column(name)
    for name in ("score", "area", "box (x1, y1, x2, y2)"):
        table.add_column(name, justify="right")
    for s in result.segments:
        category = result.categories[s.label]
        table.add_row(
            str(s.id),
            category.name,
            "thing" if category.isthing else "stuff",
            f"{s.score:.2f}" if category.isthing else "",
            f"{s.area / result.ids.size:.1%}",
            ", ".join(map(str, s.box)),
        )
    return table


def timing_table(timings: Sequence[dict[str, float]], runs_on: str) -> Table:
    """Milliseconds per stage. The first image warms caches up, so the others have a column of their own."""
    table = Table(title=f"Milliseconds per stage, {escape(runs_on)}")
    table.add_column("stage")
    table.add_column("first image", justify="right")
    others = timings[1:]
    if others:
        table.add_column(f"mean of the other {len(others)}", justify="right")

    def add(stage: str, values: Sequence[float], style: str | None = None) -> None:
        mean = [f"{sum(values[1:]) / len(others):.2f}"] if others else []
        table.add_row(stage, f"{values[0]:.2f}", *mean, style=style)

    for stage in timings[0]:
        add(stage, [t[stage] for t in timings])
    add("end to end", [sum(t.values()) for t in timings], style="bold")
    return table


def _complain(errors: Console, error: BaseException) -> None:
    message = " ".join(str(error).split()) or type(error).__name__
    errors.print(f"lpsnet-predict: {message}", style="red", markup=False)


if __name__ == "__main__":
    main()
