"""From an image to the network's input as a torch operator."""

import torch
from torch import Tensor

from lpsnet.native.resize_normalize import ResizeNormalizeParams
from lpsnet.ops.device import DTYPES, call, expect


@torch.library.custom_op("lpsnet::resize_normalize", mutates_args=())
def resize_normalize(
    image: Tensor,
    resized: list[int],
    padded: list[int],
    mean: list[float],
    std: list[float],
    reverse_channels: bool = False,
    channels_last: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Resizes an image, normalises it and pads it with zeros; `lpsnet.native.resize_normalize` says how.

    Args:
        image: uint8[H, W, 3].
        resized: (height, width) that the image gets.
        padded: (height, width) of the result, at least `resized`.
        mean, std: of the channels of the result, in units of 0..255; the result is (value - mean) / std.
        reverse_channels: from BGR to RGB, or the other way round.
        channels_last: the result lies in memory as [h, w, 3].
        dtype: of the result, float32, float16 or bfloat16, which is rounded to from float32.

    Returns:
        dtype [3, h, w] with (h, w) = `padded`.

    Raises:
        ValueError: an image of another dtype or shape, an empty size, a `padded` below `resized`, a std of 0 or less.
    """
    expect("image", image, torch.uint8, ["H", "W", 3])
    out = _memory(image, padded, channels_last, dtype)
    _call(out, image, resized, padded, mean, std, reverse_channels, channels_last)
    return out.permute(2, 0, 1) if channels_last else out


def resize_normalize_into(
    out: Tensor,
    image: Tensor,
    resized: list[int],
    mean: list[float],
    std: list[float],
    reverse_channels: bool = False,
) -> None:
    """`resize_normalize` into a tensor that the caller has: no operator of torch, so torch.compile does not see it.

    Args:
        out: float32, float16 or bfloat16 [3, h, w], padded to this size; its memory is [3, h, w] or [h, w, 3].

    Raises:
        ValueError: a bad argument, named in the message.
    """
    expect("image", image, torch.uint8, ["H", "W", 3])
    expect("out", out, out.dtype if out.dtype in DTYPES else torch.float32, [3, "h", "w"])
    channels_last = not out.is_contiguous()
    memory = out.permute(1, 2, 0) if channels_last else out
    if not memory.is_contiguous():
        raise ValueError(f"out: expected memory of [3, h, w] or [h, w, 3], got strides {out.stride()}")
    _call(memory, image, resized, list(out.shape[1:]), mean, std, reverse_channels, channels_last)


@resize_normalize.register_fake
def _(
    image: Tensor,
    resized: list[int],
    padded: list[int],
    mean: list[float],
    std: list[float],
    reverse_channels: bool = False,
    channels_last: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    expect("image", image, torch.uint8, ["H", "W", 3])
    out = _memory(image, padded, channels_last, dtype)
    return out.permute(2, 0, 1) if channels_last else out


def _memory(like: Tensor, padded: list[int], channels_last: bool, dtype: torch.dtype) -> Tensor:
    if dtype not in DTYPES:
        raise ValueError(f"dtype: expected float32, float16 or bfloat16, got {dtype}")
    height, width = (max(size, 0) for size in padded)
    return like.new_empty((height, width, 3) if channels_last else (3, height, width), dtype=dtype)


def _call(
    memory: Tensor,
    image: Tensor,
    resized: list[int],
    padded: list[int],
    mean: list[float],
    std: list[float],
    reverse_channels: bool,
    channels_last: bool,
) -> None:
    layout = (reverse_channels, channels_last, DTYPES[memory.dtype])
    params = ResizeNormalizeParams.of(image.shape[:2], 3 * image.shape[1], resized, padded, mean, std, *layout)
    call("resize_normalize", params, image, memory)
