"""The dense network as an ONNX graph that takes images of any size."""

from collections.abc import Callable

import onnx_ir as ir
import onnxscript.optimizer
import torch
from torch import Tensor, nn

from lpsnet.artifact import DENSE_INPUT, dense_outputs
from lpsnet.models.fold import fold_batch_norms
from lpsnet.models.lpsnet import STRIDE, FlatLPSNet, LPSNet
from lpsnet.models.precision import cast_network

from .deform import DeformForm, translation
from .graph import OPSET
from .pyramid import TRANSLATIONS, prepare_context
from .quiet import quiet

_TRACED_SIZE = (6 * STRIDE, 8 * STRIDE)
"""Any size does: the graph holds none, which the check after every export runs at other sizes to prove."""


def export_dense(model: LPSNet, deform_conv: DeformForm = "standard", half: bool = False) -> ir.Model:
    """The network in evaluation mode, BatchNorm folded.

    The graph takes ``images``, float32[N, 3, H, W] with multiples of 32 for H and W, and gives ``logits``, ``ltrb_p3``
    ... ``ltrb_p7``, ``borderness_p3`` ... ``borderness_p7`` as `lpsnet.structures.DenseOutputs` describes them.

    It is traced at one size. The network is convolutional and its steps between maps are by whole factors, so that no
    size stands in the graph once the pooled context computes its matrices from the map it gets (`pyramid.py`); the
    dimensions are then named.

    Args:
        model: stays as it is.
        deform_conv: the form of deformable convolutions.
        half: in float16 but for offsets and boxes; inputs and outputs are float32 all the same.
    """
    network = fold_batch_norms(model)
    prepare_context(network)
    dtype = torch.float16 if half else torch.float32
    cast_network(network, dtype)
    images = torch.zeros(1, 3, *_TRACED_SIZE)
    table: dict[Callable, Callable] = {torch.ops.lpsnet.deform_conv2d.default: translation(deform_conv)}
    table.update(TRANSLATIONS)
    with quiet():
        program = torch.onnx.export(
            _FloatInput(network, dtype),
            (images,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[DENSE_INPUT],
            output_names=dense_outputs(),
            custom_translation_table=table,
            optimize=False,  # it would put the sizes of the trace into the graph
            verbose=False,
        )
        if program is None:  # only of the older exporter
            raise RuntimeError("expected torch.onnx.export to give a program, got none")
        exported: ir.Model = program.model
        _forget_sizes(exported)
        onnxscript.optimizer.optimize(exported)
    return exported


class _FloatInput(nn.Module):
    """Takes float32 images, whatever the network wants."""

    def __init__(self, network: LPSNet, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = FlatLPSNet(network), dtype

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.network(images.to(self.dtype))


def _forget_sizes(model: ir.Model) -> None:
    """Names the dimensions of inputs and outputs, and drops the shapes in between, which were those of the trace."""
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.shape = None
    images, *_ = model.graph.inputs
    images.shape = ir.Shape(["batch", 3, "height", "width"])
    for value in model.graph.outputs:
        kind, _, level = (value.name or "").partition("_")
        if kind == "logits":
            value.shape = ir.Shape(["batch", None, "logits_height", "logits_width"])
        else:
            channels = [4] if kind == "ltrb" else []
            value.shape = ir.Shape(["batch", *channels, f"{level}_height", f"{level}_width"])
