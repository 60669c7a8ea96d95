"""Cases of the operators over images and features."""

from collections.abc import Sequence
from typing import Any

import torch
from box_cases import random_boxes
from op_case import Inputs, OpCase, Outputs, in_layout
from torch import Tensor

from lpsnet import ops
from lpsnet.ops import reference, roi_align_reference

IMAGE_SIZES = [(23, 31, 17, 40), (9, 7, 30, 22), (40, 64, 13, 9), (1, 1, 3, 5), (5, 1, 1, 1)]
# The largest relative error of a rounding, and the largest number that is lost.
ROUNDING = {torch.float32: (1e-5, 1e-4), torch.float16: (2**-11, 1e-3), torch.bfloat16: (2**-8, 1e-3)}


def resize_normalize_case(name: str, size: Sequence[int], dtype: torch.dtype, channels_last: bool) -> OpCase:
    height, width, *resized = size

    def inputs(seed: int) -> Inputs:
        g = torch.Generator().manual_seed(seed)
        return {
            "image": torch.randint(0, 256, (height, width, 3), generator=g, dtype=torch.uint8),
            "resized": resized,
            "padded": [resized[0] + 3, resized[1] + 5],
            "mean": [123.675, 116.28, 103.53],
            "std": [58.395, 57.12, 57.375],
            "reverse_channels": channels_last,
            "channels_last": channels_last,
            "dtype": dtype,
        }

    def check(given: Inputs, outputs: Outputs) -> None:
        arguments = {k: v for k, v in given.items() if k not in ("channels_last", "dtype")}
        rtol, atol = ROUNDING[dtype]
        assert outputs[0].dtype == dtype
        torch.testing.assert_close(outputs[0].double(), reference.resize_normalize(**arguments), rtol=rtol, atol=atol)

    return OpCase(name, inputs, lambda **given: (ops.resize_normalize(**given),), check)


def roi_align_case(name: str, size: Sequence[int], dtype: torch.dtype, channels_last: bool) -> OpCase:
    channels, n, *output_size, ratio = size

    def inputs(seed: int) -> Inputs:
        g = torch.Generator().manual_seed(seed)
        maps = [torch.randn(channels, *s, generator=g) for s in ((17, 22), (9, 11), (5, 6))]
        return {
            "features": [in_layout(m, channels_last) for m in maps],
            "boxes": random_boxes(n, 90, g),
            "strides": [4, 8, 16],
            "output_size": output_size,
            "sampling_ratio": ratio,
            "canonical_level": 1,
            "canonical_size": 30.0,
        }

    def check(given: Inputs, outputs: Outputs) -> None:
        expected = roi_align_reference.roi_align(**given, box_levels=None)
        torch.testing.assert_close(outputs[0].double(), expected, rtol=1e-4, atol=1e-5)

    return OpCase(name, inputs, lambda **given: (ops.roi_align(**given),), check)


def deform_columns_case(name: str, size: Sequence[int], dtype: torch.dtype, channels_last: bool) -> OpCase:
    """Through `deform_conv2d` with its gradients, the function of torch that gathers and scatters columns."""
    channels, height, width, groups = size
    taps = {"stride": (1, 2), "padding": (2, 1), "dilation": (2, 1)}
    out = height, (width - 1) // 2 + 1

    def inputs(seed: int) -> Inputs:
        g = torch.Generator().manual_seed(seed)

        def numbers(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g).to(dtype)

        image = numbers(2, channels, height, width)
        return {
            "input": image.to(memory_format=torch.channels_last) if channels_last else image,
            "offset": numbers(2, groups * 18, *out) * 2,
            "weight": numbers(3, channels, 3, 3) / 4,
            "bias": numbers(3),
            "mask": numbers(2, groups * 9, *out).sigmoid(),
            "offset_groups": groups,
        }

    def run(**given: Any) -> Outputs:
        tensors = {k: v.requires_grad_() if isinstance(v, Tensor) else v for k, v in given.items()}
        result = ops.deform_conv2d(**tensors, **taps)
        leaves = [t for t in tensors.values() if isinstance(t, Tensor)]
        return result.detach(), *torch.autograd.grad(result.float().square().sum(), leaves)

    def check(given: Inputs, outputs: Outputs) -> None:
        exact = {k: v.double() if isinstance(v, Tensor) else v for k, v in given.items()}
        expected = reference.deform_conv2d(
            **{k: v.detach() if isinstance(v, Tensor) else v for k, v in exact.items()}, **taps
        )
        rtol, atol = {torch.float32: (1e-4, 1e-4), torch.float16: (4e-3, 4e-3)}.get(dtype, (3e-2, 3e-2))
        torch.testing.assert_close(outputs[0].double(), expected, rtol=rtol, atol=atol)
        for got, like in zip(outputs[1:], run(**exact)[1:], strict=True):
            # Sums of many products, whose errors go with the largest of them.
            torch.testing.assert_close(got.double(), like, rtol=rtol, atol=4 * atol * max(1.0, like.abs().max().item()))

    return OpCase(name, inputs, run, check, is_exact=False)
