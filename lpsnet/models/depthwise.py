"""Depthwise convolution for training in mixed precision on the CPU."""

from typing import Any

import torch
from torch import Tensor


def mixed_depthwise_conv2d(input: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """`conv2d` with one filter per channel, in the autocast type forward and in float32 backward.

    oneDNN has no fast bfloat16 kernel for the weight gradient of a depthwise convolution; its float32 kernel takes a
    quarter of the time.

    Args:
        input: floating [N, C, H, W] on the CPU, under autocast.
        weight: float32[C, 1, k, k].
        stride, padding: of both sides.

    Returns:
        [N, C, H', W'] in the autocast type.
    """
    return _MixedDepthwise.apply(input.to(torch.get_autocast_dtype("cpu")), weight, stride, padding)


class _MixedDepthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.stride, ctx.padding = stride, padding
        with torch.autocast("cpu", enabled=False):
            return torch.conv2d(input, weight.to(input.dtype), None, stride, padding, 1, weight.shape[0])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        input, weight = ctx.saved_tensors
        wanted = (ctx.needs_input_grad[0], ctx.needs_input_grad[1], False)
        strides, paddings = (ctx.stride, ctx.stride), (ctx.padding, ctx.padding)
        grad_input, grad_weight, _ = torch.ops.aten.convolution_backward(
            gradients[0].float(),
            input.float(),
            weight,
            None,
            strides,
            paddings,
            (1, 1),
            False,
            (0, 0),
            weight.shape[0],
            wanted,
        )
        return None if grad_input is None else grad_input.to(input.dtype), grad_weight, None, None
