"""Int8 networks: where they round, and how far they are from what they were made of."""

import dataclasses
from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from lpsnet.artifact import dense_outputs
from lpsnet.export.dense import export_dense
from lpsnet.export.images import MadeUpImages
from lpsnet.export.quantize import quantize
from lpsnet.inference import prepare
from lpsnet.models.lpsnet import LPSNet


@pytest.fixture(scope="module", params=["efficientnet_lite0", "resnet50"])
def networks(request, tiny_recipe) -> dict[str, onnx.ModelProto]:
    """One network in float32, in int8, and in int8 around zero."""
    torch.manual_seed(0)
    changes = {"backbone": request.param, "norm": "bn", "deform": "off"}
    recipe = dataclasses.replace(tiny_recipe, model=dataclasses.replace(tiny_recipe.model, **changes))
    model = LPSNet(recipe).eval()
    images = list(MadeUpImages(3))
    made = {"float": export_dense(model), "int8": quantize(export_dense(model), images, recipe.input)}
    made["symmetric"] = quantize(export_dense(model), images, recipe.input, symmetric=True)
    return {name: ir.to_proto(graph) for name, graph in made.items()} | {"input": recipe.input}


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {output: node for node in model.graph.node for output in node.output}


def activations_of_rounded_convolutions(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Those that read a convolution through Q and DQ, and are alone in doing so."""
    made_by = producers(model)
    uses = Counter(name for node in model.graph.node for name in node.input)
    for node in model.graph.node:
        source = made_by.get(node.input[0]) if node.op_type in ("Clip", "Relu") else None
        if source is None or source.op_type != "DequantizeLinear" or uses[source.output[0]] > 1:
            continue
        if made_by[made_by[source.input[0]].input[0]].op_type == "Conv":
            yield node


def test_activations_become_the_range_of_their_convolution(networks):
    assert not list(activations_of_rounded_convolutions(networks["int8"]))
    # Nothing of the kind can be done where 0 is the middle of the range.
    assert list(activations_of_rounded_convolutions(networks["symmetric"]))


def test_layers_that_stay_float(networks):
    made_by = producers(networks["int8"])
    weights = {node.input[1] for node in networks["int8"].graph.node if node.op_type == "Conv"}
    floats = {name for name in weights if name not in made_by}
    outputs = {name for name in floats if ".box_head.output." in name or ".semantic_head.classifiers." in name}
    assert len(outputs) == 5
    first = {name for name in floats - outputs if any(k in name for k in (".stem.", ".blocks.0.", ".backbone.conv1."))}
    assert first
    assert floats == outputs | first
    assert len(floats) < len(weights) / 3


def test_close_to_float(networks):
    """Random weights lead to few and flat outputs: the error is measured against how much they vary."""
    image = list(MadeUpImages(4))[-1]  # not among those of the calibration
    feeds = {"images": prepare(image, networks["input"]).images}
    names = dense_outputs()
    expected, got = (
        onnxruntime.InferenceSession(networks[k].SerializeToString()).run(names, feeds) for k in ("float", "int8")
    )
    assert all(np.isfinite(value).all() for value in got)
    error, size = expected[0] - got[0], expected[0] - expected[0].mean()
    assert np.sqrt((error**2).mean()) < 0.2 * np.sqrt((size**2).mean())
