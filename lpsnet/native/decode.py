"""Boxes from the dense outputs over numpy arrays."""

import ctypes
from collections.abc import Sequence

import numpy as np

from lpsnet.config import SEMANTIC_STRIDE
from lpsnet.native.arrays import expect_logits
from lpsnet.native.library import FLOAT32, Levels, call, pointer_array, workspace_size

SCORE_FUSIONS = {"product": 0, "sqrt": 1}


class DecodeParams(ctypes.Structure):
    _fields_ = [
        ("num_classes", ctypes.c_int32),
        ("logits_height", ctypes.c_int32),
        ("logits_width", ctypes.c_int32),
        ("logits_stride", ctypes.c_int32),
        ("levels", Levels),
        ("image_height", ctypes.c_int32),
        ("image_width", ctypes.c_int32),
        ("score_threshold", ctypes.c_float),
        ("topk", ctypes.c_int32),
        ("score_fusion", ctypes.c_int32),
        ("logits_dtype", ctypes.c_int32),
        ("logits_channels_last", ctypes.c_int32),
    ]

    @classmethod
    def of(
        cls,
        logits_shape: Sequence[int],
        logits_stride: int,
        level_sizes: Sequence[tuple[int, int]],
        strides: Sequence[int],
        image_size: Sequence[int],
        score_threshold: float,
        topk: int,
        score_fusion: str,
        logits_dtype: int = FLOAT32,
        channels_last: bool = False,
    ) -> "DecodeParams":
        """From shapes; see `decode`. Raises ValueError where a number or a name does not fit."""
        if score_fusion not in SCORE_FUSIONS:
            raise ValueError(f"score_fusion: expected one of {sorted(SCORE_FUSIONS)}, got {score_fusion!r}")
        if len(image_size) != 2:
            raise ValueError(f"image_size: expected (height, width), got {tuple(image_size)}")
        levels = Levels.of(level_sizes, strides)
        fusion = SCORE_FUSIONS[score_fusion]
        thresholds = (score_threshold, topk, fusion)
        return cls(*logits_shape, logits_stride, levels, *image_size, *thresholds, logits_dtype, channels_last)


def decode(
    logits: np.ndarray,
    is_thing: np.ndarray,
    ltrb: Sequence[np.ndarray],
    borderness: Sequence[np.ndarray],
    strides: Sequence[int],
    image_size: Sequence[int],
    score_threshold: float,
    topk: int,
    score_fusion: str,
    logits_stride: int = SEMANTIC_STRIDE,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Boxes of the thing classes that the semantic head sees at the locations of the box head (paper, section 3.3).

    Location (i, j) of a level of stride s lies at the input's ((j + 0.5) * s, (i + 0.5) * s). There the logits are
    read bilinearly; each thing class whose softmax probability p is above the threshold gives a candidate, scored by
    p and border-ness b. The best `topk` of each level remain, equal scores in the order of location, then class.
    A location in the padding gives nothing, nor one where a probability, the border-ness or an ltrb is NaN or
    infinite. Probabilities are computed in float32: they differ from exact ones by less than 1e-6 of themselves for
    logits of ordinary size (up to about 30).

    Args:
        logits: float32 or float16 [C, h, w], of the semantic head; other numbers are converted to float32. One whose
            channels are last in memory, such as ``a.transpose(2, 0, 1)``, is read as it is.
        is_thing: uint8 or bool [C].
        ltrb: per level float32[4, height, width], distances to the sides of the box in input pixels.
        borderness: per level float32[height, width], probabilities.
        strides: of each level, in input pixels.
        image_size: (height, width) of the part of the network's input that is image.
        score_threshold: in [0, 1], of the class probability before the fusion.
        topk: at most so many boxes come from each level.
        score_fusion: "product" (p * b) or "sqrt" (its square root).
        logits_stride: input pixels per pixel of the logits.

    Returns:
        boxes, float32[N, 4], xyxy in input pixels clipped to the image; scores, float32[N], level after level, within
        it descending; labels, int32[N]; levels, int32[N], indices into `strides`.

    Raises:
        ValueError: an array of another shape, a threshold outside [0, 1], an unknown fusion.
    """
    if logits.dtype != np.float16:
        logits = logits.astype(np.float32, copy=False)
    is_thing = np.ascontiguousarray(is_thing, np.uint8)
    ltrb = [np.ascontiguousarray(a, np.float32) for a in ltrb]
    borderness = [np.ascontiguousarray(a, np.float32) for a in borderness]
    if logits.ndim != 3 or is_thing.shape != logits.shape[:1]:
        raise ValueError(f"logits, is_thing: expected [C, h, w], [C], got {logits.shape}, {is_thing.shape}")
    if len(ltrb) != len(borderness) or any(a.shape != (4, *b.shape) for a, b in zip(ltrb, borderness, strict=True)):
        shapes = [a.shape for a in ltrb], [a.shape for a in borderness]
        raise ValueError("ltrb, borderness: expected [4, height, width], [height, width], got {}, {}".format(*shapes))
    sizes = [b.shape for b in borderness]
    memory, dtype, channels_last = expect_logits(logits)
    options = (score_threshold, topk, score_fusion, dtype, channels_last)
    params = DecodeParams.of(logits.shape, logits_stride, sizes, strides, image_size, *options)
    size = len(strides) * max(topk, 0)
    boxes, scores = np.empty((size, 4), np.float32), np.empty(size, np.float32)
    labels, levels, count = np.empty(size, np.int32), np.empty(size, np.int32), np.empty(1, np.int32)
    workspace = np.empty(workspace_size("decode", params), np.uint8)
    call(
        "decode",
        params,
        memory.ctypes.data,
        is_thing.ctypes.data,
        pointer_array([a.ctypes.data for a in ltrb]),
        pointer_array([a.ctypes.data for a in borderness]),
        *(a.ctypes.data for a in (boxes, scores, labels, levels, count)),
        workspace=workspace.ctypes.data,
        workspace_size=workspace.nbytes,
    )
    n = count[0]
    return boxes[:n], scores[:n], labels[:n], levels[:n]
