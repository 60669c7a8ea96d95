"""LPSNet beside UPSNet and Panoptic FPN, from an image to its panoptic map, with random weights.

All have the same backbone, feature pyramid, norms, operators and memory format, and take the same image, which is
resized to 800x1333 first, so that input (800x1344) and output have about one size. Runs are interleaved. Besides the
time there is the time of the processor, of all threads, which other processes on the machine change little. Peak memory
is the resident memory (Linux) of a process of its own that runs one network twice, with and without what the process
has before the first image.
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import cv2
import numpy as np
import torch

from lpsnet.baselines.panoptic_fpn import PanopticFPN
from lpsnet.baselines.pipeline import TwoStagePipeline
from lpsnet.baselines.upsnet import UPSNet
from lpsnet.config import get_recipe
from lpsnet.engine.images import read_image
from lpsnet.engine.pipeline import Engine
from lpsnet.models.lpsnet import LPSNet
from lpsnet.models.macs import PARTS
from lpsnet.native.library import set_num_threads

NETWORKS = ("lpsnet", "upsnet", "panoptic_fpn")
SIZE = (800, 1333)


class Pipeline:
    """One of the networks, as a function of an image."""

    def __init__(self, name: str, recipe: str) -> None:
        torch.manual_seed(0)
        self.pipeline: Any
        self.parts: dict[str, float] = {}
        if name == "lpsnet":
            model = LPSNet(get_recipe(recipe))
            for part in PARTS:
                getattr(model, part).register_forward_pre_hook(lambda *_, part=part: self._begin(part))
                getattr(model, part).register_forward_hook(lambda *_, part=part: self._end(part))
            self.pipeline = Engine.of(model)
        else:
            self.pipeline = TwoStagePipeline((UPSNet if name == "upsnet" else PanopticFPN)(get_recipe(recipe)))

    def __call__(self, image: np.ndarray) -> dict[str, float]:
        """Milliseconds per stage; those of LPSNet's network by part."""
        if not isinstance(self.pipeline, Engine):
            return self.pipeline.predict(image).timings
        timings = self.pipeline.predict(image, profile=True).timings
        rest = timings["network"] - sum(self.parts.values())
        network = {"network": {**self.parts, "rest of network": rest}}
        return {k: v for stage, time in timings.items() for k, v in network.get(stage, {stage: time}).items()}

    # Hooks return None: anything else would replace what passes through.
    def _begin(self, part: str) -> None:
        self.parts[part] = -1e3 * perf_counter()

    def _end(self, part: str) -> None:
        self.parts[part] += 1e3 * perf_counter()


def peak_memory(arguments: argparse.Namespace, name: str) -> tuple[float, float]:
    """MB of a process of its own: in all, and above what it had before the first image."""
    command = [sys.executable, __file__, "--image", str(arguments.image), "--recipe", arguments.recipe]
    command += ["--threads", str(arguments.threads), "--alone", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    peak, before = json.loads(done.stdout.splitlines()[-1])
    return peak, peak - before


def resident(field: str) -> float:
    """MB of this process, now (VmRSS) or at most (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field)) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--recipe", default="lpsnet_r50_coco_800")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--alone", choices=NETWORKS, help="run only this and print its peak memory")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    set_num_threads(arguments.threads)
    image = cv2.resize(read_image(arguments.image), SIZE[::-1], interpolation=cv2.INTER_LINEAR)

    if arguments.alone:
        pipeline = Pipeline(arguments.alone, arguments.recipe)
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before = resident("VmRSS")
        for _ in range(2):
            pipeline(image)
        print(json.dumps([resident("VmHWM"), before]))
        return

    memory = {name: peak_memory(arguments, name) for name in NETWORKS}
    pipelines = {name: Pipeline(name, arguments.recipe) for name in NETWORKS}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in NETWORKS}
    cpu: dict[str, list[float]] = {name: [] for name in NETWORKS}
    for repeat in range(arguments.repeats + 1):
        for name, pipeline in pipelines.items():
            begin = process_time()
            timings = pipeline(image)
            taken = 1e3 * (process_time() - begin)
            if repeat > 0:
                runs[name].append(timings)
                cpu[name].append(taken)

    totals = {name: statistics.median(sum(t.values()) for t in timings) for name, timings in runs.items()}
    work = {name: statistics.median(times) for name, times in cpu.items()}
    for name in NETWORKS:
        peak, above = memory[name]
        print(f"{name}: {totals[name]:.0f} ms, {totals[name] / totals['lpsnet']:.2f} x LPSNet's; ", end="")
        print(f"processor {work[name]:.0f} ms, {work[name] / work['lpsnet']:.2f} x LPSNet's; ", end="")
        print(f"peak {peak:.0f} MB, {above:.0f} MB of them for images, {above / memory['lpsnet'][1]:.2f} x LPSNet's")
        for stage in runs[name][0]:
            print(f"  {stage:16} {statistics.median(t[stage] for t in runs[name]):8.1f} ms")
    if arguments.json is not None:
        data = {"threads": arguments.threads, "runs": runs, "cpu_ms": cpu, "peak_mb": memory}
        arguments.json.write_text(json.dumps(data, indent=2) + "\n")


if __name__ == "__main__":
    main()
