"""The best class of every output pixel, over numpy arrays."""

import ctypes

import numpy as np

from lpsnet.native.arrays import expect, expect_logits
from lpsnet.native.library import call, workspace_size


class UpsampleArgmaxParams(ctypes.Structure):
    _fields_ = [
        ("num_classes", ctypes.c_int32),
        ("in_height", ctypes.c_int32),
        ("in_width", ctypes.c_int32),
        ("out_height", ctypes.c_int32),
        ("out_width", ctypes.c_int32),
        ("scale_y", ctypes.c_float),
        ("scale_x", ctypes.c_float),
        ("logits_dtype", ctypes.c_int32),
        ("logits_channels_last", ctypes.c_int32),
    ]


def upsample_argmax(
    logits: np.ndarray, size: tuple[int, int], scale: tuple[float, float], allowed: np.ndarray | None = None
) -> np.ndarray:
    """The class with the largest bilinearly upsampled logit, without the upsampled volume.

    Output pixel ``(i, j)`` reads the logits at ``((i + 0.5) * scale_y, (j + 0.5) * scale_x)``, where the centre of the
    first logit is ``(0.5, 0.5)``, clamped to the map. With ``scale = in_size / out_size`` that is torch's
    ``interpolate(mode="bilinear", align_corners=False)``. All arithmetic is in float32.

    Args:
        logits: float32 or float16 [C, h, w], 1 to 255 classes; channels may be last in memory. A value
            that comes out as NaN or -infinity never wins.
        size: (height, width) of the output.
        scale: (y, x), logit pixels per output pixel.
        allowed: uint8 or bool [C], or None: the classes that may win.

    Returns:
        uint8[height, width], the winning class, the lowest of equals; 255 (void) where no class wins.

    Raises:
        ValueError: a bad argument, named in the message.
    """
    memory, dtype, channels_last = expect_logits(logits)
    if allowed is not None:
        allowed = expect("allowed", allowed, np.uint8, logits.shape[:1])
    labels = np.empty([max(n, 0) for n in size], np.uint8)
    allowed_pointer = None if allowed is None else allowed.ctypes.data
    params = UpsampleArgmaxParams(*logits.shape, *size, *scale, dtype, channels_last)
    workspace = np.empty(workspace_size("upsample_argmax", params), np.uint8)
    space = {"workspace": workspace.ctypes.data, "workspace_size": workspace.nbytes}
    call("upsample_argmax", params, memory.ctypes.data, allowed_pointer, labels.ctypes.data, **space)
    return labels
