"""What TensorRT gets to parse: the dense network with deformable convolutions as our plugin takes them."""

import onnx_ir as ir

from lpsnet.engine.tensorrt_plugin import NAME

_FLOAT = int(ir.DataType.FLOAT)
_OFFSET, _BIAS, _MASK = 2, 3, 4
_VECTOR = 8


def prepare_deform_convs(model: ir.Model) -> int:
    """Makes each ``DeformConv`` an operator of our plugin, in place, with offset, bias and mask in float32: the ONNX
    operator wants one type for all of its inputs, so in half precision they were rounded.

    Returns:
        How many there are.

    Raises:
        ValueError: channels that the plugin's layout in half precision, by eights, does not take.
    """
    nodes = [node for node in model.graph.all_nodes() if node.op_type == "DeformConv"]
    for node in nodes:
        node.op_type = NAME
        _, weight, *_ = node.inputs
        if weight is None or weight.shape is None or weight.dtype != ir.DataType.FLOAT16:
            continue
        out_channels, channels = weight.shape[:2]
        if channels % _VECTOR or out_channels % _VECTOR:
            raise ValueError(
                f"precision: expected fp32 for a deformable convolution from {channels} to {out_channels} channels, "
                f"which are no multiples of {_VECTOR}, got fp16"
            )
        for index in (_OFFSET, _BIAS, _MASK):
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is not None:
                node.replace_input_with(index, _in_float(node, value))
    return len(nodes)


def _in_float(node: ir.Node, value: ir.Value) -> ir.Value:
    """What was cast to half precision, as it was before; anything else, cast."""
    made_by = value.producer()
    if made_by is not None and made_by.op_type == "Cast" and made_by.inputs[0] is not None:
        return made_by.inputs[0]
    cast = ir.node("Cast", [value], {"to": _FLOAT})
    node.prepend(cast)
    return cast.outputs[0]
