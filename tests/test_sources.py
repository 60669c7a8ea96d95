import socket
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic, sleep

import cv2
import numpy as np
import pytest
from made_streams import QUICK, FakeCapture, camera, gray, grays, recording, write_video

from lpsnet.engine.capture import open_source, to_rgb
from lpsnet.engine.sources import SourceError, StreamAddress, find_inputs


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setenv("OPENCV_FFMPEG_LOGLEVEL", "-8")


def opened(path, **settings):
    return open_source(StreamAddress("file", str(path)), replace(QUICK, **settings))


def test_what_inputs_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.MP4", "a.jpg", "c.txt", "a.avi"):
        (tmp_path / name).write_bytes(b"x")
    images, streams = find_inputs(str(tmp_path))
    assert [p.name for p in images] == ["a.jpg"]
    assert [s.stem for s in streams] == ["a", "b"]
    images, streams = find_inputs("*.*")
    assert [str(p) for p in images] + [s.address for s in streams] == ["a.jpg", "a.avi", "b.MP4"]
    assert find_inputs("0") == ([], [StreamAddress("camera", "0")])
    assert find_inputs("/dev/video7") == ([], [StreamAddress("camera", "/dev/video7")])
    assert find_inputs("c.txt")[0][0].name == "c.txt"
    (tmp_path / "0").write_bytes(b"x")
    assert find_inputs("0")[0][0].name == "0"  # what exists goes first


def test_a_video_is_known_by_its_content(tmp_path):
    for codec, suffix in (("mp4v", ".mp4"), ("MJPG", ".avi"), ("mp4v", ".mkv")):
        video = write_video(tmp_path / f"clip{suffix}", 1, codec=codec)
        nameless = video.rename(tmp_path / f"nameless_{suffix[1:]}")
        assert find_inputs(str(nameless)) == ([], [StreamAddress("file", str(nameless))])


def test_a_file_named_like_an_address_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "http:" / "host").mkdir(parents=True)
    write_video(tmp_path / "http:" / "host" / "clip.mp4", 3)
    write_video(tmp_path / "clip.mp4", 4).rename(tmp_path / "concat:a|b.mp4")
    for name, frames in (("http://host/clip.mp4", 3), ("concat:a|b.mp4", 4)):
        images, (address,) = find_inputs(name)
        assert not images
        assert address.kind == "file"
        assert len(list(open_source(address, QUICK).frames())) == frames


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ftp://host/a.mp4", "expected an address of http, https"),
        ("rtsp://", "with a host"),
        ("rtsp://host:port/", "such as rtsp://host:554/path"),
        ("missing.mp4", "no such file or folder"),
        ("missing*.mp4", "expected a pattern that matches images or videos"),
    ],
)
def test_names_that_fit_nothing(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        find_inputs(name)


def test_passwords_are_not_shown():
    address = StreamAddress("network", "rtsp://user:secret@10.0.0.4:554/live/1?token=hidden")
    assert address.name == "rtsp://10.0.0.4:554/live/1"
    assert address.stem == "rtsp_10.0.0.4_554_live_1"
    assert StreamAddress("camera", "/dev/video2").stem == "camera_2"


def test_an_address_may_be_longer_than_the_name_of_a_file():
    name = f"https://host/live?token={'x' * 5000}"
    assert find_inputs(name) == ([], [StreamAddress("network", name)])
    assert len(find_inputs(f"https://host/{'x' * 5000}")[1][0].stem) == 100


def test_frames_of_a_file(tmp_path):
    source = opened(write_video(tmp_path / "a.mp4", 12))
    frames = list(source.frames())
    assert [f.index for f in frames] == list(range(12)) == grays(f.image for f in frames)
    assert [f.at for f in frames] == pytest.approx([i / 10 for i in range(12)])
    assert frames[0].image.shape == (48, 64, 3)
    assert (source.live, source.frame_rate, source.frame_count) == (False, 10, 12)
    assert source.counts.read == 12


def test_colours_are_rgb(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"FFV1"), 5, (64, 48))
    writer.write(np.full((48, 64, 3), (250, 100, 10), np.uint8))
    writer.release()
    (frame,) = opened(tmp_path / "a.avi").frames()
    assert np.abs(frame.image.mean((0, 1)) - (10, 100, 250)).max() < 8


def test_every_and_max_frames(tmp_path):
    video = write_video(tmp_path / "a.mp4", 12)
    source = opened(video, every=5)
    frames = list(source.frames())
    assert [f.index for f in frames] == grays(f.image for f in frames) == [0, 5, 10]
    assert frames[2].at == pytest.approx(1)
    assert source.frame_count == source.counts.read == 3
    assert [f.index for f in opened(video, every=2, max_frames=3).frames()] == [0, 2, 4]


def test_a_stopped_source_ends(tmp_path):
    source = opened(write_video(tmp_path / "a.mp4", 12))
    frames = source.frames()
    next(frames)
    source.stop()
    assert list(frames) == []
    assert list(source.frames()) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.mp4", b"", "expected a video that OpenCV can decode"),
        ("text.mp4", b"hello " * 100, "expected a video that OpenCV can decode"),
    ],
)
def test_files_that_are_no_videos(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=f"{name}: {message}"):
        list(opened(tmp_path / name).frames())


def test_videos_without_frames(tmp_path):
    for codec, name in (("mp4v", "a.mp4"), ("MJPG", "a.avi")):
        with pytest.raises(SourceError, match=r"expected a video"):
            list(opened(write_video(tmp_path / name, 0, codec=codec)).frames())


def test_a_truncated_video_gives_what_it_has(tmp_path):
    whole = write_video(tmp_path / "a.avi", 30, codec="MJPG").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) * 3 // 4])
    source = opened(tmp_path / "cut.avi")
    with pytest.raises(SourceError, match=r"cut.avi: expected 30 frames, got \d+: it is cut short or damaged"):
        list(source.frames())
    assert 0 < source.counts.read < 25
    (tmp_path / "cut.mp4").write_bytes(write_video(tmp_path / "b.mp4", 30).read_bytes()[:1000])
    with pytest.raises(SourceError, match="expected a video that OpenCV can decode"):
        list(opened(tmp_path / "cut.mp4").frames())


def test_broken_frames_of_a_real_video_are_passed_over(tmp_path):
    data = bytearray(write_video(tmp_path / "a.avi", 30, codec="MJPG").read_bytes())
    frames = [i for i in range(len(data)) if data[i : i + 4] == b"00dc" and data[i + 8 : i + 10] == b"\xff\xd8"]
    for at in frames[10:12]:
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        data[at + 8 : at + 8 + size] = bytes(size)
    (tmp_path / "broken.avi").write_bytes(data)
    source = opened(tmp_path / "broken.avi")
    got = list(source.frames())
    assert [f.index for f in got] == [i for i in range(30) if i not in (10, 11)]
    assert source.counts.broken == 2


def test_decoder_exceptions_are_broken_frames():
    items = [gray(0), cv2.error("boom"), None, gray(3), np.zeros((4, 4, 7), np.uint8), gray(5)]
    source = recording(FakeCapture(items, count=6))
    assert [f.index for f in source.frames()] == [0, 3, 5]
    assert source.counts.broken == 3


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf"), 90000.0])
def test_a_frame_rate_that_makes_no_sense_is_replaced(rate):
    source = recording(FakeCapture([gray(0), gray(1)], count=2, rate=rate))
    assert [f.at for f in source.frames()] == [0, 1 / 25]
    assert source.frame_rate == 25


def test_sizes_may_change():
    source = recording(FakeCapture([gray(0), gray(1, (20, 31))], count=2))
    assert [f.image.shape for f in source.frames()] == [(48, 64, 3), (20, 31, 3)]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.full((4, 5), 7, np.uint8), (7, 7, 7)),
        (np.full((4, 5, 1), 7, np.uint8), (7, 7, 7)),
        (np.full((4, 5), 7 << 8, np.uint16), (7, 7, 7)),
        (np.full((4, 5, 3), (1, 2, 3), np.uint8), (3, 2, 1)),
        (np.full((4, 5, 4), (1, 2, 3, 9), np.uint8), (3, 2, 1)),
    ],
)
def test_what_cameras_deliver(image, expected):
    rgb = to_rgb(image)
    assert rgb.shape == (4, 5, 3)
    assert rgb.dtype == np.uint8
    assert np.all(rgb == expected)


@pytest.mark.parametrize("image", [np.zeros((4, 5, 2), np.uint8), np.zeros((4, 5), np.float32), np.zeros(4, np.uint8)])
def test_what_no_camera_delivers(image):
    with pytest.raises(ValueError, match="image: expected uint8 or uint16"):
        to_rgb(image)


def test_a_lost_camera_comes_back():
    captures = [FakeCapture([gray(0), None, gray(2)]), FakeCapture(opened=False), FakeCapture([gray(3), gray(4)])]
    source = camera(captures, replace(QUICK, max_frames=4))
    frames = list(source.frames())
    assert source.live
    assert grays(f.image for f in frames) == [0, 2, 3, 4]
    assert [f.at for f in frames] == sorted(f.at for f in frames)
    assert (source.counts.broken, source.counts.reconnects) == (1, 1)
    assert captures[0].released


def test_a_camera_that_falls_silent_is_lost_at_once():
    def silence():
        sleep(0.3)

    captures = [FakeCapture([gray(0), silence, gray(9)]), FakeCapture([gray(1)])]
    source = camera(captures, replace(QUICK, timeout=0.5, max_frames=2))
    assert grays(f.image for f in source.frames()) == [0, 1]
    assert (source.counts.broken, source.counts.reconnects) == (0, 1)


def test_a_camera_that_stays_lost_ends_with_an_error():
    source = camera([FakeCapture([gray(0)])], replace(QUICK, reconnects=3))
    with pytest.raises(SourceError, match="0: lost, and not back after 3 attempts"):
        list(source.frames())
    assert source.counts.read == 1


def test_a_camera_that_opens_without_a_frame_is_not_tried_forever():
    with pytest.raises(SourceError, match="not back after 4 attempts"):
        list(camera([FakeCapture() for _ in range(50)], replace(QUICK, reconnects=4)).frames())


def test_a_camera_that_is_not_there():
    with pytest.raises(SourceError, match="0: expected a camera that can be opened"):
        list(camera([]).frames())


def test_stopping_ends_the_wait_for_a_lost_camera():
    source = camera([FakeCapture([gray(0)])], replace(QUICK, backoff=60.0))
    threading.Timer(0.1, source.stop).start()
    start = monotonic()
    assert len(list(source.frames())) == 1
    assert monotonic() - start < 30


class MotionJpeg(BaseHTTPRequestHandler):
    """Serves 12 frames of motion JPEG; /broken damages two, /stall falls silent after them until the test ends."""

    done = threading.Event()
    requests = 0

    def do_GET(self):
        type(self).requests += 1
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for i in range(12):
            data = cv2.imencode(".jpg", gray(i)[..., 0] if self.path == "/gray" else gray(i))[1].tobytes()
            if self.path == "/broken" and i in (5, 6):
                data = data[:30] + bytes(len(data) - 30)
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n")
            self.wfile.write(b"Content-Length: %d\r\n\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()
        if self.path == "/stall":
            self.done.wait(20)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    MotionJpeg.done.clear()
    MotionJpeg.requests = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), MotionJpeg) as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        MotionJpeg.done.set()
        served.shutdown()
        thread.join()


def network(url, **settings):
    return open_source(StreamAddress("network", url), replace(QUICK, **settings))


@pytest.mark.parametrize(("path", "broken"), [("/", 0), ("/broken", 2), ("/gray", 0)])
def test_motion_jpeg_over_http(server, path, broken):
    source = network(server + path, max_frames=12 - broken)
    frames = list(source.frames())
    source.close()
    assert source.live
    assert source.counts.broken == broken
    assert grays(f.image for f in frames) == [i for i in range(12) if not broken or i not in (5, 6)]


@pytest.mark.parametrize("path", ["/", "/stall"])
def test_a_network_stream_that_ends_or_falls_silent_is_opened_again(server, path):
    source = network(server + path, max_frames=20, timeout=2.0)
    assert len(list(source.frames())) == 20
    source.close()
    assert source.counts.reconnects == 1
    assert MotionJpeg.requests == 2


def test_a_recording_in_the_network_is_no_live_source(tmp_path):
    write_video(tmp_path / "a.mp4", 8)
    body = (tmp_path / "a.mp4").read_bytes()

    class Files(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.05,))
        thread.start()
        try:
            source = network(f"http://127.0.0.1:{served.server_port}/a.mp4")
            assert len(list(source.frames())) == 8
            assert not source.live
            source.close()
        finally:
            served.shutdown()
            thread.join()


def test_addresses_that_do_not_answer():
    with socket.socket() as silent:  # takes connections, and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for url, timeout in ((f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x", 0.3), ("http://127.0.0.1:1/x", 2)):
            with pytest.raises(SourceError, match="expected an address that delivers video"):
                list(network(url, timeout=timeout).frames())
