"""The COCO panoptic format: a PNG whose colours are segment ids, and a JSON of segments."""

import numpy as np


def rgb_to_id(rgb: np.ndarray) -> np.ndarray:
    """int32[H, W] ids from uint8[H, W, 3] colours: id = R + 256 G + 65536 B."""
    channels = rgb.astype(np.int32)
    return channels[..., 0] + 256 * channels[..., 1] + 65536 * channels[..., 2]


def id_to_rgb(ids: np.ndarray) -> np.ndarray:
    """uint8[H, W, 3] colours from int32[H, W] ids below 2**24: the inverse of `rgb_to_id`."""
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], -1).astype(np.uint8)
