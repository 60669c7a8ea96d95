"""A network as one ONNX file: from the image to the panoptic map, or the dense network alone."""

from pathlib import Path

import onnx
import onnx_ir as ir
from onnxscript import GraphBuilder, OpBuilder

from lpsnet import atomic
from lpsnet.artifact import IMAGE_INPUT, PANOPTIC_OUTPUTS, ArtifactInfo
from lpsnet.config import BOX_STRIDES, Recipe

from .graph import INT32, UINT8, cast, scope
from .panoptic import DenseValues, panoptic_head, setting_inputs
from .preprocess import network_input, sizes_of

IR_VERSION = 10
"""Read by ONNX Runtime from 1.18 on."""


def make_panoptic(model: ir.Model, recipe: Recipe) -> None:
    """Puts the steps before and after it around a dense network, in place.

    The graph then takes ``image``, uint8[H, W, 3] RGB of any size, and, with the recipe's values as defaults, the
    scalars of `lpsnet.artifact.SETTINGS`; it gives what `lpsnet.artifact.PANOPTIC_OUTPUTS` lists.
    """
    graph = model.graph
    (images,) = graph.inputs
    outputs = list(graph.outputs)
    graph.inputs.clear()
    graph.outputs.clear()
    builder = GraphBuilder(graph)
    op = builder.op
    image = builder.input(IMAGE_INPUT, UINT8, ["image_height", "image_width", 3])
    settings = setting_inputs(op, recipe.postprocess)
    with scope(op, "preprocess"):
        sizes = sizes_of(op, image, recipe.input)
        prepared = network_input(op, image, sizes, recipe.input)
    images.replace_all_uses_with(prepared)

    levels = len(BOX_STRIDES)
    dense = DenseValues(outputs[0], outputs[1 : 1 + levels], outputs[1 + levels :])
    segments, boxes = panoptic_head(op, dense, sizes, recipe.categories, recipe.postprocess, settings)
    with scope(op, "table"):
        segment_ids = _numbers(op, segments.labels)
    values = (segments.ids, segment_ids, *segments[1:], boxes.boxes, boxes.scores, boxes.labels)
    shapes: list[list[str | int]] = [
        ["image_height", "image_width"],
        ["segments"],
        ["segments"],
        ["segments"],
        ["segments"],
    ]
    shapes += [["segments", 4], ["detections", 4], ["detections"], ["detections"]]
    for name, value, shape in zip(PANOPTIC_OUTPUTS, values, shapes, strict=True):
        value.shape = ir.Shape(shape)
        builder.add_output(value, name)
    graph.sort()


def write(model: ir.Model, path: str | Path, info: ArtifactInfo) -> None:
    """Writes a checked ONNX file, whole or not at all.

    Raises:
        ValueError: a graph that is not valid ONNX.
        OSError: the file cannot be written.
    """
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "lpsnet", info.version
    model.metadata_props.clear()
    model.metadata_props.update(info.to_metadata())
    for node in model.graph.all_nodes():  # where in the Python code a node came from is nobody's concern
        node.metadata_props.clear()
    proto = ir.to_proto(model)
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        raise ValueError(f"model: expected valid ONNX, got {error}") from None
    atomic.write_bytes(path, proto.SerializeToString())


def _numbers(op: OpBuilder, like: ir.Value) -> ir.Value:
    """int32[n]: 1, 2, ..."""
    count = op.Squeeze(op.Shape(like), [0])
    return cast(op, op.Range(1, op.Add(count, 1), 1), INT32)
