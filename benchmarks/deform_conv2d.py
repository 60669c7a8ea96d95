"""deform_conv2d against F.conv2d of the same shape: the semantic head's first layer at 800 x 1344.

Both sides get the same memory format. Random offsets are normal with 2 pixels of standard deviation; zero offsets are
what a freshly initialised layer has. `--backward` prints the backward too, for information: it must reach nothing.

On a GPU: the fused kernel in each dtype beside cuDNN's plain convolution, our columns and torchvision; the share is
that of the arithmetic of a large dense product of matrices.
"""

import argparse
import sys
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from gpu_timing import GpuReport, add_arguments, macs_per_us, on_gpu
from timing import at_most, report

from lpsnet.native.library import set_num_threads
from lpsnet.ops import deform_conv2d
from lpsnet.ops.deform_conv2d import by_columns

SHAPE, OUT_CHANNELS = (1, 256, 200, 336), 128
FORMATS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--formats", choices=FORMATS, nargs="*", default=list(FORMATS))
    parser.add_argument("--backward", action="store_true", help="time the backward too")
    add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = False  # float32 is float32 on all sides
        return on_gpu(measure, arguments.json)
    torch.set_num_threads(arguments.threads)
    set_num_threads(arguments.threads)
    torch.manual_seed(0)

    offset = torch.randn(1, 18, *SHAPE[2:]) * 2
    bias = torch.randn(OUT_CHANNELS)
    rows = []
    for name in arguments.formats:
        memory_format = FORMATS[name]
        input = torch.randn(SHAPE).to(memory_format=memory_format)
        weight = torch.randn(OUT_CHANNELS, SHAPE[1], 3, 3).to(memory_format=memory_format) / 48

        def conv(input=input, weight=weight):
            return F.conv2d(input, weight, bias, padding=1)

        for case, offsets in (("random", offset), ("zero", torch.zeros_like(offset))):

            def deform(input=input, weight=weight, offsets=offsets):
                return deform_conv2d(input, offsets, weight, bias, padding=1)

            with torch.no_grad():
                rows.append(at_most(f"forward, {name}, {case} offsets", 2.0, deform, conv, arguments.repeats))
    if arguments.backward:
        backward_ratio(offset, bias)
    return report(rows, arguments.json) if rows else 0


def measure(report: GpuReport, repeats: int) -> None:
    """On a GPU, channels last, as a deployed network has it. torchvision knows NCHW only."""
    torch.manual_seed(0)
    macs = OUT_CHANNELS * SHAPE[1] * 9 * SHAPE[2] * SHAPE[3]
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        limit = macs / macs_per_us(report.device, dtype)
        input, weight, bias = (
            t.to(report.device, dtype)
            for t in (torch.randn(SHAPE), torch.randn(OUT_CHANNELS, SHAPE[1], 3, 3) / 48, torch.randn(OUT_CHANNELS))
        )
        input, weight = (t.contiguous(memory_format=torch.channels_last) for t in (input, weight))
        bias32 = bias.float()
        for case, sigma in (("offsets of 2 pixels", 2.0), ("offsets of half a pixel", 0.5), ("no offsets", 0.0)):
            offset = torch.randn(1, 18, *SHAPE[2:], device=report.device) * sigma

            def ours(input=input, weight=weight, bias=bias32, offset=offset) -> torch.Tensor:
                return deform_conv2d(input, offset, weight, bias, padding=1)

            def conv(input=input, weight=weight, bias=bias) -> torch.Tensor:
                return F.conv2d(input, weight, bias, padding=1)

            def columns(input=input, weight=weight, bias=bias32, offset=offset) -> torch.Tensor:
                out = torch.empty(1, OUT_CHANNELS, *SHAPE[2:], dtype=input.dtype, device=input.device)
                by_columns(out, input, offset, weight, bias, (1, 1), (1, 1), (1, 1), None, 1)
                return out

            ways = {"ours": ours, "plain convolution": conv, "columns": columns, **peer(input, weight, bias, offset)}
            name = f"{str(dtype)[6:]}, {case}"
            rows = report.time(name, ways, repeats, dict.fromkeys(ways, limit))
            if dtype == torch.float16:
                throughput = 100 * rows["plain convolution"].median_us / rows["ours"].median_us
                report.at_least(f"{name}, of the plain convolution's throughput", throughput, 50, "%")
                if report.device.type == "cuda":
                    ratio = 100 * extra_memory(ours) / extra_memory(columns)
                    report.at_most(f"{name}, extra memory, of the columns'", ratio, 10, "%")


def peer(
    input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, offset: torch.Tensor
) -> dict[str, Callable[[], torch.Tensor]]:
    """torchvision's, where it is installed, with its inputs in its layout already."""
    theirs = torchvision_deform_conv2d()
    if theirs is None:
        return {}
    args = input.contiguous(), offset.to(input.dtype), weight.contiguous(), bias
    return {"torchvision": lambda: theirs(*args, padding=1)}


@cache
def torchvision_deform_conv2d() -> Callable[..., torch.Tensor] | None:
    """Says once why there is none."""
    try:
        from torchvision.ops import deform_conv2d
    except (ImportError, RuntimeError, OSError) as error:
        print(f"torchvision: absent ({error})")
        return None
    return deform_conv2d


def extra_memory(function: Callable[[], torch.Tensor]) -> int:
    """Bytes that a call takes from torch besides its result."""
    size = function().nbytes
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    return torch.cuda.max_memory_allocated() - before - size


def backward_ratio(offset: torch.Tensor, bias: torch.Tensor) -> None:
    tensors = [torch.randn(SHAPE), torch.randn(OUT_CHANNELS, SHAPE[1], 3, 3), bias]
    input, weight, bias, offset = (t.requires_grad_() for t in (*tensors, offset))
    ours, theirs = deform_conv2d(input, offset, weight, bias, padding=1), F.conv2d(input, weight, bias, padding=1)
    grad = torch.randn_like(theirs)

    def deform():
        return torch.autograd.grad(ours, (input, offset, weight, bias), grad, retain_graph=True)

    def conv():
        return torch.autograd.grad(theirs, (input, weight, bias), grad, retain_graph=True)

    row = at_most("backward", float("inf"), deform, conv, repeats=3, warmup=1)
    print(f"backward, NCHW, random offsets: {row.ours_ms:.0f} ms against {row.theirs_ms:.0f} ms, ratio {row.ratio:.2f}")


if __name__ == "__main__":
    sys.exit(main())
