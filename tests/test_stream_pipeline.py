import io
import random
import threading
from dataclasses import replace
from time import sleep

import numpy as np
import pytest
from made_streams import QUICK, FakeCapture, FakeEngine, camera, gray, grays, recording
from rich.console import Console

from lpsnet.engine import live
from lpsnet.engine.capture import CaptureSource
from lpsnet.engine.live import LiveDisplay
from lpsnet.engine.queues import Aborted, Ended, FrameQueue, OrderedQueue
from lpsnet.engine.sources import SourceError, StreamAddress
from lpsnet.engine.statistics import Latencies, StreamStatistics
from lpsnet.engine.stream_pipeline import StreamPipeline

WAIT = 30
"""Seconds after which a test gives up on what never came."""


class Sink:
    """Keeps what it is given."""

    def __init__(self, before_draw=lambda frame: None, before_write=lambda frame: None):
        self.written, self._before_draw, self._before_write = [], before_draw, before_write

    def draw(self, frame, result):
        assert result.ids.shape == frame.image.shape[:2]
        self._before_draw(frame)
        return frame

    def write(self, frame):
        self._before_write(frame)
        self.written.append(frame.index)


@pytest.fixture(autouse=True)
def _no_thread_stays():
    before = threading.active_count()
    yield
    for _ in range(WAIT * 100):
        if threading.active_count() <= before:
            return
        sleep(0.01)
    pytest.fail(f"threads that stay: {threading.enumerate()}")


def run(source, engine=None, sink=None, config=QUICK, **options):
    sink = sink or Sink()
    statistics = StreamPipeline(source, (engine or FakeEngine()).predict, sink, config).run(**options)
    return statistics, sink.written


def video(frames, config=QUICK):
    return recording(FakeCapture(map(gray, range(frames)), count=frames), config)


@pytest.mark.parametrize(("workers", "queue_size"), [(1, 1), (2, 2), (16, 1), (3, 8)])
def test_a_recording_loses_nothing_and_keeps_its_order(workers, queue_size):
    rng = random.Random(0)
    engine = FakeEngine(lambda image: sleep(rng.choice((0, 0.001, 0.004))))
    config = replace(QUICK, workers=workers, queue_size=queue_size)
    statistics, written = run(video(60), engine, config=config)
    assert written == list(range(60))
    assert statistics.error is None
    summary = statistics.summary()
    counts = ("frames_read", "frames_written", "frames_dropped", "frames_failed", "frames_broken", "reconnects")
    assert [summary[name] for name in counts] == [60, 60, 0, 0, 0, 0]


def test_the_engine_works_on_several_frames_at_a_time():
    together = threading.Barrier(4)
    statistics, _ = run(video(8), FakeEngine(lambda image: together.wait(WAIT)), config=replace(QUICK, workers=4))
    assert statistics.written == 8


def test_a_slow_consumer_holds_up_a_recording():
    source, ahead = video(80), []
    sink = Sink(before_write=lambda frame: (sleep(0.002), ahead.append(source.counts.read - frame.index)))
    config = replace(QUICK, workers=2, queue_size=2)
    _, written = run(source, sink=sink, config=config)
    assert written == list(range(80))
    # One being read, two queues, results that wait for their turn or are worked on, one drawn and one written.
    assert max(ahead) <= 1 + 2 + 2 + (2 + 2) + 2 + 2


def test_a_live_source_drops_its_oldest_frames():
    all_read = threading.Event()

    capture = FakeCapture([*map(gray, range(10)), all_read.set])
    source = camera([capture], replace(QUICK, reconnects=0))
    engine = FakeEngine(lambda image: all_read.wait(WAIT))
    statistics, written = run(source, engine, config=replace(QUICK, workers=1, queue_size=2))
    assert written[-2:] == [8, 9]
    assert len(written) in (2, 3)  # the engine took one of the first before it was overtaken, or not
    assert statistics.dropped == 10 - len(written)
    assert isinstance(statistics.error, SourceError)  # it never came back


@pytest.mark.parametrize("stage", ["open", "read", "predict", "draw", "write"])
def test_a_stop_in_any_stage_finishes_what_was_read(stage):
    stop = threading.Event()

    def at(name, index=0):
        if name == stage and index == 5:
            stop.set()

    def item(i):
        at("read", i)
        return gray(i)

    def connect():
        at("open", 5)
        return FakeCapture((lambda i=i: item(i) for i in range(10**6)), count=10**6)

    source = CaptureSource(StreamAddress("file", "endless"), QUICK, connect)
    engine = FakeEngine(lambda image: at("predict", grays([image])[0]))
    sink = Sink(lambda frame: at("draw", frame.index), lambda frame: at("write", frame.index))
    statistics, written = run(source, engine, sink, stopped=stop.is_set)
    assert statistics.error is None
    assert written == list(range(source.counts.read))
    assert len(written) < 10**6


def test_a_lost_source_still_gets_what_it_had_written():
    statistics, written = run(camera([FakeCapture([gray(0), gray(1)])]))
    assert written == [0, 1]
    assert "lost, and not back after 5 attempts" in str(statistics.error)


def test_frames_that_the_engine_fails_on_are_counted():
    def fail(image):
        if grays([image])[0] in (3, 4, 9):
            raise ValueError("no such luck")

    statistics, written = run(video(12), FakeEngine(fail))
    assert written == [0, 1, 2, 5, 6, 7, 8, 10, 11]
    assert statistics.failed == 3
    assert str(statistics.last_failure) == "no such luck"
    assert statistics.error is None


def test_an_engine_that_always_fails_ends_the_stream():
    statistics, written = run(video(1000), FakeEngine(lambda image: (_ for _ in ()).throw(RuntimeError("out of luck"))))
    assert written == []
    assert str(statistics.error) == "out of luck"
    assert 10 <= statistics.failed < 20


def raise_at(index, error):
    def step(frame):
        if frame.index == index:
            raise error

    return step


@pytest.mark.parametrize("stage", ["before_draw", "before_write"])
def test_a_sink_that_fails_ends_the_stream(stage):
    statistics, written = run(video(1000), sink=Sink(**{stage: raise_at(5, OSError("the disk is full"))}))
    assert str(statistics.error) == "the disk is full"
    assert written == list(range(len(written)))
    assert len(written) <= 5


def test_mistakes_in_the_program_are_not_hidden():
    def mistake(image):
        raise TypeError("a mistake")

    assert isinstance(run(video(5), FakeEngine(mistake))[0].error, TypeError)
    source = CaptureSource(StreamAddress("file", "a"), QUICK, lambda: None)
    assert isinstance(run(source)[0].error, AttributeError)


@pytest.mark.parametrize("stopped", [True, False])
def test_a_source_that_hangs_is_left_behind(stopped):
    free = threading.Event()

    def hang():
        free.wait(WAIT)

    source = camera([FakeCapture([gray(0), gray(1), hang])], replace(QUICK, reconnects=0))
    config = replace(QUICK, timeout=100.0 if stopped else 0.5)
    both = threading.Event()
    sink = Sink(before_write=lambda frame: frame.index == 1 and both.set())
    try:
        statistics, written = run(source, sink=sink, config=config, stopped=lambda: stopped and both.is_set())
    finally:
        free.set()
    assert written == [0, 1]
    if stopped:
        assert statistics.error is None
    else:
        assert "hangs: no answer" in str(statistics.error)


def test_a_second_interruption_ends_at_once():
    def impatient(statistics):
        if statistics.written > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(recording(FakeCapture(map(gray, range(10**6)), count=10**6)), show=impatient)


def test_latency_is_from_reading_to_writing():
    sink = Sink(before_write=lambda frame: sleep(0.02))
    statistics, _ = run(video(5), FakeEngine(lambda image: sleep(0.03)), sink, replace(QUICK, workers=1))
    summary = statistics.summary()
    assert summary["latency_ms"]["p50"] >= 50
    assert summary["latency_ms"]["p50"] <= summary["latency_ms"]["p90"] <= summary["latency_ms"]["max"]
    assert summary["stage_ms"]["write"] >= 20
    assert set(summary["stage_ms"]) == {"read", "queue", "draw", "write"}  # the fake engine times nothing
    assert 0 < summary["fps"] < 34


def test_percentiles():
    times = np.random.default_rng(0).lognormal(-3, 1, 5000)
    latencies = Latencies()
    for t in times:
        latencies.add(float(t))
    for q in (1, 50, 90, 99, 100):
        assert latencies.percentile(q) == pytest.approx(np.quantile(times, q / 100), rel=0.02)
    assert latencies.greatest == times.max()
    assert Latencies().percentile(50) is None
    one = Latencies()
    one.add(0.0)
    assert one.percentile(99) == 0


def test_an_empty_stream_has_a_summary():
    summary = run(camera([]))[0].summary()
    assert summary["frames_written"] == 0
    assert summary["latency_ms"] == {"p50": None, "p90": None, "p99": None, "max": None}
    assert summary["stage_ms"] == {}


def test_queues():
    queue = FrameQueue(2)
    assert [queue.put(i, drop_oldest=True) for i in range(4)] == [0, 0, 1, 1]
    assert queue.get() == (0, 2)
    queue.close()
    with pytest.raises(Aborted):
        queue.put(5)
    assert queue.get() == (1, 3)
    with pytest.raises(Ended):
        queue.get()
    ordered = OrderedQueue(3)
    ordered.put(2, "c")
    ordered.put(0, "a")
    assert ordered.get() == "a"
    ordered.put(1, "b")
    ordered.close()
    assert [ordered.get(), ordered.get()] == ["b", "c"]
    with pytest.raises(Ended):
        ordered.get()
    for aborted in (FrameQueue(1), OrderedQueue(1)):
        threading.Timer(0.02, aborted.abort).start()
        with pytest.raises(Aborted):
            aborted.get()


def test_a_terminal_is_shown_speed_and_latency():
    screen = io.StringIO()
    with LiveDisplay(Console(file=screen, force_terminal=True, width=160), 10) as show:
        run(video(30), FakeEngine(lambda image: sleep(0.005)), show=show)
    text = screen.getvalue()
    assert "made.mp4" in text
    assert "30 frames" in text
    assert "FPS" in text
    assert "p50" in text


def test_without_a_terminal_there_is_a_line_now_and_then(monkeypatch):
    clock = iter((0.0, 5.0, 10.0, 10.0, 12.0, 21.0, 21.0))
    monkeypatch.setattr(live, "monotonic", lambda: next(clock))
    screen = io.StringIO()
    source = video(1)
    with LiveDisplay(Console(file=screen, width=160), 10) as show:
        for _ in range(4):
            show(StreamStatistics(source))
    assert screen.getvalue() == "made.mp4: 0 frames\n" * 2
