"""The best class of every output pixel as a torch operator."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lpsnet.native.upsample_argmax import UpsampleArgmaxParams
from lpsnet.ops.device import call, expect, expect_logits, logits_memory


@torch.library.custom_op("lpsnet::upsample_argmax", mutates_args=())
def upsample_argmax(logits: Tensor, size: Sequence[int], scale: Sequence[float], allowed: Tensor | None) -> Tensor:
    """The class with the largest bilinearly upsampled logit, without the upsampled volume.

    Output pixel ``(i, j)`` reads the logits at ``((i + 0.5) * scale_y, (j + 0.5) * scale_x)``, where the centre of the
    first logit is ``(0.5, 0.5)``, clamped to the map. With ``scale = in_size / out_size`` that is torch's
    ``interpolate(mode="bilinear", align_corners=False)``. All arithmetic is in float32.

    Args:
        logits: float32, float16 or bfloat16 [C, h, w], 1 to 255 classes; channels_last is read without a copy.
            A value that comes out as NaN or -infinity never wins.
        size: (height, width) of the output.
        scale: (y, x), logit pixels per output pixel.
        allowed: uint8 or bool [C], or None: the classes that may win.

    Returns:
        uint8[height, width], the winning class, the lowest of equals; 255 (void) where no class wins.

    Raises:
        ValueError: a bad argument, named in the message.
    """
    labels = _output(logits, size, allowed)
    memory, dtype, channels_last = logits_memory(logits)
    params = UpsampleArgmaxParams(*logits.shape, *size, *scale, dtype, channels_last)
    call("upsample_argmax", params, memory, allowed, labels)
    return labels


@upsample_argmax.register_fake
def _(logits: Tensor, size: Sequence[int], scale: Sequence[float], allowed: Tensor | None) -> Tensor:
    return _output(logits, size, allowed)


def _output(logits: Tensor, size: Sequence[int], allowed: Tensor | None) -> Tensor:
    expect_logits(logits)
    if allowed is not None:
        expect("allowed", allowed, torch.bool if allowed.dtype == torch.bool else torch.uint8, [len(logits)])
    if len(size) != 2 or min(size) < 0:
        raise ValueError(f"size: expected (height, width), each at least 0, got {tuple(size)}")
    return logits.new_empty(size, dtype=torch.uint8)
