"""The whole post-processing in one call, over numpy arrays."""

import ctypes
from collections.abc import Sequence

import numpy as np

from lpsnet.config import BOX_STRIDES, SEMANTIC_STRIDE, PostprocessConfig
from lpsnet.native.arrays import expect, expect_logits
from lpsnet.native.decode import SCORE_FUSIONS
from lpsnet.native.library import FLOAT32, Levels, call, pointer_array, workspace_size
from lpsnet.native.paste_boxes import SegmentTable, assignment_number


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
        ("logits_dtype", ctypes.c_int32),
        ("logits_channels_last", ctypes.c_int32),
    ]

    @classmethod
    def of(
        cls,
        logits_shape: Sequence[int],
        level_sizes: Sequence[tuple[int, int]],
        image_size: Sequence[int],
        output_size: Sequence[int],
        config: PostprocessConfig,
        strides: Sequence[int] = BOX_STRIDES,
        logits_dtype: int = FLOAT32,
        channels_last: bool = False,
    ) -> "PostprocessParams":
        """From shapes; see `postprocess`. Raises ValueError where a number or a name does not fit."""
        for name, size in (("image_size", image_size), ("output_size", output_size)):
            if len(size) != 2:
                raise ValueError(f"{name}: expected (height, width), got {tuple(size)}")
        if config.score_fusion not in SCORE_FUSIONS:
            raise ValueError(f"score_fusion: expected one of {sorted(SCORE_FUSIONS)}, got {config.score_fusion!r}")
        return cls(
            *logits_shape,
            SEMANTIC_STRIDE,
            Levels.of(level_sizes, strides),
            *image_size,
            *output_size,
            config.score_threshold,
            config.topk,
            SCORE_FUSIONS[config.score_fusion],
            config.iou_threshold,
            config.max_detections,
            config.paste_score,
            config.overlap_threshold,
            assignment_number(config.assignment),
            output_area_limit(config.stuff_area_limit, image_size, output_size),
            config.fill_stuff,
            logits_dtype,
            channels_last,
        )


def output_area_limit(limit: int, image_size: Sequence[int], output_size: Sequence[int]) -> int:
    """`PostprocessConfig.stuff_area_limit`, which counts pixels of the resized image, in pixels of the output."""
    ratio = (output_size[0] * output_size[1]) / max(1, image_size[0] * image_size[1])
    return min(round(limit * ratio), np.iinfo(np.int32).max)


def postprocess(
    logits: np.ndarray,
    is_thing: np.ndarray,
    ltrb: Sequence[np.ndarray],
    borderness: Sequence[np.ndarray],
    image_size: Sequence[int],
    output_size: Sequence[int],
    config: PostprocessConfig,
    strides: Sequence[int] = BOX_STRIDES,
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray, SegmentTable]:
    """`decode`, `nms`, `upsample_argmax` and `paste_boxes` in one call, without an array between them.

    Args:
        logits: float32 or float16 [C, h, w], of the semantic head, at 1/4 of the network's input; channels may be
            last in memory.
        is_thing: uint8 or bool [C].
        ltrb: per level float32[4, h, w], distances to the sides of the box in input pixels.
        borderness: per level float32[h, w], probabilities.
        image_size: (height, width) of the part of the network's input that is image.
        output_size: (height, width) of the panoptic map, to which that part is stretched.
        config: thresholds and choices.
        strides: of each level, in input pixels.

    Returns:
        boxes, float32[K, 4], xyxy in input pixels, scores, float32[K], and labels, int32[K], by descending score;
        ids, int32[H, W], 0 for void; the table of the segments.

    Raises:
        ValueError: a bad argument, named in the message.
    """
    memory, dtype, channels_last = expect_logits(logits)
    is_thing = expect("is_thing", is_thing, np.uint8, logits.shape[:1])
    borderness = [expect(f"borderness[{i}]", b, np.float32, ("h", "w")) for i, b in enumerate(borderness)]
    if len(ltrb) != len(borderness):
        raise ValueError(f"ltrb: expected {len(borderness)} levels like borderness, got {len(ltrb)}")
    ltrb = [
        expect(f"ltrb[{i}]", t, np.float32, (4, *b.shape))
        for i, (t, b) in enumerate(zip(ltrb, borderness, strict=True))
    ]
    sizes = [(b.shape[0], b.shape[1]) for b in borderness]
    params = PostprocessParams.of(logits.shape, sizes, image_size, output_size, config, strides, dtype, channels_last)
    most = max(0, config.max_detections)
    boxes, scores, labels = np.empty((most, 4), np.float32), np.empty(most, np.float32), np.empty(most, np.int32)
    ids = np.empty([max(0, side) for side in output_size], np.int32)
    table = SegmentTable.empty(most + len(is_thing))
    num_detections, num_segments = np.empty(1, np.int32), np.empty(1, np.int32)
    workspace = np.empty(workspace_size("postprocess", params), np.uint8)
    call(
        "postprocess",
        params,
        memory.ctypes.data,
        is_thing.ctypes.data,
        pointer_array([t.ctypes.data for t in ltrb]),
        pointer_array([b.ctypes.data for b in borderness]),
        *(a.ctypes.data for a in (boxes, scores, labels, num_detections, ids, *table, num_segments)),
        workspace=workspace.ctypes.data,
        workspace_size=workspace.nbytes,
    )
    kept = int(num_detections[0])
    return (boxes[:kept], scores[:kept], labels[:kept]), ids, table.first(int(num_segments[0]))
