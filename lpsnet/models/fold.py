"""BatchNorm folded into the layers before it, for deployment."""

import copy
from collections.abc import Iterator
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from lpsnet.models.box_head import BoxHead
from lpsnet.models.context import PyramidPooling
from lpsnet.models.deform import DeformConv2d
from lpsnet.models.resnet import Bottleneck, ResNet
from lpsnet.models.semantic_head import SemanticHead

Network = TypeVar("Network", bound=nn.Module)


def fold_batch_norms(model: Network) -> Network:
    """A copy of the network for inference: each BatchNorm is part of the convolution before it; GroupNorm stays.

    A convolution w * x and the norm (y - mean) / sqrt(var + eps) * gamma + beta are the convolution with the weight
    s * w and the bias beta - s * mean, s = gamma / sqrt(var + eps), computed in float64.

    Args:
        model: stays as it is.

    Returns:
        In evaluation mode and without gradients. Its state dict is not that of `model`: it has biases more, and norms
        less.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for parent in list(folded.modules()):
        for layer, owner, name in _normalized_layers(parent):
            norm = getattr(owner, name)
            if isinstance(norm, nn.BatchNorm2d):
                _fold(layer, norm)
                setattr(owner, name, nn.Identity())
    left = [name for name, module in folded.named_modules() if isinstance(module, nn.BatchNorm2d)]
    if left:
        raise TypeError(f"model: expected each BatchNorm behind a convolution that is known here, got {left}")
    return folded


def _normalized_layers(parent: nn.Module) -> Iterator[tuple[nn.Module, nn.Module, str]]:
    """The layers in a module whose output goes into a norm and nowhere else: layer, owner of the norm, its name."""
    if isinstance(parent, ResNet):
        yield parent.conv1, parent, "bn1"
    elif isinstance(parent, Bottleneck):
        for i in (1, 2, 3):
            yield getattr(parent, f"conv{i}"), parent, f"bn{i}"
    elif isinstance(parent, PyramidPooling):
        yield parent.fuse, parent, "norm"
    elif isinstance(parent, BoxHead | SemanticHead):
        layers = parent.tower if isinstance(parent, BoxHead) else parent.layers
        for layer, norm in zip(layers, parent.norms, strict=True):
            yield layer, norm, "norm"
    elif isinstance(parent, nn.Sequential):
        for (_, layer), (name, norm) in pairwise(parent.named_children()):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                yield layer, parent, name


def _fold(layer: nn.Module, norm: nn.BatchNorm2d) -> None:
    if not isinstance(layer, nn.Conv2d | DeformConv2d):
        raise TypeError(f"layer: expected a convolution before a BatchNorm, got {type(layer).__name__}")
    gamma, beta, mean, var = (_double(t) for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var))
    scale = gamma / torch.sqrt(var + norm.eps)
    bias = 0.0 if layer.bias is None else _double(layer.bias)
    weight = _double(layer.weight) * scale[:, None, None, None]
    dtype = layer.weight.dtype
    layer.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    layer.bias = nn.Parameter((beta + (bias - mean) * scale).to(dtype), requires_grad=False)


def _double(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise TypeError("norm: expected a BatchNorm with statistics and affine parameters, got one without")
    return tensor.detach().double()
