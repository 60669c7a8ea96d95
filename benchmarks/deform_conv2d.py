"""deform_conv2d against F.conv2d of the same shape: the semantic head's first layer at 800 x 1344.

Both sides get the same memory format. Random offsets are normal with 2 pixels of standard deviation; zero offsets are
what a freshly initialised layer has. `--backward` prints the backward too, for information: it must reach nothing.
"""

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from timing import at_most, report

from lpsnet.native.library import set_num_threads
from lpsnet.ops import deform_conv2d

SHAPE, OUT_CHANNELS = (1, 256, 200, 336), 128
FORMATS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--formats", choices=FORMATS, nargs="*", default=list(FORMATS))
    parser.add_argument("--backward", action="store_true", help="time the backward too")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
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
