"""Cases of the deformable convolution, and how close the fused one is to the oracle."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from op_case import Inputs, OpCase, Outputs
from torch import Tensor

from lpsnet.ops import deform_conv2d
from lpsnet.ops.fused_deform_conv2d import fuse

UNIT = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}  # half of a last place, of 1
NAMES = ("input", "offset", "weight", "bias", "stride", "padding", "dilation", "mask", "offset_groups")


def arguments(
    batch=2, channels=4, size=(5, 7), out=3, kernel=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1),
    mask=False, offset_groups=1, groups=1, bias=True, sigma=1.5, dtype=torch.float64, seed=0,
):  # fmt: skip
    """(input, offset, weight, bias, stride, padding, dilation, mask, offset_groups) of random numbers."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    out_size = [
        (s + 2 * p - d * (k - 1) - 1) // t + 1
        for s, k, t, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    ]
    taps = offset_groups * math.prod(kernel)
    return (
        normal(batch, channels, *size),
        normal(batch, 2 * taps, *out_size) * sigma,
        normal(out, channels // groups, *kernel),
        normal(out) if bias else None,
        stride,
        padding,
        dilation,
        normal(batch, taps, *out_size).sigmoid() if mask else None,
        offset_groups,
    )


def fused_arguments(dtype, **case):
    """Random arguments as the fused operator takes them: input and weight of the dtype, the rest of float32.

    Offsets are multiples of 1/64, so that float32 has the coordinates exactly.
    """
    input, offset, weight, bias, *geometry, mask, offset_groups = arguments(**case)
    return (
        input.to(dtype).to(memory_format=torch.channels_last),
        ((offset * 64).round() / 64).float(),
        weight.to(dtype),
        None if bias is None else bias.float(),
        *geometry,
        None if mask is None else mask.float(),
        offset_groups,
    )


def fused(input, offset, weight, bias, stride, padding, dilation, mask, offset_groups):
    """What `fuse` writes over NaN, in the layout of the input."""
    layout = torch.contiguous_format if input.is_contiguous() else torch.channels_last
    shape = len(input), len(weight), *offset.shape[2:]
    out = torch.empty(shape, dtype=input.dtype, device=input.device, memory_format=layout).fill_(torch.nan)
    fuse(out, input, offset, weight, bias, stride, padding, dilation, mask, offset_groups)
    return out


def double(args):
    """The same in float64."""
    return tuple(a.double() if isinstance(a, Tensor) else a for a in args)


def assert_close_to_oracle(out, args):
    """The oracle is the operator in float64, which test_deform_conv2d.py proves.

    A sample is rounded once to the dtype and so is the sum; float32 rounds each term of a sample and each sum. The
    subnormal numbers of float16 are 2^-24 apart.
    """
    unit, exact = UNIT[out.dtype], double(args)
    expected = deform_conv2d(*exact)
    magnitude = deform_conv2d(*(a.abs() if isinstance(a, Tensor) and i != 1 else a for i, a in enumerate(exact)))
    terms = args[2][0].numel()
    bound = (unit + (terms + 8) * 2.0**-24) * magnitude + unit * expected.abs() + terms * 2.0**-23
    error = (out.double() - expected).abs()
    assert (error <= bound).all(), f"{(error / bound).max():.3g} of the bound"


def fused_deform_conv2d_case(name: str, size: Sequence[int], dtype: torch.dtype, channels_last: bool) -> OpCase:
    channels, height, width, groups, out = size

    def inputs(seed: int) -> Inputs:
        args = fused_arguments(
            dtype,
            batch=1,
            channels=channels,
            size=(height, width),
            out=out,
            mask=channels_last,
            offset_groups=groups,
            seed=seed,
        )
        layout = torch.channels_last if channels_last else torch.contiguous_format
        return dict(zip(NAMES, (args[0].contiguous(memory_format=layout), *args[1:]), strict=True))

    def run(**given: Any) -> Outputs:
        return (fused(**given),)

    def check(given: Inputs, outputs: Outputs) -> None:
        assert_close_to_oracle(outputs[0], tuple(given.values()))

    return OpCase(name, inputs, run, check, is_exact=False)
