"""UPSNet's panoptic head (Xiong et al., CVPR 2019): a volume of logits over stuff, instances and the unknown class."""

import torch
from torch import Tensor

from lpsnet.baselines.masks import PastedMasks

_CHUNK = 8
"""Thing classes that are upsampled at a time. Their volume at full size never exists."""


def panoptic_logits(
    logits: Tensor, things: list[int], masks: PastedMasks, scale: tuple[float, float], output_size: tuple[int, int]
) -> Tensor:
    """The volume Z, float32[S + K + 1, H, W]: S stuff classes, K instances, the unknown class.

    * Stuff: the semantic logits.
    * Instance i: the semantic logit of its class plus its mask logit, inside its box; 0 outside.
    * Unknown: the largest semantic logit of the thing classes minus the largest, over the instances, of the semantic
      logit inside the box (0 outside): high where a thing is seen that no instance explains. The largest of no
      instances is 0.

    Semantic logits are upsampled bilinearly. The volume is allocated once and every part is written in its place.

    Args:
        logits: float32[C, h, w], semantic logits.
        things: indices of the thing classes.
        masks: of the instances.
        scale: (y, x), logit pixels per output pixel.
        output_size: (height, width).
    """
    logits = logits.contiguous()
    stuff = [i for i in range(len(logits)) if i not in set(things)]
    num_stuff = len(stuff)
    volume = logits.new_zeros(num_stuff + len(masks.labels) + 1, *output_size)
    _upsample(logits[stuff], scale, volume[:num_stuff])
    unknown = volume[-1].fill_(-torch.inf)  # the largest logit of the thing classes so far
    explained = torch.full_like(unknown, -torch.inf)
    covering = torch.zeros(output_size, dtype=torch.int32, device=logits.device)
    planes = logits.new_empty(min(_CHUNK, len(things)), *output_size)
    for first in range(0, len(things), _CHUNK):
        chunk = things[first : first + _CHUNK]
        part = planes[: len(chunk)]
        _upsample(logits[chunk], scale, part)
        for plane in part:
            torch.maximum(unknown, plane, out=unknown)
        for i, label in enumerate(masks.labels):
            if not first <= label < first + len(chunk):
                continue
            y1, y2, x1, x2 = masks.regions[i]
            semantic = part[label - first, y1:y2, x1:x2]
            torch.add(semantic, masks.logits[i], out=volume[num_stuff + i, y1:y2, x1:x2])
            best = explained[y1:y2, x1:x2]
            torch.maximum(best, semantic, out=best)
            covering[y1:y2, x1:x2] += 1
    # A pixel outside the box of at least one instance has that instance's 0 among its logits.
    outside = covering < len(masks.labels) if masks.labels else torch.ones_like(covering, dtype=torch.bool)
    unknown -= torch.where(outside, explained.clamp(min=0), explained)
    return volume


def _upsample(logits: Tensor, scale: tuple[float, float], out: Tensor) -> None:
    """Bilinear, with the scale as it is instead of the ratio of the sizes: the logits may cover padding too."""
    if len(logits):
        torch.ops.aten.upsample_bilinear2d.out(
            logits[None], list(out.shape[1:]), False, 1 / scale[0], 1 / scale[1], out=out[None]
        )
