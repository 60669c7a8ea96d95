"""RoIAlign over numpy arrays."""

import ctypes
from collections.abc import Sequence

import numpy as np

from lpsnet.native.arrays import expect
from lpsnet.native.library import Levels, call, pointer_array


class RoiAlignParams(ctypes.Structure):
    _fields_ = [
        ("num_boxes", ctypes.c_int32),
        ("channels", ctypes.c_int32),
        ("levels", Levels),
        ("out_height", ctypes.c_int32),
        ("out_width", ctypes.c_int32),
        ("sampling_ratio", ctypes.c_int32),
        ("canonical_level", ctypes.c_int32),
        ("canonical_size", ctypes.c_float),
    ]

    @classmethod
    def of(
        cls,
        num_boxes: int,
        features: Sequence[Sequence[int]],
        strides: Sequence[int],
        output_size: Sequence[int],
        sampling_ratio: int,
        canonical_level: int,
        canonical_size: float,
    ) -> "RoiAlignParams":
        """From the shapes (C, h, w) of the features. Raises ValueError where they do not fit each other."""
        channels = features[0][0] if features else 0
        if any(shape[0] != channels for shape in features):
            raise ValueError(f"features: expected as many channels in each, got {[shape[0] for shape in features]}")
        if len(output_size) != 2:
            raise ValueError(f"output_size: expected (height, width), got {tuple(output_size)}")
        levels = Levels.of([(shape[1], shape[2]) for shape in features], strides)
        return cls(num_boxes, channels, levels, *output_size, sampling_ratio, canonical_level, canonical_size)


def roi_align(
    features: Sequence[np.ndarray],
    boxes: np.ndarray,
    strides: Sequence[int],
    output_size: tuple[int, int],
    sampling_ratio: int,
    canonical_level: int,
    canonical_size: float,
    box_levels: np.ndarray | None = None,
) -> np.ndarray:
    """The features in boxes, sampled to one size (RoIAlign, He et al., ICCV 2017), as `lpsnet.ops.roi_align` says it.

    Args:
        features: per level float32[C, h, w].
        boxes: float32[N, 4], xyxy in input pixels.
        strides: of each level, in input pixels.
        output_size: (height, width), bins per box.
        sampling_ratio: samples per axis of a bin; 0: as many as a bin is long.
        canonical_level: index of the level of a box whose sides are `canonical_size` pixels.
        canonical_size: in input pixels.
        box_levels: int32[N], index of the level that a box reads; None finds it by the size of the box.

    Returns:
        float32[N, C, height, width], channels last in memory.

    Raises:
        ValueError: a bad argument, named in the message.
    """
    features = [expect(f"features[{i}]", f, np.float32, ("C", "h", "w")) for i, f in enumerate(features)]
    boxes = expect("boxes", boxes, np.float32, ("N", 4))
    if box_levels is not None:
        box_levels = expect("box_levels", box_levels, np.int32, boxes.shape[:1])
    shapes = [f.shape for f in features]
    params = RoiAlignParams.of(
        len(boxes), shapes, strides, output_size, sampling_ratio, canonical_level, canonical_size
    )
    maps = [np.ascontiguousarray(f.transpose(1, 2, 0)) for f in features]
    out = np.empty((len(boxes), *(max(n, 0) for n in output_size), params.channels), np.float32)
    level_pointer = None if box_levels is None else box_levels.ctypes.data
    pointers = pointer_array([m.ctypes.data for m in maps])
    call("roi_align", params, pointers, boxes.ctypes.data, level_pointer, None, out.ctypes.data)
    return out.transpose(0, 3, 1, 2)
