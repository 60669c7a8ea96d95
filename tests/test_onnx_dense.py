"""The dense network in ONNX beside torch: every kind of layer, sizes and batches other than the traced one."""

import dataclasses

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from lpsnet.artifact import dense_outputs
from lpsnet.config import Recipe
from lpsnet.export.dense import export_dense
from lpsnet.models.deform import DeformConv2d
from lpsnet.models.lpsnet import FlatLPSNet, LPSNet

SIZES = ((1, 64, 96), (1, 32, 32), (2, 96, 160), (1, 224, 64))


def random_model(recipe: Recipe, **changes) -> LPSNet:
    torch.manual_seed(0)
    model = LPSNet(dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **changes))).eval()
    for module in model.modules():
        if isinstance(module, DeformConv2d):  # offsets of some pixels, across the borders too
            torch.nn.init.normal_(module.offset.weight, std=0.1)
            torch.nn.init.uniform_(module.offset.bias, -3, 3)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model


def session_of(model: ir.Model) -> onnxruntime.InferenceSession:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    assert {o.domain for o in proto.opset_import} <= {""}  # standard operators alone
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(proto.SerializeToString(), options)


def compare(model: LPSNet, session: onnxruntime.InferenceSession, tolerance: float) -> None:
    for size in SIZES:
        images = torch.randn(size[0], 3, *size[1:])
        with torch.inference_mode():
            expected = FlatLPSNet(model)(images)
        got = session.run(dense_outputs(), {"images": images.numpy()})
        for name, want, value in zip(dense_outputs(), expected, got, strict=True):
            assert value.dtype == np.float32, name
            scale = max(1.0, float(want.abs().max()))
            np.testing.assert_allclose(value, want.numpy(), rtol=0, atol=tolerance * scale, err_msg=f"{name} {size}")


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "bn", "deform": "off"},
        {"norm": "gn", "norm_groups": 4, "deform": "v1"},
        {"norm": "bn", "deform": "v2", "context": "gap"},
        {"norm": "bn", "deform": "off", "context": "none", "ppm_bins": (1, 2)},
        {"norm": "bn", "deform": "off", "backbone": "resnet50"},
    ],
    ids=lambda c: ",".join(map(str, c.values())),
)
def test_equals_torch(tiny_recipe, changes):
    model = random_model(tiny_recipe, **changes)
    compare(model, session_of(export_dense(model)), 2e-5)


@pytest.mark.parametrize("deform", ["v1", "v2"])
def test_deformable_convolution_as_samplings(tiny_recipe, deform):
    model = random_model(tiny_recipe, norm="bn", deform=deform)
    exported = export_dense(model, "gridsample")
    kinds = {node.op_type for node in exported.graph.all_nodes()}
    assert "GridSample" in kinds
    assert "DeformConv" not in kinds
    # Positions pass through the unit square, which costs some of their digits.
    compare(model, session_of(exported), 1e-3)


def test_half_precision_keeps_offsets_and_outputs_in_float(tiny_recipe):
    model = random_model(tiny_recipe, norm="bn", deform="v1")
    exported = export_dense(model, half=True)
    weights = {v.name: v.dtype for v in exported.graph.initializers.values()}
    offsets = [dtype for name, dtype in weights.items() if ".offset.weight" in name]
    assert offsets
    assert all(dtype == ir.DataType.FLOAT for dtype in offsets)
    assert weights["network.model.backbone.stem.0.weight"] == ir.DataType.FLOAT16
    compare(model, session_of(exported), 2e-2)


def test_the_model_stays_as_it_is(tiny_recipe):
    model = random_model(tiny_recipe, norm="bn", deform="off")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export_dense(model, half=True)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
