"""The pipeline on a GPU beside the CPU's, and what it may not do: wait, allocate, keep memory."""

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from lpsnet import LPSNet
from lpsnet.config import PostprocessConfig, RuntimeConfig
from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.engine import Engine
from lpsnet.engine.torch_cuda import TorchCudaPipeline
from lpsnet.inference import StageTimer
from lpsnet.structures import PanopticResult

pytestmark = pytest.mark.gpu

CONFIG = PostprocessConfig(score_threshold=0.01, paste_score=0.0, stuff_area_limit=8)
STATISTICS = ("num_device_alloc", "num_device_free", "reserved_bytes.all.current", "allocated_bytes.all.current")


@pytest.fixture(scope="module", autouse=True)
def full_precision() -> Iterator[None]:
    """No TF32: float32 is to be float32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.fixture(scope="module")
def model(tiny_checkpoint) -> LPSNet:
    return LPSNet.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def engine(model) -> Engine:
    return Engine.of(model)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    scenes = SyntheticScenes(8)
    return [scenes[i].image for i in range(8)]


@contextmanager
def pipeline_of(model: LPSNet, **fields) -> Iterator[TorchCudaPipeline]:
    pipeline = TorchCudaPipeline(model, RuntimeConfig(device="cuda", **fields))
    try:
        yield pipeline
    finally:
        pipeline.close()


def assert_close(got: PanopticResult, expected: PanopticResult, agreement: float = 0.995) -> None:
    """Equal but where scores nearly tie: rounding differs between the devices."""
    same = got.labels() == expected.labels()
    assert same.mean() >= agreement
    # An id counts its segments, so a small segment more renames those behind it: compare what belongs together.
    pairs, counts = np.unique(np.stack([got.ids.ravel(), expected.ids.ravel()]), axis=1, return_counts=True)
    best: dict[int, int] = {}
    for mine, count in zip(pairs[0].tolist(), counts.tolist(), strict=True):
        best[mine] = max(best.get(mine, 0), count)
    assert sum(best.values()) >= agreement * expected.ids.size


def assert_same(got: PanopticResult, expected: PanopticResult) -> None:
    assert np.array_equal(got.ids, expected.ids)
    assert got.segments == expected.segments


def photograph() -> np.ndarray:
    from lpsnet.engine.images import read_image
    from lpsnet.engine.sample import sample_photograph

    return read_image(sample_photograph())


@pytest.mark.parametrize("size", [(128, 192), (31, 50), (1, 1), (300, 90)])
@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize(
    "config", [CONFIG, replace(CONFIG, max_detections=3, assignment="highest_confidence", fill_stuff=True)]
)
def test_results_are_those_of_the_cpu(model, engine, size, graph, config):
    with pipeline_of(model, graph=graph) as pipeline:
        for seed in range(4):  # as it is, captured, replayed
            image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
            assert_close(pipeline.submit([image], config)[0].to_host(), engine.predict(image, config), 0.98)


def test_a_trained_network_finds_the_same_segments():
    """No scores tie here, so in float32 the ids are equal: all pixels but those on a border that rounding moves."""
    model, image = LPSNet.from_pretrained("lpsnet_lite0_camvid"), photograph()
    expected = Engine.of(model).predict(image)
    with pipeline_of(model) as pipeline:
        for _ in range(3):
            got = pipeline.submit([image])[0].to_host()
            assert (got.ids == expected.ids).mean() > 0.9999
            assert [s.label for s in got.segments] == [s.label for s in expected.segments]
            assert got.detections.boxes == pytest.approx(expected.detections.boxes, abs=0.05)
            assert got.detections.scores == pytest.approx(expected.detections.scores, abs=1e-3)


@pytest.mark.parametrize(("precision", "agreement"), [("fp16", 0.995), ("bf16", 0.97)])
@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_half_precision_stays_close(precision, agreement, compile):
    model, image = LPSNet.from_pretrained("lpsnet_lite0_camvid"), photograph()
    expected = Engine.of(model).predict(image)
    with pipeline_of(model, precision=precision, compile=compile) as pipeline:
        for _ in range(3):
            got = pipeline.submit([image])[0].to_host()
            assert (got.labels() == expected.labels()).mean() > agreement


@pytest.mark.parametrize("deform", ["v1", "v2"])
def test_deformable_layers_run_in_a_graph(tiny_recipe, images, deform):
    torch.manual_seed(0)
    recipe = replace(tiny_recipe, model=replace(tiny_recipe.model, deform=deform, norm="gn", norm_groups=4))
    model = LPSNet(recipe).eval()
    for layer in model.semantic_head.layers:
        torch.nn.init.normal_(layer.offset.weight, 0, 0.05)
    engine = Engine.of(model)
    for precision in ("fp32", "fp16"):
        with pipeline_of(model, precision=precision) as pipeline:
            for image in images[:4]:
                got = pipeline.submit([image], CONFIG)[0].to_host()
                assert_close(got, engine.predict(image, CONFIG), 0.98 if precision == "fp32" else 0.8)


def test_replays_see_the_contents_of_their_own_frame(model, images):
    """Also when nobody waits in between, and when shapes take turns."""
    with pipeline_of(model, graph=False) as pipeline:
        frames = [image[:height] for image in images for height in (128, 64)]
        expected = [pipeline.submit([frame], CONFIG)[0].to_host() for frame in frames]
    with pipeline_of(model) as pipeline:
        for _ in range(3):
            results = [pipeline.submit([frame], CONFIG)[0] for frame in frames]
            for result, want in zip(results, expected, strict=True):
                assert_close(result.to_host(), want)
        first = [result.to_host() for result in results]
        again = [pipeline.submit([frame], CONFIG)[0].to_host() for frame in frames]
        for got, want in zip(again, first, strict=True):
            assert_same(got, want)


@pytest.mark.parametrize("count", [2, 5])
def test_a_batch_gives_what_single_images_give(model, engine, images, count):
    with pipeline_of(model) as pipeline:
        for _ in range(3):
            for batch in (images[:count], torch.from_numpy(np.stack(images[:count])).cuda()):
                for result, image in zip(pipeline.submit(batch, CONFIG), images, strict=False):
                    assert_close(result.to_host(), engine.predict(image, CONFIG), 0.98)


@pytest.mark.parametrize("streams", [1, 2])
def test_threads_share_a_pipeline(model, images, streams):
    with pipeline_of(model, streams=streams, max_graphs=2) as pipeline:
        frames = [*images, *(image[:64] for image in images), *(image[:96] for image in images)]  # a capture evicts
        expected = [pipeline.predict(frame, CONFIG, StageTimer(), False) for frame in frames]
        with ThreadPoolExecutor(8) as pool:
            work = [pool.submit(pipeline.predict, frame, CONFIG, StageTimer(), False) for frame in frames * 4]
            for future, want in zip(work, expected * 4, strict=True):
                assert_close(future.result(), want)


def test_results_are_handed_to_another_stream(model, images):
    """An input that its stream is still writing, a result that another stream reads: nobody waits on the host."""
    with pipeline_of(model) as pipeline:
        expected = [pipeline.submit([image], CONFIG)[0].to_host() for image in images * 2][len(images) :]
        on_device = torch.from_numpy(np.stack(images)).cuda()
        got = []
        with torch.cuda.stream(torch.cuda.Stream()):
            for image in on_device:
                torch.cuda._sleep(10_000_000)
                frame = (image.int() + 1 - 1).to(torch.uint8)[None]
                (result,) = pipeline.submit(frame, CONFIG)
                del frame
                got.append(result.tensors().ids * 2)
                del result
            torch.cuda.current_stream().synchronize()
        for ids, want in zip(got, expected, strict=True):
            assert np.array_equal(ids.cpu().numpy(), 2 * want.ids)


@pytest.mark.parametrize("fields", [{"precision": "fp16"}, {"graph": False}, {"streams": 2}])
def test_no_frame_waits_for_the_device(model, images, fields):
    with pipeline_of(model, **fields) as pipeline:
        on_device = torch.from_numpy(np.stack(images[:2])).cuda()
        for _ in range(6):
            pipeline.submit(images[:2], CONFIG)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            results = [pipeline.submit(batch, CONFIG) for batch in (images[:2], on_device) * 4]
            for result in results:
                result[0].tensors()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("streams", [1, 2])
def test_frames_allocate_nothing_and_keep_nothing(model, images, streams):
    with pipeline_of(model, streams=streams) as pipeline:

        def show(frames: int) -> dict[str, int]:
            for i in range(frames):
                pipeline.submit([images[i % len(images)]], CONFIG)[0].to_host()
            torch.cuda.synchronize()
            statistics = torch.cuda.memory_stats()
            return {name: statistics[name] for name in STATISTICS}

        before = show(20)
        assert show(1000) == before


def test_a_closed_pipeline_holds_no_memory(model, images):
    def held() -> int:
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        return torch.cuda.memory_allocated()

    with pipeline_of(model) as pipeline:  # what libraries keep for good is there after this
        for _ in range(3):
            pipeline.submit(images, CONFIG)[0].to_host()
    del pipeline
    before = held()
    for _ in range(3):
        pipeline = TorchCudaPipeline(model, RuntimeConfig(device="cuda", streams=1))
        for _ in range(3):
            (result, *_) = pipeline.submit(images, CONFIG)
        pipeline.close()
        assert result.to_host().ids.shape == images[0].shape[:2]
        del result
        assert held() <= before + 2**20 * 64  # workspaces of cuBLAS, of a stream each


def test_graphs_that_are_evicted_give_their_memory_back(model, images):
    with pipeline_of(model, max_graphs=2) as pipeline:

        def show(heights: range) -> int:
            for height in heights:
                for _ in range(2):
                    pipeline.submit([images[0][:height]], CONFIG)
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            return torch.cuda.memory_reserved()

        before = show(range(64, 72))
        assert show(range(72, 112)) <= 1.5 * before


def test_a_profile_has_the_stages_of_the_device(model, engine, images):
    with Engine.of(model, RuntimeConfig(device="cuda")) as gpu:
        result = gpu.predict(images[0], CONFIG, profile=True)
    assert_close(result, engine.predict(images[0], CONFIG), 0.98)
    assert list(result.timings) == ["upload", "preprocess", "network", "postprocess", "download"]


def test_tensors_of_another_device_are_refused(model, images):
    with pipeline_of(model) as pipeline, pytest.raises(ValueError, match="images: expected a tensor on cuda"):
        pipeline.submit(torch.from_numpy(images[0])[None])
