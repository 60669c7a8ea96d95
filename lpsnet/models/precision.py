"""The dense network in half precision."""

import torch
from torch import nn

from lpsnet.models.deform import DeformConv2d
from lpsnet.models.lpsnet import LPSNet


def cast_network(model: LPSNet, dtype: torch.dtype) -> None:
    """Casts the parameters and buffers of a network in place, for inputs of this dtype.

    What finds offsets, and the scales of the boxes, stay as they are: offsets and boxes are computed in float32. The
    outputs of the network are float32 too, unless `SemanticHead.logits_dtype` says otherwise.
    """
    kept: list[nn.Parameter] = [model.box_head.scales]
    for module in model.modules():
        if isinstance(module, DeformConv2d):
            kept += module.offset.parameters()
    keep = {id(p) for p in kept}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and id(tensor) not in keep:
            tensor.data = tensor.data.to(dtype)
