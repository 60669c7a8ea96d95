"""upsample_argmax against torch's interpolate + argmax: 133 classes, 200x336 -> 800x1344.

"Smooth" logits are like a network's: a scene of regions with one strong class each (+8 over a bicubic field of its own
for every class, which changes over about 16 logit pixels), edges softened over 3 logit pixels, and a little noise.
"Random" ones are independent normal numbers: nothing can be skipped.
"""

import argparse
import sys

import numpy as np
import torch
import torch.nn.functional as F
from gpu_timing import GpuReport, add_arguments, copied_bytes_per_us, on_gpu
from timing import Row, at_least, report

from lpsnet import native, ops

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


def measure(report: GpuReport, repeats: int) -> None:
    """On a GPU: both dtypes and layouts, beside torch in the same dtype and layout, and beside the limit of memory."""
    rate = copied_bytes_per_us(report.device)
    for kind, logits in (("smooth", smooth_logits()), ("random", random_logits())):
        for dtype in (torch.float32, torch.float16):
            for layout in (torch.contiguous_format, torch.channels_last):
                maps = logits[None].to(report.device, dtype).contiguous(memory_format=layout)

                def ours(maps: torch.Tensor = maps) -> torch.Tensor:
                    return ops.upsample_argmax(maps[0], OUT, SCALE, None)

                def theirs(maps: torch.Tensor = maps) -> torch.Tensor:
                    return F.interpolate(maps, size=OUT, mode="bilinear", align_corners=False)[0].argmax(0)

                name = f"{kind} logits, {str(dtype)[6:]}, {'NCHW' if layout == torch.contiguous_format else 'NHWC'}"
                if report.device.type == "cuda":  # torch's float16 rounds before it compares
                    print(f"{name}: {(ours() == theirs()).float().mean():.4%} of the pixels agree")
                limit = (maps.numel() * maps.element_size() + OUT[0] * OUT[1]) / rate
                rows = report.time(name, {"ours": ours, "interpolate + argmax": theirs}, repeats, {"ours": limit})
                if kind == "smooth" and dtype == torch.float16:
                    report.at_least(f"{name}, of the limit of memory", 100 * (rows["ours"].share or 0), 50, "%")
                    faster = rows["interpolate + argmax"].median_us / rows["ours"].median_us
                    report.at_least(f"{name}, over interpolate + argmax", faster, 10)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        return on_gpu(measure, arguments.json)
    torch.set_num_threads(native.library.num_threads())
    rows = [case("smooth", smooth_logits(), 20), case("random", random_logits(), 5)]
    return report(rows, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
