"""roi_align against torch's grid_sample over the same points, and against torchvision where it can be imported.

The box head's case is 1000 boxes in 7x7 bins, the mask head's 100 in 14x14, of 2x2 samples, over P2..P5 of an image of
800x1344 with 256 channels last in memory. grid_sample gets its boxes sorted by level and the points ready made: it is
timed for the sampling and the mean over the samples of a bin alone.
"""

import argparse
import sys

import torch
import torch.nn.functional as F
from gpu_timing import GpuReport, add_arguments, copied_bytes_per_us, on_gpu
from timing import Row, at_least, report

from lpsnet import ops
from lpsnet.native import library

STRIDES, CHANNELS, IMAGE = [4, 8, 16, 32], 256, (800, 1344)
SAMPLES, CANONICAL = 2, (2, 224.0)


def pyramid() -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    sizes = [(-(-IMAGE[0] // s), -(-IMAGE[1] // s)) for s in STRIDES]
    maps = [torch.randn(1, CHANNELS, *size, generator=g) for size in sizes]
    return [m.to(memory_format=torch.channels_last) for m in maps]


def random_boxes(n: int) -> torch.Tensor:
    """Sides from 16 to 700 pixels, evenly in their logarithm, inside the image."""
    g = torch.Generator().manual_seed(1)
    side = 16 * (700 / 16) ** torch.rand(n, 2, generator=g)
    limit = torch.tensor([IMAGE[1], IMAGE[0]])
    corner = torch.rand(n, 2, generator=g) * (limit - side)
    return torch.cat([corner, corner + side], 1)


def levels_of(boxes: torch.Tensor) -> torch.Tensor:
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return (CANONICAL[0] + torch.log2(areas.sqrt() / CANONICAL[1])).floor().clamp(0, len(STRIDES) - 1).long()


def grid_of(boxes: torch.Tensor, bins: int) -> torch.Tensor:
    """[n * bins * SAMPLES, bins * SAMPLES, 2], the points for grid_sample: -1 and 1 are the sides of the image."""
    steps = (torch.arange(bins * SAMPLES) + 0.5) / (bins * SAMPLES)
    x = boxes[:, :1] + steps * (boxes[:, 2:3] - boxes[:, :1])
    y = boxes[:, 1:2] + steps * (boxes[:, 3:] - boxes[:, 1:2])
    x, y = 2 * x / IMAGE[1] - 1, 2 * y / IMAGE[0] - 1
    grid = torch.stack([x[:, None].expand(-1, len(steps), -1), y[:, :, None].expand(-1, -1, len(steps))], -1)
    return grid.flatten(0, 1)


def case(name: str, n: int, bins: int, required: float) -> list[Row]:
    maps, boxes = pyramid(), random_boxes(n)
    levels = levels_of(boxes)
    boxes = boxes[levels.argsort(stable=True)]
    counts = levels.bincount(minlength=len(STRIDES)).tolist()
    grids = [grid_of(part, bins)[None] for part in boxes.split(counts)]

    def ours() -> torch.Tensor:
        return ops.roi_align([m[0] for m in maps], boxes, STRIDES, [bins, bins], SAMPLES, *CANONICAL)

    def sampled() -> torch.Tensor:
        parts = []
        for features, grid, count in zip(maps, grids, counts, strict=True):
            points = F.grid_sample(features, grid, mode="bilinear", padding_mode="border", align_corners=False)
            means = F.avg_pool2d(points, SAMPLES)[0]
            parts.append(means.view(CHANNELS, count, bins, bins).transpose(0, 1))
        return torch.cat(parts)

    torch.testing.assert_close(ours(), sampled(), rtol=1e-3, atol=1e-3)
    rows = [at_least(f"{name}, grid_sample", required, ours, sampled, repeats=5, warmup=1)]
    try:
        from torchvision.ops import roi_align
    except (ImportError, RuntimeError, OSError) as error:
        print(f"torchvision: absent ({error})")
        return rows

    def peer() -> torch.Tensor:
        parts = []
        for features, part, stride in zip(maps, boxes.split(counts), STRIDES, strict=True):
            parts.append(roi_align(features, [part], bins, 1 / stride, SAMPLES, aligned=True))
        return torch.cat(parts)

    torch.testing.assert_close(ours(), peer(), rtol=1e-3, atol=1e-3)
    return [*rows, at_least(f"{name}, torchvision", 1, ours, peer, repeats=5, warmup=1)]


def measure(report: GpuReport, repeats: int) -> None:
    """On a GPU, beside torchvision's, level by level. The limit: each feature that boxes reach read once."""
    rate = copied_bytes_per_us(report.device)
    for name, n, bins in (("1000 boxes, 7x7", 1000, 7), ("100 boxes, 14x14", 100, 14)):
        maps, boxes = [m.to(report.device) for m in pyramid()], random_boxes(n)
        levels = levels_of(boxes)
        counts = levels.bincount(minlength=len(STRIDES)).tolist()
        boxes = boxes[levels.argsort(stable=True)].to(report.device)
        by_level = boxes.split(counts)

        def ours(maps=maps, boxes=boxes, bins=bins) -> torch.Tensor:
            return ops.roi_align([m[0] for m in maps], boxes, STRIDES, [bins, bins], SAMPLES, *CANONICAL)

        ways = {"ours": ours}
        try:
            from torchvision.ops import roi_align

            def peer(maps=maps, parts=by_level, bins=bins) -> list[torch.Tensor]:
                return [
                    roi_align(features, [part], bins, 1 / stride, SAMPLES, aligned=True)
                    for features, part, stride in zip(maps, parts, STRIDES, strict=True)
                ]

            ways["torchvision"] = peer
        except (ImportError, RuntimeError, OSError) as error:
            print(f"torchvision: absent ({error})")
        points = n * bins * bins * SAMPLES**2 * 4
        read = min(sum(m.numel() for m in maps), points * CHANNELS) * 4
        report.time(name, ways, repeats, {"ours": (read + n * CHANNELS * bins * bins * 4) / rate})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        return on_gpu(measure, arguments.json)
    torch.set_num_threads(arguments.threads)
    library.set_num_threads(arguments.threads)
    rows = [*case("1000 boxes, 7x7", 1000, 7, 2), *case("100 boxes, 14x14", 100, 14, 2)]
    return report(rows, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
