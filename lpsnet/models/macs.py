"""Parameters and multiply-accumulates of the network, part by part, without computing anything."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lpsnet.config import Recipe
from lpsnet.models.context import PyramidPooling
from lpsnet.models.deform import TAPS, DeformConv2d
from lpsnet.models.lpsnet import LPSNet

PARTS = {"backbone": "backbone", "fpn": "FPN + context", "box_head": "box head", "semantic_head": "semantic head"}
"""The parts of an LPSNet, by attribute, as they are called."""


@dataclass(frozen=True)
class Cost:
    """Of one part for one image.

    Attributes:
        parameters: numbers that the part has, frozen ones included; buffers are not parameters.
        macs: multiply-accumulates of convolutions, linear layers and matrix products. Normalisation, activations and
            bilinear interpolation are not counted, as is usual.
        deform_macs: those of them in deformable convolutions, without their sampling.
        offset_macs: those of them in the convolutions that find the offsets.
    """

    parameters: int
    macs: int
    deform_macs: int = 0
    offset_macs: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))


def network_costs(recipe: Recipe, size: tuple[int, int]) -> dict[str, Cost]:
    """The costs of each part of a recipe's network, by attribute, for one image of (height, width) pixels.

    Raises:
        ValueError: a size that is no multiple of 32.
    """
    with torch.device("meta"):
        model = LPSNet(recipe).eval()
        images = torch.empty(1, 3, *size)
    return count_costs(model, PARTS, images)


def count_costs(model: nn.Module, parts: Iterable[str], images: Tensor) -> dict[str, Cost]:
    """The costs of the parts of a model, named by its attributes, when it runs on images, both on the meta device."""
    counted = {name: _Counter(getattr(model, name)) for name in parts}
    with torch.no_grad():
        model(images)
    return {name: counter.cost() for name, counter in counted.items()}


def module_macs(module: nn.Module, *inputs: Any) -> int:
    """The multiply-accumulates of a module over inputs, whose tensors may be on the meta device."""
    counter = _Counter(module)
    with torch.no_grad():
        module(*inputs)
    return counter.macs


class _Counter:
    """Counts what passes through the layers of a module once it runs."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.macs = self.deform_macs = self.offset_macs = 0
        offsets = {m.offset for m in module.modules() if isinstance(m, DeformConv2d)}
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(self._count_offset if layer in offsets else self._count)
            elif isinstance(layer, DeformConv2d):
                layer.register_forward_hook(self._count_deform)
            elif isinstance(layer, nn.Linear | PyramidPooling):
                layer.register_forward_hook(self._count)

    def cost(self) -> Cost:
        parameters = sum(p.numel() for p in self.module.parameters())
        return Cost(parameters, self.macs, self.deform_macs, self.offset_macs)

    # Hooks return None: anything else would replace the output.
    def _count(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        self.macs += _macs(layer, inputs[0], output)

    def _count_deform(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        self._count(layer, inputs, output)
        self.deform_macs += _macs(layer, inputs[0], output)

    def _count_offset(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        self._count(layer, inputs, output)
        self.offset_macs += _macs(layer, inputs[0], output)


def _macs(layer: nn.Module, x: Tensor, output: Tensor) -> int:
    """Of the layer itself, without the layers inside it."""
    if isinstance(layer, nn.Conv2d):
        return output.numel() * layer.weight[0].numel()
    if isinstance(layer, nn.Linear):
        return output.numel() * layer.in_features
    if isinstance(layer, DeformConv2d):
        return output.numel() * x.shape[1] * TAPS
    if isinstance(layer, PyramidPooling):
        n, channels, height, width = x.shape
        grid = sum(b * b for b in layer.bins)
        return n * height * width * grid * (channels + layer.reduced_channels)
    raise TypeError(f"layer: expected one that is counted, got {type(layer).__name__}")
