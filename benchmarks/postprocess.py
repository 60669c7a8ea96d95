"""The whole post-processing of one 800x1344 frame with 80 + 53 classes, beside the ResNet-50 network's own time.

The dense outputs are those of a network that is nearly right: they are made from a panoptic map, with noise. The map is
a COCO image (``--data``: the folder with val2017 and annotations) or, without one, 40 ellipses over bands of stuff.
"""

import argparse
import dataclasses
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from gpu_timing import GpuReport, add_arguments, copied_bytes_per_us, on_gpu
from timing import at_most, interleaved_medians, report

from lpsnet import ops
from lpsnet.categories import categories
from lpsnet.config import BOX_STRIDES, get_recipe
from lpsnet.data.coco_panoptic import CocoPanoptic
from lpsnet.data.sample import Sample, TrueSegment
from lpsnet.data.transforms import resize
from lpsnet.inference import DenseArrays, NetworkInput, StageTimer, postprocess, postprocess_by_stage
from lpsnet.models.lpsnet import LPSNet
from lpsnet.native.library import set_num_threads
from lpsnet.targets import box_targets

HEIGHT, WIDTH = 800, 1344
CLASSES = categories("coco")
LIMIT = 0.03
"""Of the network's time."""


def made_scene(rng: np.random.Generator) -> Sample:
    """Ellipses of random thing classes over six bands of stuff."""
    things = [i for i, c in enumerate(CLASSES) if c.isthing]
    stuff = [i for i, c in enumerate(CLASSES) if not c.isthing]
    ids = np.repeat(np.arange(1, 7, dtype=np.int32), -(-HEIGHT // 6))[:HEIGHT, None].repeat(WIDTH, 1)
    segments = [TrueSegment(int(label)) for label in rng.choice(stuff, 6, replace=False)]
    for _ in range(40):
        segments.append(TrueSegment(int(rng.choice(things[:12]))))
        centre = int(rng.integers(WIDTH)), int(rng.integers(HEIGHT))
        axes = int(rng.integers(15, 200)), int(rng.integers(15, 200))
        cv2.ellipse(ids, centre, axes, float(rng.uniform(0, 180)), 0, 360, len(segments), -1)
    return Sample("made", np.zeros((HEIGHT, WIDTH, 3), np.uint8), ids, tuple(segments))


def real_scene(root: Path) -> Sample:
    """The COCO image with the most objects, stretched to the frame."""
    dataset = CocoPanoptic(root / "val2017", root / "annotations" / "panoptic_val2017.json")
    isthing = [c.isthing for c in CLASSES]
    counts = [len(dataset[i].object_ids(isthing)) for i in range(len(dataset))]
    return resize(dataset[int(np.argmax(counts))], HEIGHT, WIDTH)


def dense_outputs(sample: Sample, rng: np.random.Generator) -> DenseArrays:
    """What a network that is nearly right would give."""
    recipe = get_recipe("lpsnet_r50_coco_800")
    labels = cv2.resize(sample.labels(), (WIDTH // 4, HEIGHT // 4), interpolation=cv2.INTER_NEAREST)
    shape = (len(CLASSES), HEIGHT // 4, WIDTH // 4)
    noise = rng.normal(0, 1, (len(CLASSES), HEIGHT // 32, WIDTH // 32)).astype(np.float32)
    logits = np.stack([cv2.resize(plane, shape[:0:-1]) for plane in noise])
    for label in range(len(CLASSES)):
        logits[label] += 8 * cv2.GaussianBlur((labels == label).astype(np.float32), (5, 5), 1.0)
    ltrb, borderness = [], []
    for target in box_targets(sample, [c.isthing for c in CLASSES], recipe.targets):
        wrong = rng.uniform(10, 200, target.ltrb.shape)
        ltrb.append(
            (np.where(target.positive, target.ltrb * rng.normal(1, 0.05, wrong.shape), wrong)).astype(np.float32)
        )
        guess = np.where(target.positive, target.borderness, rng.uniform(0, 0.3, target.borderness.shape))
        borderness.append(guess.astype(np.float32))
    return DenseArrays(logits.astype(np.float32), ltrb, borderness)


def measure(report: GpuReport, repeats: int, root: Path | None = None) -> None:
    """On a GPU: the whole of it as one graph, from logits in the memory that the pipeline hands over."""
    rng = np.random.default_rng(0)
    dense = dense_outputs(real_scene(root) if root else made_scene(rng), rng)
    is_thing = torch.tensor([c.isthing for c in CLASSES], device=report.device)
    ltrb, borderness = (
        [torch.from_numpy(a).to(report.device) for a in maps] for maps in (dense.ltrb, dense.borderness)
    )
    rate = copied_bytes_per_us(report.device)
    for dtype in (torch.float32, torch.float16):
        maps = torch.from_numpy(dense.logits)[None].to(report.device, dtype)
        logits = maps.contiguous(memory_format=torch.channels_last)[0]
        for assignment in ("closest_borderness", "highest_confidence"):
            config = dataclasses.replace(get_recipe("lpsnet_r50_coco_800").postprocess, assignment=assignment)

            def ours(logits=logits, config=config):
                size = [HEIGHT, WIDTH]
                return ops.postprocess(logits, is_thing, ltrb, borderness, list(BOX_STRIDES), size, size, config)

            found = ours()
            print(f"{assignment}: {int(found[3])} boxes, {int(found[9])} segments")
            limit = (logits.numel() * logits.element_size() + 4 * HEIGHT * WIDTH) / rate
            case = f"800x1344, {str(dtype)[6:]} NHWC, {assignment}"
            rows = report.time(case, {"ours": ours}, repeats, {"ours": limit})
            report.at_most(f"all post-processing, {case}", rows["ours"].median_us, 300)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="COCO's folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        return on_gpu(partial(measure, root=arguments.data), arguments.json)
    torch.set_num_threads(arguments.threads)
    set_num_threads(arguments.threads)
    rng = np.random.default_rng(0)
    sample = real_scene(arguments.data) if arguments.data else made_scene(rng)
    dense = dense_outputs(sample, rng)
    recipe = get_recipe("lpsnet_r50_coco_800")
    prepared = NetworkInput(np.zeros((1, 3, HEIGHT, WIDTH), np.float32), (HEIGHT, WIDTH), (HEIGHT, WIDTH))

    rows = []
    model = LPSNet(recipe).eval().to(memory_format=torch.channels_last)
    images = torch.zeros(1, 3, HEIGHT, WIDTH).contiguous(memory_format=torch.channels_last)
    for assignment in ("closest_borderness", "highest_confidence"):
        config = dataclasses.replace(recipe.postprocess, assignment=assignment)

        def ours(config=config):
            return postprocess(dense, prepared, CLASSES, config)

        result = ours()
        print(f"{assignment}: {len(result.detections)} boxes, {len(result.segments)} segments")
        with torch.inference_mode():
            rows.append(at_most(f"postprocess, {assignment}", LIMIT, ours, lambda: model(images), arguments.repeats, 1))

    timer = StageTimer()
    stages: list[dict[str, float]] = []

    def staged() -> None:
        timer.timings.clear()
        postprocess_by_stage(dense, prepared, CLASSES, recipe.postprocess, timer)
        stages.append(dict(timer.timings))

    interleaved_medians([staged], 3 * arguments.repeats, 2)
    for stage in timer.timings:
        print(f"  {stage}: {np.median([s[stage] for s in stages]):.2f} ms")
    print(f"levels: {[tuple(b.shape) for b in dense.borderness]} at strides {BOX_STRIDES}")
    return report(rows, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
