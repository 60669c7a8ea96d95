"""Resize, normalisation and padding in the graph beside liblpsnet's."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnxscript import GraphBuilder

from lpsnet.config import InputConfig
from lpsnet.export.graph import OPSET, UINT8
from lpsnet.export.preprocess import network_input, sizes_of
from lpsnet.inference import prepare

CONFIGS = (InputConfig(short_side=64, max_side=96), InputConfig(short_side=400, max_side=500))


def session_of(config: InputConfig) -> onnxruntime.InferenceSession:
    graph = ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name="preprocess")
    builder = GraphBuilder(graph)
    image = builder.input("image", UINT8, ["h", "w", 3])
    sizes = sizes_of(builder.op, image, config)
    builder.add_output(network_input(builder.op, image, sizes, config), "images")
    for name, value in sizes._asdict().items():
        builder.add_output(value, name)
    return onnxruntime.InferenceSession(ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString())


@pytest.mark.parametrize("config", CONFIGS, ids=["smaller", "larger"])
def test_equals_liblpsnet(config):
    session = session_of(config)
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (1, 90), (64, 64), (64, 96), (65, 97), (200, 31), (333, 500), (720, 1280), (400, 401)]
    sizes += [tuple(s) for s in rng.integers(1, 300, (20, 2))]
    for size in sizes:
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        images, *numbers = session.run(None, {"image": image})
        expected = prepare(image, config)
        assert [n.item() for n in numbers] == [*expected.output_size, *expected.image_size]
        assert images.shape == expected.images.shape
        # In units of the 8-bit image: positions and weights are float32 here and float64 there.
        np.testing.assert_allclose(images * 58, expected.images * 58, rtol=0, atol=0.02, err_msg=str(size))
        if expected.image_size == size:
            np.testing.assert_array_equal(images, expected.images)
