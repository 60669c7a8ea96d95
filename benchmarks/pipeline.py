"""From a uint8 image to its panoptic map: graph replay beside eager launches on CUDA, folded BatchNorm beside plain.

The network is that of a recipe, with random weights, or of a checkpoint. Random weights see no objects, so the
post-processing has little to do: `postprocess.py` times that of a crowded frame. Times in the table are medians; of the
whole way, the 99th percentile is printed too. The arithmetic limit is the multiply-accumulates of the network
(`lpsnet-summary`) over the rate of a large matrix product, measured here in the same precision.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from gpu_timing import GpuReport, GpuRow, macs_per_us
from timing import Row, at_least, report

from lpsnet.config import DEFAULT_MODEL, RuntimeConfig, get_recipe
from lpsnet.engine import Engine
from lpsnet.engine.dense_network import DTYPES
from lpsnet.engine.torch_backend import limit_threads
from lpsnet.engine.torch_cuda import TorchCudaPipeline
from lpsnet.inference import prepare
from lpsnet.models.fold import fold_batch_norms
from lpsnet.models.lpsnet import LPSNet
from lpsnet.models.macs import network_costs
from lpsnet.packaged import packaged_file

STAGES = ("upload", "preprocess", "network", "postprocess")


def network(name: str) -> LPSNet:
    """That of a checkpoint, packaged or a file, else of the recipe of this name."""
    try:
        path = packaged_file(name)
    except ValueError:
        return LPSNet(get_recipe(name)).eval()
    return LPSNet.from_pretrained(path)


def made_image(height: int, width: int) -> np.ndarray:
    """uint8[height, width, 3] with edges and smooth parts."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 32 + 1, width // 32 + 1, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def milliseconds(function: Callable[[], object], repeats: int, warmup: int = 5) -> np.ndarray:
    """Wall times of single calls; the function waits for what it enqueued."""
    for _ in range(warmup):
        function()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append((time.perf_counter() - begin) * 1e3)
    return np.array(times)


def stage_times(pipeline: TorchCudaPipeline, images: list[np.ndarray], repeats: int) -> dict[str, float]:
    """Median milliseconds of each stage without a graph, by events on the stream of the work."""
    taken: dict[str, list[float]] = {name: [] for name in STAGES}
    events = {name: [torch.cuda.Event(enable_timing=True) for _ in range(2)] for name in STAGES}

    @contextmanager
    def stage(name: str):
        begin, end = events[name]
        begin.record()
        yield
        end.record()

    for i in range(repeats + 3):
        pipeline.submit_by_stage(images, None, stage)[0].to_host()
        if i >= 3:
            for name, (begin, end) in events.items():
                taken[name].append(begin.elapsed_time(end))
    return {name: float(np.median(times)) for name, times in taken.items()}


def on_cuda(report: GpuReport, model: LPSNet, image: np.ndarray, arguments: argparse.Namespace) -> None:
    """Every precision and batch size: the whole way with graphs and without, stages, share of the limit."""
    recipe = model.recipe
    padded = recipe.input.padded(*recipe.input.resized(*image.shape[:2]))
    macs = sum(cost.macs for cost in network_costs(recipe, padded).values())
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; {macs / 1e9:.1f} GMAC at {padded}")
    host = Engine.of(model)
    cpu_ms = float(np.median(milliseconds(lambda: host.predict(image), arguments.cpu_repeats, 1)))
    print(f"CPU, {torch.get_num_threads()} threads: {cpu_ms:.1f} ms per image")
    for precision in arguments.precision:
        runtime = RuntimeConfig(device="cuda", precision=precision, compile=arguments.compile)
        rate = 1e3 * macs_per_us(report.device, DTYPES[precision])
        print(f"{precision}: {2 * rate / 1e9:.0f} TFLOP/s in a matrix product")
        for count in arguments.batch:
            images = [image] * count
            on_device = torch.from_numpy(np.stack(images)).cuda()
            graph = TorchCudaPipeline(model, runtime)
            eager = TorchCudaPipeline(model, dataclasses.replace(runtime, graph=False))

            def whole(pipeline: TorchCudaPipeline, images=images) -> None:
                for result in pipeline.submit(images):
                    result.to_host()

            def without_host(pipeline: TorchCudaPipeline, on_device=on_device) -> None:
                pipeline.submit(on_device)[-1].tensors()
                torch.cuda.current_stream().synchronize()

            case, limit = f"{precision}, batch {count}", count * macs / rate
            for way, function in (("image on the host to map on the host", whole), ("on the device", without_host)):
                pipelines = {"graph": graph, "eager": eager}
                taken = {n: milliseconds(lambda f=function, p=p: f(p), arguments.repeats) for n, p in pipelines.items()}
                medians = {name: float(np.median(times)) for name, times in taken.items()}
                for name, times in taken.items():
                    p99 = float(np.percentile(times, 99))
                    row = GpuRow(f"{case}, {way}", name, 1e3 * medians[name], 1e3 * p99, limit / medians[name])
                    report.rows.append(row)
                report.at_least(f"{case}, {way}: graph over eager", medians["eager"] / medians["graph"], 1.0)
            if precision == "fp16" and count == 1 and arguments.goal_ms:
                report.at_most(f"{case}, image to map, on the device", medians["graph"], arguments.goal_ms, "ms")
            print(f"{case}: {1e3 * count / medians['graph']:.0f} images/s on the device")
            stages = stage_times(eager, images, arguments.repeats)
            print(f"{case}, eager: " + ", ".join(f"{name} {ms:.2f} ms" for name, ms in stages.items()))
            graph.close()
            eager.close()


def on_cpu(model: LPSNet, image: np.ndarray, arguments: argparse.Namespace) -> list[Row]:
    """The network with its BatchNorm folded beside the plain one, and the whole way."""
    recipe = model.recipe
    prepared = prepare(image, recipe.input)
    macs = sum(cost.macs for cost in network_costs(recipe, prepared.images.shape[2:]).values())
    inputs = torch.from_numpy(prepared.images).to(memory_format=torch.channels_last)
    plain, folded = (m.to(memory_format=torch.channels_last) for m in (model.eval(), fold_batch_norms(model)))
    with torch.inference_mode():
        row = at_least(
            "network: folded over plain BatchNorm",
            1.0,
            lambda: folded(inputs, prepared.image_size),
            lambda: plain(inputs, prepared.image_size),
            arguments.repeats,
        )
    limit = macs / (1e3 * macs_per_us(torch.device("cpu"), torch.float32))
    print(f"{macs / 1e9:.1f} GMAC at {tuple(inputs.shape[2:])}: {limit / row.ours_ms:.0%} of the arithmetic limit")
    for precision in arguments.precision:
        engine = Engine.of(model, RuntimeConfig(precision=precision, compile=arguments.compile))
        times = milliseconds(lambda e=engine: e.predict(image), arguments.repeats, 2)
        print(f"{precision}: image to map, median {np.median(times):.1f} ms, p99 {np.percentile(times, 99):.1f} ms")
        stages = engine.predict(image, profile=True).timings
        print("  " + ", ".join(f"{name} {ms:.2f} ms" for name, ms in stages.items()))
    return [row]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a checkpoint, or a recipe for random weights")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="of the image; the recipe's by default")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16"), nargs="+")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4], help="on CUDA")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--cpu-repeats", type=int, default=3, help="of the CPU's run beside CUDA")
    parser.add_argument("--goal-ms", type=float, help="wanted of fp16 and batch 1 on CUDA, without the host")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cuda = arguments.device == "cuda"
    if cuda and not torch.cuda.is_available():
        print("pipeline: --device cuda wants a GPU, and torch finds none here", file=sys.stderr)
        return 1
    arguments.precision = arguments.precision or (["fp32", "fp16"] if cuda else ["fp32"])
    arguments.repeats = arguments.repeats or (200 if cuda else 15)
    torch.manual_seed(0)
    model = network(arguments.model)
    config = model.recipe.input
    height, width = arguments.size or (config.short_side, config.max_side)
    limit_threads(arguments.threads)
    image = made_image(height, width)
    if not cuda:
        return report(on_cpu(model, image, arguments), arguments.json)
    measured = GpuReport(torch.device("cuda", torch.cuda.current_device()))
    on_cuda(measured, model, image, arguments)
    return measured.finish(arguments.json)


if __name__ == "__main__":
    sys.exit(main())
