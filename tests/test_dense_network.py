import threading
from dataclasses import replace

import pytest
import torch

from lpsnet.config import RuntimeConfig
from lpsnet.engine.dense_network import DenseNetwork
from lpsnet.models.lpsnet import LPSNet

SIZES = [((64, 96), (60, 90)), ((96, 96), (90, 90)), ((96, 96), (70, 66)), ((96, 96), (64, 64)), ((32, 32), (1, 1))]


@pytest.fixture(params=["ppm", "gap", "none"])
def model(request, tiny_recipe) -> LPSNet:
    torch.manual_seed(0)
    config = replace(tiny_recipe.model, context=request.param, deform="v1")
    return LPSNet(replace(tiny_recipe, model=config)).eval()


def random_images(size: tuple[int, int]) -> torch.Tensor:
    return torch.randn(1, 3, *size).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "runtime", [RuntimeConfig(), pytest.param(RuntimeConfig(compile=True), marks=pytest.mark.slow)]
)
def test_every_size_gives_what_the_model_gives(model, runtime, monkeypatch):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *args, **options: compiled(*args, backend=backend, **options))
    torch._dynamo.reset()
    network = DenseNetwork(model, runtime)
    for size, image_size in SIZES * 2:
        images = random_images(size)
        with torch.inference_mode():
            got, expected = network(images, image_size), model(images, image_size)
        for a, b in zip((got.logits, *got.ltrb), (expected.logits, *expected.ltrb), strict=True):
            assert torch.allclose(a, b, atol=1e-3, rtol=1e-4)
    # One graph for each size of input and of image in cells of 32 pixels.
    assert len(graphs) == (len({(s, -(-h // 32), -(-w // 32)) for s, (h, w) in SIZES}) if runtime.compile else 0)


def test_threads_meet_a_new_size_at_once(tiny_recipe):
    network = DenseNetwork(LPSNet(tiny_recipe), RuntimeConfig())
    made = []
    matrices = network._context.matrices
    network._context.matrices = lambda c5, valid: made.append(valid) or matrices(c5, valid)
    images = random_images((64, 96))

    def run() -> None:
        with torch.inference_mode():
            network(images, (64, 96))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8 + 1  # by each forward pass, and once before all of them
