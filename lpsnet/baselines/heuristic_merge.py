"""The heuristic merge of instances and stuff (Panoptic segmentation, Kirillov et al., CVPR 2019, appendix)."""

import torch
from torch import Tensor

from lpsnet.baselines.masks import PastedMasks, keep_visible


def merge(stuff: Tensor, num_stuff: int, masks: PastedMasks, overlap_threshold: float) -> tuple[Tensor, list[int]]:
    """Instances by descending score, each on the pixels that no better one has, then stuff on what is left.

    Args:
        stuff: uint8[H, W], index of the stuff class of each pixel; from num_stuff on it is none.
        num_stuff: number of stuff classes.
        masks: best first; a pixel belongs to a mask whose logit there is above 0.
        overlap_threshold: an instance is dropped when better ones have taken more than this share of it.

    Returns:
        int64[H, W]: first the stuff classes, then the kept instances, last void; and the kept instances.
    """
    size = stuff.shape[0], stuff.shape[1]
    kept = keep_visible(masks, size, overlap_threshold, per_class=False)
    void = num_stuff + len(kept)
    slots = torch.where(stuff < num_stuff, stuff.long(), void)
    for slot, i in reversed(list(enumerate(kept, num_stuff))):  # the best one last: it stays on top
        y1, y2, x1, x2 = masks.regions[i]
        slots[y1:y2, x1:x2].masked_fill_(masks.logits[i] > 0, slot)
    return slots, kept
