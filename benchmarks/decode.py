"""decode against the same in torch: grid_sample at the points, softmax, threshold, topk of each level."""

import argparse
import sys

import numpy as np
import torch
from gpu_timing import GpuReport, add_arguments, copied_bytes_per_us, on_gpu
from timing import Row, at_least, report
from torch.nn import functional

from lpsnet import native, ops
from lpsnet.config import BOX_STRIDES, SEMANTIC_STRIDE, PostprocessConfig

NUM_CLASSES, NUM_THINGS = 133, 80
HEIGHT, WIDTH = 800, 1344
CONFIG = PostprocessConfig()


def in_torch(logits: torch.Tensor, borderness: list[torch.Tensor]) -> torch.Tensor:
    """The scores of all levels."""
    scores = []
    for border, stride in zip(borderness, BOX_STRIDES, strict=True):
        ys, xs = ((torch.arange(n, device=border.device) + 0.5) * stride for n in border.shape)
        y, x = torch.meshgrid(ys[ys < HEIGHT], xs[xs < WIDTH], indexing="ij")
        grid = torch.stack([x / WIDTH, y / HEIGHT], 2) * 2 - 1
        at_points = functional.grid_sample(logits[None], grid[None], padding_mode="border", align_corners=False)[0]
        probabilities = at_points.softmax(0)[:NUM_THINGS]
        score = (probabilities * border[: y.shape[0], : y.shape[1]])[probabilities > CONFIG.score_threshold]
        scores.append(score.topk(min(CONFIG.topk, len(score))).values)
    return torch.cat(scores)


def heads() -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
    """Distances, border-ness, which classes are things."""
    g = torch.Generator().manual_seed(1)
    sizes = [(-(-HEIGHT // s), -(-WIDTH // s)) for s in BOX_STRIDES]
    ltrb = [torch.rand(4, *size, generator=g) * 100 for size in sizes]
    borderness = [torch.rand(*size, generator=g) for size in sizes]
    return ltrb, borderness, torch.arange(NUM_CLASSES) < NUM_THINGS


def decoded(
    logits: torch.Tensor, ltrb: list[torch.Tensor], borderness: list[torch.Tensor], is_thing: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    options = CONFIG.score_threshold, CONFIG.topk, CONFIG.score_fusion
    return ops.decode(logits, is_thing, ltrb, borderness, list(BOX_STRIDES), [HEIGHT, WIDTH], *options)


def case(name: str, logits: torch.Tensor) -> Row:
    ltrb, borderness, is_thing = heads()

    def ours() -> tuple[torch.Tensor, ...]:
        return decoded(logits, ltrb, borderness, is_thing)

    def theirs() -> torch.Tensor:
        return in_torch(logits, borderness)

    scores, count = ours()[1], int(ours()[4])
    np.testing.assert_allclose(scores[:count].numpy(), theirs().numpy(), rtol=1e-3)
    return at_least(f"{name}, {count} boxes", 3, ours, theirs)


def made_logits() -> list[tuple[str, torch.Tensor]]:
    g = torch.Generator().manual_seed(0)
    size = HEIGHT // SEMANTIC_STRIDE, WIDTH // SEMANTIC_STRIDE
    coarse = torch.randn(1, NUM_CLASSES, 10, 14, generator=g) * 5
    smooth = functional.interpolate(coarse, size, mode="bicubic")[0].contiguous()
    return [("smooth logits", smooth), ("random logits", torch.randn(NUM_CLASSES, *size, generator=g) * 3)]


def measure(report: GpuReport, repeats: int) -> None:
    """On a GPU; torch's way has sizes that depend on the data, so it waits for the host."""
    ltrb, borderness, is_thing = heads()
    ltrb, borderness = ([t.to(report.device) for t in maps] for maps in (ltrb, borderness))
    is_thing, rate = is_thing.to(report.device), copied_bytes_per_us(report.device)
    for name, plain in made_logits():
        for dtype in (torch.float32, torch.float16):
            logits = plain.to(report.device, dtype).permute(1, 2, 0).contiguous().permute(2, 0, 1)
            rounded = logits.float().contiguous()
            ways = {
                "ours": lambda m=logits: decoded(m, ltrb, borderness, is_thing),
                "torch": lambda m=rounded: in_torch(m, borderness),
            }
            read = logits.numel() * logits.element_size() + sum(t.numel() * 4 for t in (*ltrb, *borderness))
            title = f"{name}, {str(dtype)[6:]} NHWC"
            report.time(title, ways, repeats, {"ours": read / rate}, with_host=["torch"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        return on_gpu(measure, arguments.json)
    torch.set_num_threads(native.library.num_threads())
    return report([case(*named) for named in made_logits()], arguments.json)


if __name__ == "__main__":
    sys.exit(main())
