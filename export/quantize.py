"""Int8 by ONNX Runtime's static quantisation: convolutions in Q/DQ form, the rest in float."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from lpsnet.artifact import DENSE_INPUT
from lpsnet.config import InputConfig
from lpsnet.inference import prepare

from .quiet import quiet

_FLOAT_LAYERS = (
    ".backbone.stem.",
    ".backbone.blocks.0.",
    ".backbone.conv1.",
    ".box_head.output.",
    ".semantic_head.classifiers.",
    ".offset.",
)
"""What stays float: the layers at half the input's size, from which half of the loss would come, the outputs, and the
offsets of deformable convolutions, which are parts of pixels."""

_CLIPPED_BY_RANGE = ("Clip", "Relu")
"""Activations that become the range of their convolution's output, where that need not be symmetric: the output is then
rounded once, instead of twice, the first time over a range of which they cut off the most."""


def quantize(model: ir.Model, images: Iterable[np.ndarray], config: InputConfig, symmetric: bool = False) -> ir.Model:
    """The dense network with 8-bit convolutions: weights int8 per channel, activations uint8 per tensor.

    Args:
        model: float32, of `export_dense`.
        images: uint8[H, W, 3] RGB each, on which the range of each activation is measured.
        config: of the network's input.
        symmetric: activations int8 around zero and biases in float, as TensorRT wants them.

    Raises:
        ValueError: no image.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.count = 0
            self._images: Iterator[np.ndarray] = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self._images, None)
            if image is None:
                return None
            self.count += 1
            return {DENSE_INPUT: prepare(image, config).images}

    proto = ir.to_proto(model)
    reader = Reader()
    with tempfile.TemporaryDirectory() as folder, quiet():
        target = Path(folder) / "int8.onnx"
        try:
            quantize_static(
                proto,
                target,
                reader,
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                op_types_to_quantize=["Conv"] if symmetric else ["Conv", *_CLIPPED_BY_RANGE],
                nodes_to_exclude=_float_nodes(proto),
                extra_options={"ActivationSymmetric": symmetric, "QuantizeBias": not symmetric},
            )
        except ValueError:
            if reader.count == 0:
                raise ValueError("calibration: expected images, got none") from None
            raise
        return ir.from_proto(onnx.load(target))


def _float_nodes(proto: onnx.ModelProto) -> list[str]:
    return [
        node.name
        for node in proto.graph.node
        if node.op_type == "Conv" and any(layer in name for name in node.input for layer in _FLOAT_LAYERS)
    ]
