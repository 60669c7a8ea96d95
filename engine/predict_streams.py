"""The part of ``lpsnet-predict`` that runs videos, cameras and network addresses."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rich.console import Console

from lpsnet.config import PostprocessConfig, Recipe, StreamConfig
from lpsnet.structures import PanopticResult
from lpsnet.training.interrupt import Interrupts

from .capture import open_source
from .live import LiveDisplay
from .sources import StreamAddress
from .stream_output import StreamOutput
from .stream_pipeline import FAILURES, StreamPipeline


class Predictor(Protocol):
    """What is used of an `Engine`."""

    recipe: Recipe

    def predict(
        self, image: np.ndarray, config: PostprocessConfig | None = None, profile: bool = False
    ) -> PanopticResult:
        """The panoptic map of uint8[H, W, 3] RGB; called by several threads at a time."""


def check_streams(addresses: Sequence[StreamAddress], config: StreamConfig) -> None:
    """Finds what cannot work before any work is done.

    Raises:
        ValueError: a camera that would never let the next source begin.
    """
    cameras = [a.name for a in addresses[:-1] if a.kind == "camera"]
    if cameras and config.max_frames is None:
        raise ValueError(f"{cameras[0]}: expected a camera as the last input, or max_frames: it does not end by itself")


@dataclass(frozen=True)
class StreamRunner:
    """Runs one source after the other, each with files of its own.

    Attributes:
        engine: that predicts.
        postprocess: its settings.
        config: of the streams.
        folder: for the files; made where absent.
        console: is told what was done.
        errors: is shown the progress.
        complain: called with each failure.
        profile: time each operator of the post-processing.
    """

    engine: Predictor
    postprocess: PostprocessConfig
    config: StreamConfig
    folder: Path
    console: Console
    errors: Console
    complain: Callable[[BaseException], None]
    profile: bool = False

    def run(self, addresses: Sequence[StreamAddress]) -> int:
        """Runs them. A first SIGINT or SIGTERM ends a source in order: what was read is finished, the video is whole.

        Returns:
            How many sources could not be run, or not to their end, or not with all of their frames.

        Raises:
            KeyboardInterrupt: a signal came; what was finished is written.
            OSError: the folder cannot be made.
        """
        # A damaged video is one line of this command; FFMPEG would add its own. It asks for this when it is first used.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        self.folder.mkdir(parents=True, exist_ok=True)
        failures, names = 0, set[str]()
        with Interrupts() as interrupts:
            for address in addresses:
                failures += not self._run(address, _new_name(address.stem, names), interrupts)
                if interrupts.received:
                    raise KeyboardInterrupt
        return failures

    def _run(self, address: StreamAddress, name: str, interrupts: Interrupts) -> bool:
        source = open_source(address, self.config)
        try:
            output = StreamOutput(self.folder, name, source, self.engine.recipe.categories, self.config)
        except FAILURES as error:
            self.complain(error)
            return False
        stream = StreamPipeline(source, self._predict, output, self.config)
        try:
            with LiveDisplay(self.errors, self.config.report_every) as show:
                statistics = stream.run(lambda: interrupts.received is not None, show)
            failure = statistics.error
            try:
                output.close()
            except FAILURES as error:
                failure = failure or error
        finally:
            output.discard()
        if failure is not None and not isinstance(failure, FAILURES):
            raise failure
        if failure is None and statistics.failed:
            failure = ValueError(
                f"{source.name}: {statistics.failed} frames failed, such as: {statistics.last_failure}"
            )
        if failure is not None:
            self.complain(failure)
        summary = statistics.summary() | output.describe()
        summary["ended_by"] = interrupts.received or ("error" if statistics.error else "end")
        summary["error"] = None if failure is None else " ".join(str(failure).split())
        try:
            output.write_summary(summary)
        except OSError as error:
            failure = failure or error
            self.complain(error)
        self.console.print(f"{source.name}: {_told(summary)} in {self.folder}", markup=False, soft_wrap=True)
        return failure is None

    def _predict(self, image: np.ndarray) -> PanopticResult:
        return self.engine.predict(image, self.postprocess, self.profile)


def _told(summary: dict[str, Any]) -> str:
    parts = [f"{summary['frames_written']} frames"]
    parts += [
        f"{summary[f'frames_{what}']} {what}" for what in ("dropped", "broken", "failed") if summary[f"frames_{what}"]
    ]
    if summary["frames_written"]:
        marks = ", ".join(f"{name} {value:.0f}" for name, value in summary["latency_ms"].items())
        parts.append(f"{summary['fps']:.1f} FPS end to end, latency {marks} ms")
    parts.append(f"{summary['video']['file']} (without sound)" if summary["video"] else "no video")
    return "; ".join(parts)


def _new_name(stem: str, names: set[str]) -> str:
    """The stem, or with a number where it was given already."""
    name, number = stem, 1
    while name in names:
        number += 1
        name = f"{stem}_{number}"
    names.add(name)
    return name
