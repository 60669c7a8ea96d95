"""The files of a stream: NAME_overlay.mp4, NAME_frames/ with the ids of each frame, NAME_summary.json."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lpsnet import atomic
from lpsnet.categories import Category
from lpsnet.config import StreamConfig
from lpsnet.structures import PanopticResult
from lpsnet.visualize import overlay

from .outputs import OutputFolder
from .sources import Frame, FrameSource
from .tracking import Tracker
from .video_writer import OverlayVideo

_LEAST_FRAME_RATE = 0.1


@dataclass(frozen=True)
class Drawn:
    """A frame as it is written."""

    frame: Frame
    result: PanopticResult
    picture: np.ndarray
    track_ids: dict[int, int]


class StreamOutput:
    """The sink of a `StreamPipeline` that writes files. See `StreamSink`.

    Args:
        folder: there already.
        name: that the files begin with.
        source: whose frame rate the video has.
        categories: the classes of the results.
        config: what is written, and how.
    """

    def __init__(
        self, folder: Path, name: str, source: FrameSource, categories: tuple[Category, ...], config: StreamConfig
    ) -> None:
        self._folder, self._name, self._source, self._config = folder, name, source, config
        self._tracker = Tracker(config.track_iou, config.track_patience) if config.track else None
        self._frames = OutputFolder(folder / f"{name}_frames", categories) if config.frames else None
        self._video: OverlayVideo | None = None

    def draw(self, frame: Frame, result: PanopticResult) -> Drawn:
        """The overlay, and the numbers of the objects."""
        tracks = self._tracker.update(result) if self._tracker else {}
        track_ids = {segment_id: track.id for segment_id, track in tracks.items()}
        return Drawn(frame, result, overlay(frame.image, result, numbers=track_ids), track_ids)

    def write(self, drawn: Drawn) -> None:
        """Adds a frame to the video, which its first one opens, and to the folder. Raises OSError where it cannot."""
        if self._video is None:
            rate = max(_LEAST_FRAME_RATE, self._source.frame_rate / self._config.every)
            size = drawn.picture.shape[0], drawn.picture.shape[1]
            path = self._folder / f"{self._name}_overlay.mp4"
            self._video = OverlayVideo(path, size, rate, self._config.codec)
        self._video.write(drawn.picture, drawn.frame.at)
        if self._frames:
            self._frames.write_frame(drawn.frame.index, drawn.result, drawn.track_ids)

    def close(self) -> None:
        """Finishes the video and the folder. Raises OSError where they cannot be written."""
        try:
            if self._frames:
                self._frames.write_json()
        finally:
            if self._video:
                self._video.close()

    def discard(self) -> None:
        """Leaves no part of a video behind. Harmless after `close`."""
        if self._video:
            self._video.discard()

    def describe(self) -> dict[str, Any]:
        """What was written, for the summary."""
        video = self._video
        about = None
        if video and video.whole:
            about = {
                "file": video.path.name,
                "height": video.size[0],
                "width": video.size[1],
                "frame_rate": round(video.frame_rate, 3),
                "codec": video.codec,
                "frames": video.written,
                "frames_repeated": video.repeated,
                "frames_left_out": video.left_out,
                "audio": False,
            }
        return {"video": about, "tracks": self._tracker.count if self._tracker else None}

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Writes NAME_summary.json, atomically. Raises OSError where it cannot."""
        data = json.dumps(summary, indent=2, allow_nan=False) + "\n"
        atomic.write_bytes(self._folder / f"{self._name}_summary.json", data.encode())
