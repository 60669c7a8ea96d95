import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
from made_streams import gray, grays, read_video

from lpsnet.engine.video_writer import OverlayVideo


def write(path, count, size=(48, 64), rate=10.0):
    video = OverlayVideo(path, size, rate, "mp4v")
    for i in range(count):
        video.write(gray(i, size), i / rate)
    return video


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (17, 100)])
def test_a_video_of_any_size(tmp_path, size):
    video = write(tmp_path / "a.mp4", 10, size)
    assert not (tmp_path / "a.mp4").exists()
    video.close()
    frames, rate = read_video(tmp_path / "a.mp4")
    assert grays(frames) == list(range(10))
    assert frames[0].shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    assert rate == 10
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_video_of_one_pixel(tmp_path):
    write(tmp_path / "a.mp4", 5, (1, 1)).close()
    assert len(read_video(tmp_path / "a.mp4")[0]) == 5


def test_colours_arrive(tmp_path):
    video = OverlayVideo(tmp_path / "a.mp4", (48, 64), 10, "mp4v")
    video.write(np.full((48, 64, 3), (200, 90, 30), np.uint8), 0)
    video.close()
    (frame,), _ = read_video(tmp_path / "a.mp4")
    assert np.abs(frame.mean((0, 1)) - (30, 90, 200)).max() < 10


def test_a_picture_of_another_size_is_fitted_in(tmp_path):
    video = OverlayVideo(tmp_path / "a.mp4", (48, 64), 10, "mp4v")
    video.write(gray(5), 0)
    video.write(np.full((48, 16, 3), 240, np.uint8), 0.1)
    video.write(np.full((200, 300, 3), 240, np.uint8), 0.2)
    video.close()
    frames, _ = read_video(tmp_path / "a.mp4")
    assert all(f.shape == (48, 64, 3) for f in frames)
    assert frames[1][24, 32].mean() > 220 > 40 > frames[1][24, 4].mean()
    assert frames[2][24, 32].mean() > 220 > 40 > frames[2][1, 32].mean()


def test_pictures_have_their_place_in_time(tmp_path):
    video = OverlayVideo(tmp_path / "a.mp4", (48, 64), 10, "mp4v")
    for i, at in ((0, 7.0), (1, 7.1), (2, 7.12), (3, 7.5)):  # it began to write late
        video.write(gray(i), at)
    video.close()
    assert grays(read_video(tmp_path / "a.mp4")[0]) == [0, 1, 1, 1, 1, 3]
    assert (video.written, video.repeated, video.left_out) == (6, 3, 1)


def test_a_freeze_is_bounded_and_later_pictures_follow_it(tmp_path):
    video = OverlayVideo(tmp_path / "a.mp4", (48, 64), 2, "mp4v")
    for i, at in ((0, 0.0), (1, 3600.0), (2, 3600.5)):
        video.write(gray(i), at)
    video.close()
    assert grays(read_video(tmp_path / "a.mp4")[0]) == [0] * 21 + [1, 2]


def test_nothing_written_or_discarded_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="could not be written whole"):
        write(tmp_path / "a.mp4", 0).close()
    write(tmp_path / "b.mp4", 3).discard()
    assert list(tmp_path.iterdir()) == []


def test_discard_after_close_keeps_the_video(tmp_path):
    video = write(tmp_path / "a.mp4", 3)
    video.close()
    video.discard()
    assert (tmp_path / "a.mp4").exists()


def test_names_that_ffmpeg_takes_for_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path.__class__("http:%03d.mp4")
    write(path, 2).close()
    assert path.exists()


def test_folders_and_codecs_that_are_not_there(tmp_path):
    with pytest.raises(OSError, match="none"):
        write(tmp_path / "none" / "a.mp4", 1)
    with pytest.raises(OSError, match="codec: expected one that this OpenCV can write, got zzzz"):
        OverlayVideo(tmp_path / "a.mp4", (48, 64), 10, "zzzz")
    assert list(tmp_path.iterdir()) == []


def fill_the_disk(path):
    """Writes a video where files may not grow beyond 30 KB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
    rng = np.random.default_rng(0)
    try:
        video = OverlayVideo(path, (240, 320), 10, "mp4v")
        try:
            for i in range(30):
                video.write(rng.integers(0, 255, (240, 320, 3), dtype=np.uint8), i / 10)
        finally:
            try:
                video.close()
            finally:
                video.discard()
    except OSError as error:
        print(error)


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path):
    # In a process of its own, for the limit cannot be taken back.
    code = "import sys, pathlib, test_video_writer as t; t.fill_the_disk(pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.mp4")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "a.mp4: the video " in done.stdout
    assert "is the disk full?" in done.stdout
    assert list(tmp_path.iterdir()) == []
