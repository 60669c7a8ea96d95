"""From a uint8 image of any size to the input of the dense network, in the graph."""

from typing import NamedTuple

import numpy as np
from onnxscript import OpBuilder

from lpsnet.config import InputConfig

from .graph import DOUBLE, FLOAT, INT64, Value, cast, constant, element, vector


class Sizes(NamedTuple):
    """int64[] each: of the image as it came, and of it in the network's input."""

    output_height: Value
    output_width: Value
    image_height: Value
    image_width: Value


def sizes_of(op: OpBuilder, image: Value, config: InputConfig) -> Sizes:
    """`InputConfig.resized`, in double precision as there."""
    shape = op.Shape(image)
    height, width = element(op, shape, 0), element(op, shape, 1)
    sides = cast(op, op.Slice(shape, [0], [2]), DOUBLE)
    short, long = op.ReduceMin(sides, keepdims=0), op.ReduceMax(sides, keepdims=0)
    scale = op.Min(op.Div(float(config.short_side), short), op.Div(float(config.max_side), long))
    resized = op.Max(cast(op, op.Round(op.Mul(sides, scale)), INT64), 1)
    return Sizes(height, width, element(op, resized, 0), element(op, resized, 1))


def network_input(op: OpBuilder, image: Value, sizes: Sizes, config: InputConfig) -> Value:
    """Resizes (bilinear, antialiased), normalises and pads uint8[H, W, 3] to float32[1, 3, H', W']."""
    planes = op.Unsqueeze(op.Transpose(cast(op, image, FLOAT), perm=[2, 0, 1]), [0])
    resized = op.Resize(
        planes,
        None,
        None,
        vector(op, 1, 3, sizes.image_height, sizes.image_width),
        mode="linear",
        antialias=1,
        exclude_outside=1,
        coordinate_transformation_mode="half_pixel",
    )
    mean = constant(op, "mean", np.array(config.mean, np.float32)[:, None, None])
    std = constant(op, "std", np.array(config.std, np.float32)[:, None, None])
    normalised = op.Div(op.Sub(resized, mean), std)
    pads = [
        op.Sub(op.Mul(op.Div(op.Add(side, config.size_divisor - 1), config.size_divisor), config.size_divisor), side)
        for side in (sizes.image_height, sizes.image_width)
    ]
    return op.Pad(normalised, vector(op, 0, 0, 0, 0, 0, 0, *pads))
