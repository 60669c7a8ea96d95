"""Videos that are either whole and playable or not there."""

import uuid
from pathlib import Path

import cv2
import numpy as np

_LONGEST_FREEZE = 10.0
"""Seconds that a picture stands at most where the source gave none: a camera that was lost for an hour shall not fill
the disk with an hour of one picture."""


class OverlayVideo:
    """An mp4 of a constant frame rate, without sound. It has its name once it is whole.

    Each picture has a place in time. Where places stay empty the picture before stands longer, at most 10 s, and a
    picture whose place is taken already is left out; so a video from a live source that drops frames runs as fast as
    the source did.

    Args:
        path: of the video.
        size: (height, width) in pixels. Odd sides get one row or column more, for codecs want even ones. Pictures of
            another size are scaled into it, with black bars.
        frame_rate: in frames per second.
        codec: four letters, see `StreamConfig.codec`.

    Raises:
        OSError: a folder that cannot be written to, or a codec that OpenCV does not have here.
    """

    def __init__(self, path: Path, size: tuple[int, int], frame_rate: float, codec: str) -> None:
        self.path, self.size, self.frame_rate, self.codec = path, size, frame_rate, codec
        self.written = 0
        """Frames of the video so far; `repeated` of them stand in for others, `left_out` pictures had no place."""
        self.repeated = self.left_out = 0
        self.whole = False
        """Whether it is finished and has its name."""
        self._last: np.ndarray = np.zeros((0, 0, 3), np.uint8)
        self._shift = 0  # of the places, by freezes that were cut short
        self._temporary = path.with_name(f".{uuid.uuid4().hex}.mp4").absolute()  # cv2 knows the container by its suffix
        self._temporary.touch()  # says better than OpenCV why a folder cannot be written to
        height, width = (side + side % 2 for side in size)
        fourcc = cv2.VideoWriter.fourcc(*codec)
        self._writer = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, fourcc, frame_rate, (width, height))
        if not self._writer.isOpened():
            self.discard()
            raise OSError(f"{path}: codec: expected one that this OpenCV can write, got {codec}")

    def write(self, picture: np.ndarray, at: float) -> None:
        """Adds a picture.

        Args:
            picture: uint8[H, W, 3], RGB.
            at: seconds since the first one.

        Raises:
            OSError: the disk is full.
        """
        place = round(at * self.frame_rate) - self._shift
        if self.written + self.left_out == 0:  # the source's first frame may have been dropped
            self._shift, place = place, 0
        if place < self.written:
            self.left_out += 1
            return
        bgr = cv2.cvtColor(_fitted(picture, self.size), cv2.COLOR_RGB2BGR)
        bgr = cv2.copyMakeBorder(bgr, 0, self.size[0] % 2, 0, self.size[1] % 2, cv2.BORDER_REPLICATE)
        if self.written:
            gap = place - self.written
            freeze = min(gap, round(_LONGEST_FREEZE * self.frame_rate))
            self._shift += gap - freeze
            self.repeated += freeze
            for _ in range(freeze):
                self._add(self._last)
        self._add(bgr)
        self._last = bgr

    def close(self) -> None:
        """Finishes the video, sees that it can be played, and gives it its name.

        Raises:
            OSError: it could not be written whole. Nothing is left behind.
        """
        self._writer.release()
        try:
            played = cv2.VideoCapture(str(self._temporary), cv2.CAP_FFMPEG)
            frames, playable = round(played.get(cv2.CAP_PROP_FRAME_COUNT)), played.read()[0]
            played.release()
            if not playable or frames != self.written:
                raise OSError(f"{self.path}: the video could not be written whole; is the disk full?")
            self._temporary.replace(self.path)
            self.whole = True
        finally:
            self._temporary.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leaves nothing behind. Harmless after `close`."""
        self._writer.release()
        self._temporary.unlink(missing_ok=True)

    def _add(self, bgr: np.ndarray) -> None:
        # Older versions of OpenCV return None and leave what went wrong to `close`.
        if self._writer.write(bgr) is False:
            raise OSError(f"{self.path}: the video cannot be written on; is the disk full?")
        self.written += 1


def _fitted(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture at this size, in its own proportions, in the middle of black."""
    height, width = picture.shape[:2]
    if (height, width) == size:
        return picture
    scale = min(size[0] / height, size[1] / width)
    inner = max(1, round(height * scale)), max(1, round(width * scale))
    canvas = np.zeros((*size, 3), np.uint8)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    scaled = cv2.resize(picture, inner[::-1], interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    canvas[top : top + inner[0], left : left + inner[1]] = scaled
    return canvas
