"""decode against the same in torch: grid_sample at the points, softmax, threshold, topk of each level."""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
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
        ys, xs = ((torch.arange(n) + 0.5) * stride for n in border.shape)
        y, x = torch.meshgrid(ys[ys < HEIGHT], xs[xs < WIDTH], indexing="ij")
        grid = torch.stack([x / WIDTH, y / HEIGHT], 2) * 2 - 1
        at_points = functional.grid_sample(logits[None], grid[None], padding_mode="border", align_corners=False)[0]
        probabilities = at_points.softmax(0)[:NUM_THINGS]
        score = (probabilities * border[: y.shape[0], : y.shape[1]])[probabilities > CONFIG.score_threshold]
        scores.append(score.topk(min(CONFIG.topk, len(score))).values)
    return torch.cat(scores)


def case(name: str, logits: torch.Tensor) -> Row:
    g = torch.Generator().manual_seed(1)
    sizes = [(-(-HEIGHT // s), -(-WIDTH // s)) for s in BOX_STRIDES]
    ltrb = [torch.rand(4, *size, generator=g) * 100 for size in sizes]
    borderness = [torch.rand(*size, generator=g) for size in sizes]
    is_thing = torch.arange(NUM_CLASSES) < NUM_THINGS

    def ours() -> tuple[torch.Tensor, ...]:
        options = CONFIG.score_threshold, CONFIG.topk, CONFIG.score_fusion
        return ops.decode(logits, is_thing, ltrb, borderness, list(BOX_STRIDES), [HEIGHT, WIDTH], *options)

    def theirs() -> torch.Tensor:
        return in_torch(logits, borderness)

    scores, count = ours()[1], int(ours()[4])
    np.testing.assert_allclose(scores[:count].numpy(), theirs().numpy(), rtol=1e-3)
    return at_least(f"{name}, {count} boxes", 3, ours, theirs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    arguments = parser.parse_args()
    torch.set_num_threads(native.library.num_threads())
    g = torch.Generator().manual_seed(0)
    size = HEIGHT // SEMANTIC_STRIDE, WIDTH // SEMANTIC_STRIDE
    coarse = torch.randn(1, NUM_CLASSES, 10, 14, generator=g) * 5
    smooth = functional.interpolate(coarse, size, mode="bicubic")[0].contiguous()
    rough = torch.randn(NUM_CLASSES, *size, generator=g) * 3
    return report([case("smooth logits", smooth), case("random logits", rough)], arguments.json)


if __name__ == "__main__":
    sys.exit(main())
