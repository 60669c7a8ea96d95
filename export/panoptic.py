"""The panoptic head in the graph: from the dense outputs to ids and segments, bit for bit as in liblpsnet."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnxscript import OpBuilder

from lpsnet.artifact import SETTINGS
from lpsnet.categories import Category
from lpsnet.config import SEMANTIC_STRIDE, PostprocessConfig

from .detect import Boxes, decode, suppress
from .graph import DOUBLE, FLOAT, INT32, INT64, Value, cast, linear_taps, pixel_centres, scope
from .labels import semantic_labels
from .paste import paste
from .preprocess import Sizes
from .segments import Segments, segments


@dataclass(frozen=True)
class DenseValues:
    """The dense outputs of one image: float32[1, C, h, w], per level float32[1, 4, h, w] and float32[1, h, w]."""

    logits: Value
    ltrb: Sequence[Value]
    borderness: Sequence[Value]


def setting_inputs(op: OpBuilder, config: PostprocessConfig) -> dict[str, Value]:
    """The settings of the post-processing that are inputs of the graph, scalars with `config`'s values as defaults."""
    values = {}
    for name, dtype in SETTINGS.items():
        default = ir.tensor(np.array(getattr(config, name), dtype), name=name)
        values[name] = op.builder.input(name, shape=[], dtype=default.dtype, const_value=default)
    return values


def panoptic_head(
    op: OpBuilder,
    dense: DenseValues,
    sizes: Sizes,
    categories: Sequence[Category],
    config: PostprocessConfig,
    settings: dict[str, Value],
) -> tuple[Segments, Boxes]:
    """Segments and, before they were pasted, the boxes in pixels of the output.

    Args:
        op: of the main graph.
        dense: of the network.
        sizes: of the image.
        categories: the classes, in the order of the logits.
        config: `score_fusion`, `assignment` and `fill_stuff` are taken from here; the rest are inputs.
        settings: what `setting_inputs` made.
    """
    is_thing = np.array([c.isthing for c in categories])
    with scope(op, "head"):
        logits = op.Transpose(op.Squeeze(dense.logits, [0]), perm=[1, 2, 0])
        candidates = decode(
            op,
            logits,
            dense.ltrb,
            dense.borderness,
            sizes,
            is_thing,
            config.score_fusion,
            settings["score_threshold"],
            settings["topk"],
        )
        boxes = suppress(op, candidates, is_thing, settings["iou_threshold"], settings["max_detections"])

        scale_y = _scale(op, sizes.image_height, sizes.output_height)
        scale_x = _scale(op, sizes.image_width, sizes.output_width)
        y = pixel_centres(op, sizes.output_height, cast(op, scale_y, FLOAT))
        x = pixel_centres(op, sizes.output_width, cast(op, scale_x, FLOAT))
        taps = []
        for axis, (side, scale) in enumerate(((sizes.output_height, scale_y), (sizes.output_width, scale_x))):
            centres = pixel_centres(op, side, cast(op, op.Div(scale, float(SEMANTIC_STRIDE)), FLOAT))
            taps.append(linear_taps(op, centres, op.Gather(op.Shape(logits), axis, axis=0)))
        labels = semantic_labels(op, "labels", logits, len(is_thing), taps[0], taps[1])
        stuff_labels = None
        if config.fill_stuff:
            stuff_labels = semantic_labels(op, "stuff_labels", logits, len(is_thing), taps[0], taps[1], ~is_thing)

        pasted = paste(
            op,
            labels,
            boxes,
            dense.borderness,
            y,
            x,
            config.assignment,
            settings["paste_score"],
            settings["overlap_threshold"],
        )
        table = segments(op, labels, pasted, is_thing, _area_limit(op, settings, sizes), stuff_labels)
        to_output = op.Concat(
            *(op.Reshape(cast(op, s, FLOAT), [1]) for s in (scale_x, scale_y, scale_x, scale_y)), axis=0
        )
        found = Boxes(op.Div(boxes.boxes, to_output), boxes.scores, cast(op, boxes.labels, INT32), boxes.levels)
    return table, found


def _scale(op: OpBuilder, image: Value, output: Value) -> Value:
    """double[]: input pixels per output pixel."""
    return op.Div(cast(op, image, DOUBLE), cast(op, output, DOUBLE))


def _area_limit(op: OpBuilder, settings: dict[str, Value], sizes: Sizes) -> Value:
    """`stuff_area_limit`, which counts pixels of the resized image, in pixels of the output."""
    output = cast(op, op.Mul(sizes.output_height, sizes.output_width), DOUBLE)
    image = cast(op, op.Mul(sizes.image_height, sizes.image_width), DOUBLE)
    limit = op.Round(op.Mul(cast(op, settings["stuff_area_limit"], DOUBLE), op.Div(output, image)))
    return cast(op, op.Min(limit, float(np.iinfo(np.int32).max)), INT64)
