import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic, sleep

import cv2
import numpy as np
import pytest
import tyro
from made_streams import QUICK, FakeCapture, FakeEngine, gray, read_video, write_video
from rich.console import Console

from lpsnet.coco_format import read_png
from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.engine import cli, predict_streams
from lpsnet.engine.capture import CaptureSource
from lpsnet.engine.predict_streams import StreamRunner, check_streams
from lpsnet.engine.sources import StreamAddress
from lpsnet.engine.video_writer import OverlayVideo

WAIT = 60
"""Seconds after which a test gives up on what never came."""


@pytest.fixture
def predict(tiny_checkpoint, capsys, monkeypatch):
    """Runs the command; returns its exit code, its output and its errors."""
    monkeypatch.setenv("COLUMNS", "300")

    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main([*map(str, args), "--model", str(tiny_checkpoint)])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return int(stop.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def complaints():
    return []


@pytest.fixture
def runner(tmp_path, complaints):
    """Makes a runner over a fake engine, whose complaints are kept."""

    def make(engine=None, config=QUICK):
        console = Console(quiet=True)
        complain = lambda error: complaints.append(str(error))  # noqa: E731
        return StreamRunner(engine or FakeEngine(), None, config, tmp_path / "out", console, console, complain)

    return make


def files(*paths):
    return [StreamAddress("file", str(path)) for path in paths]


def summary_of(folder: Path, name: str) -> dict:
    return json.loads((folder / f"{name}_summary.json").read_text())


def scenes(path: Path, frames: int, size: tuple[int, int] = (96, 128), rate: float = 10.0) -> Path:
    """A video of a window that moves over a made-up scene."""
    scene = cv2.resize(SyntheticScenes(1)[0].image[..., ::-1], (size[1] + 60, size[0] + 60))
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), rate, size[::-1])
    for i in range(frames):
        at = i % 60
        writer.write(np.ascontiguousarray(scene[at : at + size[0], at : at + size[1]]))
    writer.release()
    return path


def test_a_video(predict, tmp_path):
    out = tmp_path / "out"
    code, text, errors = predict(scenes(tmp_path / "clip.mp4", 9), "--output", out)
    assert (code, errors) == (0, "")
    assert "clip.mp4: 9 frames; " in text
    assert "FPS end to end" in text
    assert "clip_overlay.mp4 (without sound)" in text
    assert sorted(p.name for p in out.iterdir()) == ["clip_overlay.mp4", "clip_summary.json"]
    frames, rate = read_video(out / "clip_overlay.mp4")
    assert (len(frames), rate, frames[0].shape) == (9, 10, (96, 128, 3))
    summary = summary_of(out, "clip")
    assert (summary["frames_read"], summary["frames_written"], summary["ended_by"]) == (9, 9, "end")
    assert (summary["live"], summary["error"], summary["tracks"]) == (False, None, None)
    assert {"read", "queue", "preprocess", "network", "postprocess", "draw", "write"} == set(summary["stage_ms"])
    assert summary["video"] == {
        "file": "clip_overlay.mp4",
        "height": 96,
        "width": 128,
        "frame_rate": 10.0,
        "codec": "mp4v",
        "frames": 9,
        "frames_repeated": 0,
        "frames_left_out": 0,
        "audio": False,
    }


def test_tracks_and_ids_of_every_second_frame(predict, tmp_path):
    out = tmp_path / "out"
    low = ("--score-threshold", 0.001, "--paste-score", 0, "--stuff-area-limit", 0)
    options = ("--track", "--frames", "--every", 2, "--max-frames", 4)
    code, _, errors = predict(scenes(tmp_path / "clip.mp4", 12), "--output", out, *options, *low)
    assert (code, errors) == (0, "")
    document = json.loads((out / "clip_frames" / "panoptic.json").read_text())
    assert [i["file_name"] for i in document["images"]] == [f"{i:06d}.png" for i in (0, 2, 4, 6)]
    for annotation in document["annotations"]:
        ids = read_png(out / "clip_frames" / annotation["file_name"])
        assert {s["id"] for s in annotation["segments_info"]} == set(np.unique(ids).tolist()) - {0}
        for segment in annotation["segments_info"]:
            assert ("track_id" in segment) == bool(segment["isthing"])
    numbers = {s["track_id"] for a in document["annotations"] for s in a["segments_info"] if s["isthing"]}
    assert len(numbers) == summary_of(out, "clip")["tracks"]
    frames, rate = read_video(out / "clip_overlay.mp4")
    assert (len(frames), rate) == (4, 5)


def test_many_workers_on_one_engine_find_the_same(predict, tmp_path):
    video = scenes(tmp_path / "clip.mp4", 24)
    for workers in (1, 16):
        code, _, errors = predict(video, "--output", tmp_path / f"{workers}", "--frames", "--workers", workers)
        assert (code, errors) == (0, "")
    one, many = (sorted((tmp_path / n / "clip_frames").iterdir()) for n in ("1", "16"))
    assert [p.name for p in one] == [p.name for p in many]
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in many]
    assert len(one) == 25


def test_images_and_videos_of_equal_names_and_bad_ones_among_them(predict, tmp_path):
    folder = tmp_path / "mixed"
    (folder / "deeper").mkdir(parents=True)
    scenes(folder / "scene.mp4", 4)
    write_video(folder / "deeper" / "scene.mkv", 3)
    cv2.imwrite(str(folder / "scene.png"), SyntheticScenes(1)[0].image)
    (folder / "text.mp4").write_text("no video at all")
    whole = write_video(folder / "cut.avi", 30, codec="MJPG").read_bytes()
    (folder / "cut.avi").write_bytes(whole[: len(whole) * 3 // 4])
    out = tmp_path / "out"
    code, text, errors = predict(folder, folder / "deeper", tmp_path / "missing.mp4", "--output", out)
    assert code == 1
    lines = errors.strip().splitlines()
    assert len(lines) == 3
    assert all(line.startswith("lpsnet-predict: ") for line in lines)
    assert {n for n in ("text.mp4", "cut.avi", "missing.mp4") if n in errors} == {"text.mp4", "cut.avi", "missing.mp4"}
    assert "1 of 2 images" in text
    names = {"scene_overlay.png", "scene_panoptic.png", "panoptic.json", "cut_overlay.mp4", "cut_summary.json"}
    names |= {"text_summary.json"} | {f"scene{n}_{f}" for n in ("", "_2") for f in ("overlay.mp4", "summary.json")}
    assert {p.name for p in out.iterdir()} == names
    cut = summary_of(out, "cut")
    assert len(read_video(out / "cut_overlay.mp4")[0]) == cut["frames_written"] > 0
    assert cut["ended_by"] == "error"
    assert "cut short or damaged" in cut["error"]
    assert [f.shape for f in read_video(out / "scene_2_overlay.mp4")[0]] == [(48, 64, 3)] * 3
    assert summary_of(out, "text")["video"] is None


def test_ffmpeg_adds_no_line_of_its_own(tiny_checkpoint, tmp_path):
    (tmp_path / "cut.mp4").write_bytes(write_video(tmp_path / "whole.mp4", 20).read_bytes()[:1500])
    command = [sys.executable, "-m", "lpsnet.engine.cli", str(tmp_path / "cut.mp4"), "--output", str(tmp_path / "out")]
    done = subprocess.run([*command, "--model", str(tiny_checkpoint)], capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "cut.mp4: expected a video that OpenCV can decode" in line


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["ftp://host/clip.mp4"], "expected an address of http, https"),
        (["0", "clip.mp4"], "0: expected a camera as the last input"),
        (["/dev/video99"], "/dev/video99: expected a camera that can be opened"),
    ],
)
def test_mistakes_are_one_line(predict, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clip.mp4", 1)
    code, _, errors = predict(*args, "--output", "out")
    assert code == 1
    assert message in errors
    assert all(line.startswith("lpsnet-predict: ") for line in errors.strip().splitlines())


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--codec", "zzzz", "zzzz"),
        ("--every", 0, "every: expected at least 1, got 0"),
        ("--max-frames", 0, "max_frames: expected at least 1, got 0"),
        ("--timeout", "nan", "timeout: expected a number above 0, got nan"),
        ("--reconnects", -1, "reconnects: expected at least 0, got -1"),
        ("--track-iou", 7, "track_iou: expected a number in (0, 1], got 7"),
    ],
)
def test_settings_out_of_range_are_a_bad_usage(predict, tmp_path, option, value, message):
    code, text, errors = predict("clip.mp4", "--output", tmp_path, option, value)
    assert code == 2
    assert message in text + errors


def test_a_codec_that_is_not_here_is_one_failure(runner, tmp_path, complaints):
    if OverlayVideoIsPossible("avc1", tmp_path):
        pytest.skip("this OpenCV writes H.264")
    assert runner(config=replace(QUICK, codec="avc1")).run(files(write_video(tmp_path / "a.mp4", 2))) == 1
    assert "codec: expected one that this OpenCV can write, got avc1" in complaints[0]


def OverlayVideoIsPossible(codec, folder):
    try:
        OverlayVideo(folder / "probe.mp4", (48, 64), 10, codec).discard()
    except OSError:
        return False
    return True


def test_a_failure_to_write_does_not_stop_the_next_source(runner, tmp_path, complaints, monkeypatch):
    write = OverlayVideo.write

    def failing(self, picture, at):
        if "first" in self.path.name and at > 0.3:
            raise OSError(28, "No space left on device")
        write(self, picture, at)

    monkeypatch.setattr(OverlayVideo, "write", failing)
    both = files(write_video(tmp_path / "first.mp4", 20), write_video(tmp_path / "second.mp4", 5))
    assert runner().run(both) == 1
    assert complaints == ["[Errno 28] No space left on device"]
    assert len(read_video(tmp_path / "out" / "first_overlay.mp4")[0]) == 4  # what came before is whole
    assert len(read_video(tmp_path / "out" / "second_overlay.mp4")[0]) == 5
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]


def test_a_video_that_cannot_be_finished_is_not_taken_for_that_of_an_earlier_run(
    runner, tmp_path, complaints, monkeypatch
):
    video = files(write_video(tmp_path / "a.mp4", 5))
    assert runner().run(video) == 0
    before = (tmp_path / "out" / "a_overlay.mp4").read_bytes()

    def failing(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OverlayVideo, "close", failing)
    assert runner().run(video) == 1
    assert complaints == ["[Errno 28] No space left on device"]
    assert (tmp_path / "out" / "a_overlay.mp4").read_bytes() == before
    summary = summary_of(tmp_path / "out", "a")
    assert summary["video"] is None
    assert summary["error"] == complaints[0]


def test_frames_that_failed_are_reported(runner, tmp_path, complaints):
    calls = []

    def fail(image):
        calls.append(1)
        if len(calls) == 3:
            raise ValueError("no such luck")

    assert runner(FakeEngine(fail)).run(files(write_video(tmp_path / "a.mp4", 8))) == 1
    assert complaints == [f"{tmp_path}/a.mp4: 1 frames failed, such as: no such luck"]
    assert summary_of(tmp_path / "out", "a")["frames_failed"] == 1
    assert len(read_video(tmp_path / "out" / "a_overlay.mp4")[0]) == 8  # the frame before stands in for it


def test_a_mistake_in_the_program_is_not_hidden_and_leaves_no_part_of_a_video(runner, tmp_path):
    def mistake(image):
        raise TypeError("a mistake")

    with pytest.raises(TypeError, match="a mistake"):
        runner(FakeEngine(mistake)).run(files(write_video(tmp_path / "a.mp4", 8)))
    assert list((tmp_path / "out").iterdir()) == []


def test_the_video_of_a_live_source_runs_as_fast_as_the_source(runner, tmp_path, monkeypatch):
    pause = 0.25

    def late():
        sleep(pause)
        return gray(9)

    capture = FakeCapture([gray(1), late, late], rate=20.0)
    made = CaptureSource(StreamAddress("camera", "0"), replace(QUICK, reconnects=0), lambda: capture)
    monkeypatch.setattr(predict_streams, "open_source", lambda address, config: made)
    runner().run([StreamAddress("camera", "0")])
    summary = summary_of(tmp_path / "out", "camera_0")
    assert summary["live"]
    frames, rate = read_video(tmp_path / "out" / "camera_0_overlay.mp4")
    assert rate == 20
    assert len(frames) >= 2 * pause * rate
    assert summary["video"]["frames_repeated"] == len(frames) - 3


def test_sizes_may_be_odd_and_change(runner, tmp_path, monkeypatch):
    items = [gray(1, (47, 63)), gray(1)[..., 0], gray(1, (31, 90)), gray(1, (200, 10))]
    made = CaptureSource(StreamAddress("file", "a"), QUICK, lambda: FakeCapture(items, count=4))
    monkeypatch.setattr(predict_streams, "open_source", lambda address, config: made)
    assert runner(config=replace(QUICK, track=True)).run(files("a")) == 0
    assert [f.shape for f in read_video(tmp_path / "out" / "a_overlay.mp4")[0]] == [(48, 64, 3)] * 4


def test_a_camera_is_the_last_input_unless_it_ends():
    camera = StreamAddress("camera", "0")
    with pytest.raises(ValueError, match="0: expected a camera as the last input"):
        check_streams([camera, *files("a")], QUICK)
    check_streams([*files("a"), camera], QUICK)
    check_streams([camera, *files("a")], replace(QUICK, max_frames=5))


class Endless(BaseHTTPRequestHandler):
    """Motion JPEG without an end."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        data = cv2.imencode(".jpg", SyntheticScenes(1)[0].image)[1].tobytes()
        part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(data), data)
        try:
            while True:
                self.wfile.write(part)
                sleep(0.02)
        except OSError:
            pass  # the client is gone

    def log_message(self, *args):
        pass


@pytest.fixture
def endless():
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}/live?token=secret"
        served.shutdown()
        thread.join()


@pytest.mark.parametrize(("number", "live"), [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGINT, True)])
def test_a_signal_leaves_a_playable_video(tiny_checkpoint, tmp_path, endless, number, live):
    out = tmp_path / "out"
    source = endless if live else str(scenes(tmp_path / "long.mp4", 1500, (192, 256)))
    command = [sys.executable, "-m", "lpsnet.engine.cli", source, "--output", str(out), "--model", str(tiny_checkpoint)]
    process = subprocess.Popen(
        [*command, "--report-every", "0.5"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "COLUMNS": "300"},
    )  # fmt: skip
    try:
        deadline = monotonic() + WAIT
        while not list(out.glob(".*.mp4")) and process.poll() is None and monotonic() < deadline:
            sleep(0.05)
        sleep(0.3)
        process.send_signal(number)
        text, errors = process.communicate(timeout=WAIT)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, errors
    assert errors.strip().splitlines()[-1] == "lpsnet-predict: stopped; what was finished is written"
    assert "Traceback" not in errors
    assert "secret" not in text + errors
    (video,) = out.glob("*.mp4")
    (path,) = out.glob("*_summary.json")
    summary = json.loads(path.read_text())
    assert summary["ended_by"] == number.name
    assert len(read_video(video)[0]) == summary["video"]["frames"] > 0
    assert summary["frames_read"] == summary["frames_written"] + summary["frames_dropped"]
    assert summary["live"] == live
    assert "secret" not in path.read_text()
    assert len(list(out.iterdir())) == 2


def test_the_page_names_options_and_fields_that_exist(runner, tmp_path, capsys):
    page = (Path(__file__).parents[1] / "docs" / "streams.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    about_the_command = re.sub(r"`python [^`]*`", "", page)
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", about_the_command)) <= known
    for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["lpsnet-predict"]:
                tyro.cli(cli.Arguments, args=words[1:])
    runner().run(files(write_video(tmp_path / "a.mp4", 2)))
    assert set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) == set(summary_of(tmp_path / "out", "a"))
