"""upsample_argmax against torch's interpolate + argmax: 133 classes, 200x336 -> 800x1344.

"Smooth" logits are like a network's: a scene of regions with one strong class each (+8 over a bicubic field of its own
for every class, which changes over about 16 logit pixels), edges softened over 3 logit pixels, and a little noise.
"Random" ones are independent normal numbers: nothing can be skipped.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from timing import Row, at_least, report

from lpsnet import native

NUM_CLASSES, IN, OUT = 133, (200, 336), (800, 1344)
SCALE = (IN[0] / OUT[0], IN[1] / OUT[1])


def random_logits() -> torch.Tensor:
    return torch.randn(NUM_CLASSES, *IN, generator=torch.Generator().manual_seed(0))


def smooth_logits() -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    field = torch.randn(1, NUM_CLASSES, IN[0] // 16, IN[1] // 16, generator=g)
    field = F.interpolate(field, size=IN, mode="bicubic")[0]
    centres, classes = torch.rand(40, 2, generator=g), torch.randperm(NUM_CLASSES, generator=g)[:40]
    y, x = torch.meshgrid(torch.linspace(0, 1, IN[0]), torch.linspace(0, 1, IN[1]), indexing="ij")
    distance = (y[..., None] - centres[:, 0]) ** 2 + (x[..., None] - centres[:, 1]) ** 2
    regions = F.one_hot(classes[distance.argmin(-1)], NUM_CLASSES).permute(2, 0, 1).float()
    regions = F.avg_pool2d(regions, 3, stride=1, padding=1)
    return (8 * regions + field + 0.1 * torch.randn(NUM_CLASSES, *IN, generator=g)).contiguous()


def case(name: str, logits: torch.Tensor, required: float) -> Row:
    array = logits.numpy()

    def ours() -> np.ndarray:
        return native.upsample_argmax(array, OUT, SCALE)

    def theirs() -> np.ndarray:
        return F.interpolate(logits[None], size=OUT, mode="bilinear", align_corners=False)[0].argmax(0).numpy()

    agreement = (ours() == theirs()).mean()
    if agreement < 0.9999:  # torch rounds in another order: near ties may differ
        sys.exit(f"{name}: only {agreement:.4%} of the pixels agree")
    return at_least(f"{name} logits", required, ours, theirs, repeats=7)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    arguments = parser.parse_args()
    torch.set_num_threads(native.library.num_threads())
    rows = [case("smooth", smooth_logits(), 20), case("random", random_logits(), 5)]
    return report(rows, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
