"""From an image to the network's input over numpy arrays."""

import ctypes
from collections.abc import Sequence

import numpy as np

from lpsnet.native.library import FLOAT16, FLOAT32, call


class ResizeNormalizeParams(ctypes.Structure):
    _fields_ = [
        ("in_height", ctypes.c_int32),
        ("in_width", ctypes.c_int32),
        ("in_row_stride", ctypes.c_int64),
        ("resized_height", ctypes.c_int32),
        ("resized_width", ctypes.c_int32),
        ("out_height", ctypes.c_int32),
        ("out_width", ctypes.c_int32),
        ("mean", ctypes.c_float * 3),
        ("std", ctypes.c_float * 3),
        ("reverse_channels", ctypes.c_int32),
        ("channels_last", ctypes.c_int32),
        ("out_dtype", ctypes.c_int32),
    ]

    @classmethod
    def of(
        cls,
        in_size: Sequence[int],
        in_row_stride: int,
        resized: Sequence[int],
        padded: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        reverse_channels: bool,
        channels_last: bool,
        out_dtype: int = FLOAT32,
    ) -> "ResizeNormalizeParams":
        """See `resize_normalize`. Raises ValueError where a sequence has another length."""
        for name, values, expected in (
            ("resized", resized, "(height, width)"),
            ("padded", padded, "(height, width)"),
            ("mean", mean, "three numbers"),
            ("std", std, "three numbers"),
        ):
            if len(values) != (3 if expected == "three numbers" else 2):
                raise ValueError(f"{name}: expected {expected}, got {tuple(values)}")
        vectors = (ctypes.c_float * 3)(*mean), (ctypes.c_float * 3)(*std)
        layout = reverse_channels, channels_last, out_dtype
        return cls(*in_size, in_row_stride, *resized, *padded, *vectors, *layout)


def resize_normalize(
    image: np.ndarray,
    resized: Sequence[int],
    padded: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    reverse_channels: bool = False,
    channels_last: bool = False,
    dtype: type = np.float32,
) -> np.ndarray:
    """Resizes an image, normalises it and pads it with zeros at the bottom and at the right.

    The filter is bilinear, with antialiasing where the image shrinks: that of
    ``torch.nn.functional.interpolate(mode="bilinear", antialias=True)``. An image that keeps its size keeps its values.

    Args:
        image: uint8[H, W, 3]. A crop of a larger image is read where it lies.
        resized: (height, width) that the image gets.
        padded: (height, width) of the result, at least `resized`.
        mean, std: of the channels of the result, in units of 0..255; the result is (value - mean) / std.
        reverse_channels: from BGR to RGB, or the other way round.
        channels_last: the layout of the result.
        dtype: of the result, np.float32 or np.float16, which is rounded to from float32.

    Returns:
        dtype [3, h, w] with (h, w) = `padded`, or dtype [h, w, 3] with `channels_last`.

    Raises:
        ValueError: an image of another dtype or shape, an empty size, a `padded` below `resized`, a std of 0 or less.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image: expected uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
    if image.strides[1:] != (3, 1) or image.strides[0] < 3 * image.shape[1]:
        image = np.ascontiguousarray(image)
    numbers = {np.float32: FLOAT32, np.float16: FLOAT16}
    if dtype not in numbers:
        raise ValueError(f"dtype: expected np.float32 or np.float16, got {dtype}")
    layout = (reverse_channels, channels_last, numbers[dtype])
    params = ResizeNormalizeParams.of(image.shape[:2], image.strides[0], resized, padded, mean, std, *layout)
    height, width = (max(size, 0) for size in padded)
    out = np.empty((height, width, 3) if channels_last else (3, height, width), dtype)
    call("resize_normalize", params, image.ctypes.data, out.ctypes.data)
    return out
