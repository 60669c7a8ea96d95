"""What an exported model says of itself, and under which names: shared by those who write and those who run it."""

import numpy as np

from lpsnet.config import BOX_STRIDES

SETTINGS: dict[str, type[np.generic]] = {
    "score_threshold": np.float32,
    "topk": np.int64,
    "iou_threshold": np.float32,
    "max_detections": np.int64,
    "paste_score": np.float32,
    "overlap_threshold": np.float32,
    "stuff_area_limit": np.int64,
}
"""The fields of `PostprocessConfig` that are inputs of a panoptic artifact, and their types; others are built in."""

DENSE_INPUT = "images"
"""Of a dense artifact: float32[N, 3, H, W], normalised, H and W multiples of 32."""


def dense_outputs() -> list[str]:
    """The outputs of a dense artifact, in their order: those of `lpsnet.models.lpsnet.FlatLPSNet`."""
    levels = [f"p{i + 3}" for i in range(len(BOX_STRIDES))]
    return ["logits", *(f"ltrb_{level}" for level in levels), *(f"borderness_{level}" for level in levels)]
