"""The pipeline of a CUDA device, on the CPU: with streams that run at once, and with graphs that record and repeat."""

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from lpsnet import LPSNet
from lpsnet.config import PostprocessConfig, RuntimeConfig
from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.engine import Engine
from lpsnet.engine.streams import HostStream
from lpsnet.engine.torch_cuda import TorchCudaPipeline
from lpsnet.inference import StageTimer
from lpsnet.models.precision import cast_network
from lpsnet.native import library
from lpsnet.structures import PanopticResult

CONFIG = PostprocessConfig(score_threshold=0.01, paste_score=0.0, stuff_area_limit=8)
OTHER = replace(CONFIG, max_detections=3, assignment="highest_confidence", fill_stuff=True)


class RecordedGraph:
    """Does the same again over the memory that it was captured with."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.work, self.replays, self.is_reset = work, 0, False

    def replay(self) -> None:
        assert not self.is_reset
        self.replays += 1
        self.work()

    def reset(self) -> None:
        self.is_reset = True
        del self.work


class RecordingStream(HostStream):
    """A stream with graphs; it sees that one thread at a time enqueues."""

    has_graphs = True

    def __init__(self) -> None:
        self.graphs: list[RecordedGraph] = []
        self.failures = 0
        self._busy = threading.Lock()

    def capture(self, work: Callable[[], None]) -> RecordedGraph:
        work()  # the warm-up
        if self.failures:
            self.failures -= 1
            raise RuntimeError("capture failed")
        self.graphs.append(RecordedGraph(work))
        return self.graphs[-1]

    def parallel(self, works) -> None:
        assert self._busy.acquire(blocking=False)
        try:
            super().parallel(works)
        finally:
            self._busy.release()


@pytest.fixture(scope="module")
def model(tiny_checkpoint) -> LPSNet:
    return LPSNet.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def engine(model) -> Engine:
    return Engine.of(model)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    scenes = SyntheticScenes(6)
    return [scenes[i].image for i in range(6)]


def recording(model: LPSNet, **fields) -> tuple[TorchCudaPipeline, list[RecordingStream]]:
    """A pipeline with graphs, and its streams."""
    streams: list[RecordingStream] = []

    def new_stream(device: torch.device) -> RecordingStream:
        streams.append(RecordingStream())
        return streams[-1]

    return TorchCudaPipeline(model, RuntimeConfig(**fields), new_stream), streams


def assert_same(got: PanopticResult, expected: PanopticResult) -> None:
    assert np.array_equal(got.ids, expected.ids)
    assert got.segments == expected.segments
    for name in ("boxes", "scores", "labels"):
        assert np.array_equal(getattr(got.detections, name), getattr(expected.detections, name))


@pytest.mark.parametrize("size", [(128, 192), (31, 50), (1, 1), (300, 90)])
@pytest.mark.parametrize("config", [CONFIG, OTHER, None])
def test_results_are_those_of_the_host_pipeline(model, engine, size, config):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    pipeline = TorchCudaPipeline(model, RuntimeConfig())
    expected = engine.predict(image, config)
    with Engine(pipeline) as other:
        assert_same(other.predict(image, config), expected)
        profiled = other.predict(image, config, profile=True)
    assert_same(profiled, expected)
    assert list(profiled.timings) == ["upload", "preprocess", "network", "postprocess", "download"]
    assert all(time > 0 for time in profiled.timings.values())


@pytest.mark.parametrize(("precision", "agreement"), [("bf16", 0.97), ("fp16", 0.995)])
def test_half_precision_stays_close(precision, agreement):
    from lpsnet.engine.images import read_image
    from lpsnet.engine.sample import sample_photograph

    model = LPSNet.from_pretrained("lpsnet_lite0_camvid")
    model.recipe = replace(model.recipe, input=replace(model.recipe.input, short_side=128, max_side=192))
    image = read_image(sample_photograph())
    expected = Engine.of(model).predict(image)
    pipeline = TorchCudaPipeline(model, RuntimeConfig(precision=precision))
    (result,) = pipeline.submit([image])
    got = result.to_host()
    assert (got.labels() == expected.labels()).mean() > agreement
    on_host = Engine.of(model, RuntimeConfig(precision=precision)).predict(image)
    assert (on_host.labels() == expected.labels()).mean() > agreement


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", 0), ("fp16", 2), ("bf16", 3)])
@pytest.mark.parametrize("deform", ["off", "v2"])
def test_operators_read_and_write_what_the_network_has(monkeypatch, tiny_recipe, images, precision, dtype, deform):
    """In its precision and in channels-last memory, without a copy in between."""
    seen = []
    original = library.call

    def call(name, params, *pointers, **options):
        seen.append((name, params))
        original(name, params, *pointers, **options)

    monkeypatch.setattr(library, "call", call)
    model = LPSNet(replace(tiny_recipe, model=replace(tiny_recipe.model, deform=deform, norm="gn", norm_groups=4)))
    pipeline = TorchCudaPipeline(model.eval(), RuntimeConfig(precision=precision))
    pipeline.submit(images[:2])
    written = [params for name, params in seen if name == "resize_normalize"]
    read = [params for name, params in seen if name == "postprocess"]
    assert [(p.out_dtype, p.channels_last) for p in written] == [(dtype, 1)] * 2
    assert [(p.logits_dtype, p.logits_channels_last) for p in read] == [(dtype, 1)] * 2


def test_offsets_and_boxes_stay_in_float32(tiny_recipe):
    recipe = replace(tiny_recipe, model=replace(tiny_recipe.model, deform="v2", norm="gn", norm_groups=4))
    model = LPSNet(recipe).eval()
    cast_network(model, torch.bfloat16)
    kept = {name for name, p in model.named_parameters() if p.dtype == torch.float32}
    offsets = {f"semantic_head.layers.0.offset.{name}" for name in ("weight", "bias")}
    assert kept == {"box_head.scales", *offsets}
    with torch.no_grad():
        outputs = model(torch.randn(1, 3, 64, 96).bfloat16())
    tensors = (outputs.logits, *outputs.ltrb, *outputs.borderness)
    assert {t.dtype for t in tensors} == {torch.float32}


def test_a_batch_gives_what_single_images_give(model, engine, images):
    pipeline = TorchCudaPipeline(model, RuntimeConfig())
    for batch in (images[:3], torch.from_numpy(np.stack(images[:3]))):
        results = pipeline.submit(batch, CONFIG)
        assert len(results) == 3
        for result, image in zip(results, images, strict=False):
            got, expected = result.to_host(), engine.predict(image, CONFIG)
            # A batch may go through other loops, which round differently.
            assert (got.ids == expected.ids).mean() > 0.99
            assert got.detections.boxes == pytest.approx(expected.detections.boxes, abs=0.01)


def test_a_shape_is_captured_when_it_comes_again(model, engine, images):
    pipeline, (stream,) = recording(model)
    for number, image in enumerate(images):
        assert_same(pipeline.submit([image], CONFIG)[0].to_host(), engine.predict(image, CONFIG))
        assert len(stream.graphs) == min(number, 1)
    assert stream.graphs[0].replays == len(images) - 1
    # Other settings, another size and another batch are other frames.
    for batch, config in (([images[0]], OTHER), ([images[0][:50]], CONFIG), (images[:2], CONFIG)):
        before = len(stream.graphs)
        for _ in range(3):
            result = pipeline.submit(batch, config)[-1].to_host()
        assert len(stream.graphs) == before + 1
        assert stream.graphs[-1].replays == 2
        assert (result.ids == engine.predict(batch[-1], config).ids).mean() > 0.99


def test_results_outlive_the_frames_after_them(model, engine, images):
    pipeline, _ = recording(model)
    results = [pipeline.submit([image], CONFIG)[0] for image in images]
    pipeline.close()
    for result, image in zip(results, images, strict=True):
        expected = engine.predict(image, CONFIG)
        assert_same(result.to_host(), expected)
        assert_same(result.to_host(), expected)  # it can be asked for twice
        fields = result.tensors()
        assert np.array_equal(fields.ids.numpy(), expected.ids)
        assert fields.num_segments.item() == len(expected.segments)
        assert fields.segment_areas[: len(expected.segments)].tolist() == [s.area for s in expected.segments]


def test_what_the_caller_does_to_an_array_afterwards_does_not_matter(model, engine, images):
    pipeline, _ = recording(model)
    for _ in range(3):
        image = images[0].copy()
        (result,) = pipeline.submit([image], CONFIG)
        image[:] = 0
        assert_same(result.to_host(), engine.predict(images[0], CONFIG))


def test_the_graph_that_was_not_used_for_longest_goes(model, images):
    pipeline, (stream,) = recording(model, max_graphs=2)
    lane = pipeline._lanes[0]

    def show(*heights: int) -> None:
        for height in heights:
            pipeline.submit([images[0][:height]], CONFIG)

    show(20, 20, 30, 30, 20)
    assert [shape.height for shape in lane.shapes] == [30, 20]
    show(40)
    assert [graph.is_reset for graph in stream.graphs] == [False, False]  # one image is no reason yet
    show(40)
    assert [shape.height for shape in lane.shapes] == [20, 40]
    assert [graph.is_reset for graph in stream.graphs] == [False, True, False]
    show(30)
    assert [shape.height for shape in lane.shapes] == [20, 40]  # what lost its graph has to come twice again
    show(30)
    assert [shape.height for shape in lane.shapes] == [40, 30]
    pipeline.close()
    assert lane.shapes == ()
    assert all(graph.is_reset for graph in stream.graphs)


def test_shapes_that_come_once_are_forgotten(model, images, monkeypatch):
    monkeypatch.setattr("lpsnet.engine.lane._REMEMBERED", 2)
    pipeline, (stream,) = recording(model)
    for height in (20, 30, 40, 20, 40):
        pipeline.submit([images[0][:height]], CONFIG)
    assert len(stream.graphs) == 1
    assert [shape.height for shape in pipeline._lanes[0].shapes] == [40]


def test_a_capture_that_fails_leaves_nothing(model, engine, images):
    pipeline, (stream,) = recording(model)
    pipeline.submit([images[0]], CONFIG)
    stream.failures = 1
    with pytest.raises(RuntimeError, match="capture failed"):
        pipeline.submit([images[0]], CONFIG)
    assert pipeline._lanes[0].shapes == ()
    assert_same(pipeline.submit([images[1]], CONFIG)[0].to_host(), engine.predict(images[1], CONFIG))
    assert [graph.replays for graph in stream.graphs] == [1]


def test_settings_out_of_range_leave_no_graph(model, images):
    pipeline, (stream,) = recording(model)
    for _ in range(3):
        with pytest.raises(ValueError, match="iou_threshold: expected a number in"):
            pipeline.submit([images[0]], replace(CONFIG, iou_threshold=7.0))
    assert stream.graphs == []
    pipeline.submit([images[0]], CONFIG)


def test_graphs_can_be_switched_off(model, images):
    pipeline, (stream,) = recording(model, graph=False)
    for _ in range(3):
        pipeline.submit([images[0]], CONFIG)
    assert stream.graphs == []


@pytest.mark.parametrize("count", [1, 3])
def test_threads_share_a_pipeline(model, engine, images, count):
    pipeline, streams = recording(model, streams=count, max_graphs=2)
    images = [*images, *(image[:64] for image in images)]
    expected = [engine.predict(image, CONFIG) for image in images]
    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit(pipeline.predict, image, CONFIG, StageTimer(), False) for image in images * 3]
        for future, result in zip(work, expected * 3, strict=True):
            assert_same(future.result(), result)
    assert len(streams) == count
    assert all(len(stream.graphs) == 2 for stream in streams)


def test_mistakes_are_named(model, images):
    pipeline = TorchCudaPipeline(model, RuntimeConfig())
    for bad, message in (
        ([], r"images: expected some of one size, got \[\]"),
        ([images[0], images[0][:5]], r"images: expected some of one size, got \[\(5, 192, 3\), \(128, 192, 3\)\]"),
        ([np.zeros((4, 4, 3))], r"image: expected uint8 \[H, W, 3\], got float64 \[4, 4, 3\]"),
        (
            torch.zeros(4, 4, 3, dtype=torch.uint8),
            r"images: expected uint8 \[N, H, W, 3\], got torch.uint8 \[4, 4, 3\]",
        ),
        (torch.zeros(1, 4, 4, 3), r"images: expected uint8 \[N, H, W, 3\], got torch.float32 \[1, 4, 4, 3\]"),
        (torch.zeros(1, 4, 4, 3, dtype=torch.uint8, device="meta"), "images: expected a tensor on cpu, got meta"),
    ):
        with pytest.raises(ValueError, match=message):
            pipeline.submit(bad)
    pipeline.close()
    pipeline.close()
    with pytest.raises(ValueError, match="pipeline: expected an open one"):
        pipeline.submit([images[0]])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_named(model):
    with pytest.raises(ValueError, match="expected one of the 0 CUDA devices that torch finds here, got cuda:1"):
        Engine.of(model, RuntimeConfig(device="cuda:1"))


def test_a_device_of_another_runtime_is_named(model):
    with pytest.raises(ValueError, match="device: expected cpu or cuda for a torch network, got tensorrt"):
        TorchCudaPipeline(model, RuntimeConfig(device="tensorrt"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"device": "gpu"}, "device: expected cpu, cuda, cuda:N, tensorrt or tensorrt:N, got 'gpu'"),
        ({"precision": "int8"}, "precision: expected fp32, fp16 or bf16, got 'int8'"),
        ({"threads": -1}, "threads: expected at least 0, got -1"),
        ({"max_graphs": 0}, "max_graphs: expected at least 1, got 0"),
        ({"streams": 0}, "streams: expected at least 1, got 0"),
    ],
)
def test_a_runtime_that_makes_no_sense_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        RuntimeConfig(**fields)


def test_threads_of_the_runtime_are_set(model):
    from lpsnet.native import library

    before = torch.get_num_threads(), library.num_threads()
    try:
        Engine.of(model, RuntimeConfig(threads=1))
        assert (torch.get_num_threads(), library.num_threads()) == (1, 1)
        Engine.of(model, RuntimeConfig(threads=0))
        assert (torch.get_num_threads(), library.num_threads()) == (1, 1)
    finally:
        torch.set_num_threads(before[0])
        library.set_num_threads(before[1])


def test_the_model_of_the_caller_stays_as_it_is(model, images):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    pipeline = TorchCudaPipeline(model, RuntimeConfig(precision="bf16"))
    pipeline.submit([images[0]])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_closed_pipeline_holds_no_network(model, images):
    pipeline, _ = recording(model)
    network = weakref.ref(pipeline._lanes[0]._frames)
    results = [pipeline.submit([image], CONFIG)[0] for image in images]
    pipeline.close()
    gc.collect()
    assert network() is None
    assert results[-1].to_host().ids.shape == images[0].shape[:2]


@pytest.mark.slow
def test_a_compiled_network_gives_the_same(model, engine, images):
    pipeline = TorchCudaPipeline(model, RuntimeConfig(compile=True))
    for image in images[:2]:
        got, expected = pipeline.submit([image], CONFIG)[0].to_host(), engine.predict(image, CONFIG)
        assert (got.ids == expected.ids).mean() > 0.99
