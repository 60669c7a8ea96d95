"""From the dense outputs of the network to the panoptic map, over numpy arrays."""

import ctypes
from collections.abc import Sequence

import numpy as np

from lpsnet.config import SEMANTIC_STRIDE, PostprocessConfig
from lpsnet.native.arrays import expect
from lpsnet.native.decode import SCORE_FUSIONS
from lpsnet.native.library import Levels, call, pointer_array, workspace_size
from lpsnet.native.paste_boxes import SegmentTable, assignment_number
from lpsnet.structures import Detections


class PostprocessParams(ctypes.Structure):
    _fields_ = [
        ("num_classes", ctypes.c_int32),
        ("logits_height", ctypes.c_int32),
        ("logits_width", ctypes.c_int32),
        ("logits_stride", ctypes.c_int32),
        ("levels", Levels),
        ("image_height", ctypes.c_int32),
        ("image_width", ctypes.c_int32),
        ("out_height", ctypes.c_int32),
        ("out_width", ctypes.c_int32),
        ("score_threshold", ctypes.c_float),
        ("topk", ctypes.c_int32),
        ("score_fusion", ctypes.c_int32),
        ("iou_threshold", ctypes.c_float),
        ("max_detections", ctypes.c_int32),
        ("paste_score", ctypes.c_float),
        ("overlap_threshold", ctypes.c_float),
        ("assignment", ctypes.c_int32),
        ("stuff_area_limit", ctypes.c_int32),
        ("fill_stuff", ctypes.c_int32),
    ]

    @classmethod
    def of(
        cls,
        logits_shape: Sequence[int],
        logits_stride: int,
        level_sizes: Sequence[tuple[int, int]],
        strides: Sequence[int],
        image_size: Sequence[int],
        out_size: Sequence[int],
        config: PostprocessConfig,
    ) -> "PostprocessParams":
        """From shapes; see `postprocess`. Raises ValueError where a number or a name does not fit."""
        if config.score_fusion not in SCORE_FUSIONS:
            raise ValueError(f"score_fusion: expected one of {sorted(SCORE_FUSIONS)}, got {config.score_fusion!r}")
        for name, size in (("image_size", image_size), ("out_size", out_size)):
            if len(size) != 2 or min(size) < 1:
                raise ValueError(f"{name}: expected (height, width), each at least 1, got {tuple(size)}")
        return cls(
            *logits_shape,
            logits_stride,
            Levels.of(level_sizes, strides),
            *image_size,
            *out_size,
            config.score_threshold,
            config.topk,
            SCORE_FUSIONS[config.score_fusion],
            config.iou_threshold,
            config.max_detections,
            config.paste_score,
            config.overlap_threshold,
            assignment_number(config.assignment),
            output_area(config.stuff_area_limit, image_size, out_size),
            config.fill_stuff,
        )


def output_area(area: int, image_size: Sequence[int], out_size: Sequence[int]) -> int:
    """An area in pixels of the network's input, in pixels of the output, rounded.

    `PostprocessConfig.stuff_area_limit` is meant for the size at which the network sees the image; the panoptic map
    may have another.

    Args:
        area: in pixels of the network's input.
        image_size: (height, width) of the part of the network's input that is image.
        out_size: (height, width) of the panoptic map, which shows the same.
    """
    return round(area * (out_size[0] * out_size[1]) / (image_size[0] * image_size[1]))


def postprocess(
    logits: np.ndarray,
    is_thing: np.ndarray,
    ltrb: Sequence[np.ndarray],
    borderness: Sequence[np.ndarray],
    strides: Sequence[int],
    image_size: Sequence[int],
    out_size: Sequence[int],
    config: PostprocessConfig,
    logits_stride: int = SEMANTIC_STRIDE,
) -> tuple[np.ndarray, SegmentTable, Detections]:
    """The whole post-processing of one image: `decode`, `nms`, `upsample_argmax` and `paste_boxes` in one call.

    Args:
        logits: float32[C, h, w], of the semantic head; up to 255 classes.
        is_thing: uint8 or bool [C].
        ltrb: per level float32[4, height, width], distances to the sides of the box in input pixels.
        borderness: per level float32[height, width], probabilities.
        strides: of each level, in input pixels.
        image_size: (height, width) of the part of the network's input that is image; the rest is padding.
        out_size: (height, width) of the panoptic map; the image is stretched to it.
        config: thresholds and choices. `stuff_area_limit` is scaled by `output_area`.
        logits_stride: input pixels per pixel of the logits.

    Returns:
        ids, int32[*out_size], 0 for void; the table of the segments, in output pixels; the detections before they were
        pasted, in pixels of the network's input.

    Raises:
        ValueError: a bad argument, named in the message.
    """
    logits = expect("logits", logits, np.float32, ("C", "h", "w"))
    is_thing = expect("is_thing", is_thing, np.uint8, logits.shape[:1])
    if len(ltrb) != len(borderness):
        raise ValueError(f"ltrb, borderness: expected as many levels, got {len(ltrb)} and {len(borderness)}")
    borderness = [expect(f"borderness[{i}]", b, np.float32, ("height", "width")) for i, b in enumerate(borderness)]
    ltrb = [
        expect(f"ltrb[{i}]", sides, np.float32, (4, *b.shape))
        for i, (sides, b) in enumerate(zip(ltrb, borderness, strict=True))
    ]
    sizes = [(b.shape[0], b.shape[1]) for b in borderness]
    params = PostprocessParams.of(logits.shape, logits_stride, sizes, strides, image_size, out_size, config)
    rows = max(config.max_detections, 0)
    boxes, scores, labels = np.empty((rows, 4), np.float32), np.empty(rows, np.float32), np.empty(rows, np.int32)
    num_detections, num_segments = np.empty(1, np.int32), np.empty(1, np.int32)
    ids, table = np.empty(tuple(out_size), np.int32), SegmentTable.empty(rows + len(logits))
    workspace = np.empty(workspace_size("postprocess", params), np.uint8)
    call(
        "postprocess",
        params,
        logits.ctypes.data,
        is_thing.ctypes.data,
        pointer_array([a.ctypes.data for a in ltrb]),
        pointer_array([a.ctypes.data for a in borderness]),
        *(a.ctypes.data for a in (boxes, scores, labels, num_detections, ids, *table, num_segments)),
        workspace=workspace.ctypes.data,
        workspace_size=workspace.size,
    )
    n = num_detections[0]
    return ids, table.first(num_segments[0]), Detections(boxes[:n], scores[:n], labels[:n])
