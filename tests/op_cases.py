"""Calls of every operator in every dtype and layout that it takes, over odd sizes, and what their oracles say.

The same calls are made on the CPU (each operator's test file), by the CUDA code without a GPU (`make test-emulated`)
and on a GPU (tests/gpu).
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from box_cases import nms_cases, paste_boxes_cases
from deform_cases import fused_deform_conv2d_case
from logit_cases import LOGIT_SIZES, decode_case, postprocess_case, upsample_argmax_case
from map_cases import IMAGE_SIZES, deform_columns_case, resize_normalize_case, roi_align_case
from op_case import OpCase, formats


def op_cases(*names: str) -> list[Any]:
    """The cases of some operators, of all where none is named, as parameters of a test."""
    chosen = names or tuple(_CASES)
    return [pytest.param(case, id=case.name) for name in chosen for case in _CASES[name]()]


_CASES: dict[str, Callable[[], list[OpCase]]] = {
    "nms": nms_cases,
    "decode": lambda: formats("decode", LOGIT_SIZES, decode_case),
    "upsample_argmax": lambda: formats("upsample_argmax", LOGIT_SIZES, upsample_argmax_case),
    "paste_boxes": paste_boxes_cases,
    "postprocess": lambda: formats("postprocess", LOGIT_SIZES, postprocess_case),
    "resize_normalize": lambda: formats("resize_normalize", IMAGE_SIZES, resize_normalize_case),
    "roi_align": lambda: formats(
        "roi_align", [(3, 7, 2, 3, 2), (65, 5, 1, 1, 0), (32, 0, 2, 2, 1)], roi_align_case, [torch.float32]
    ),
    "fused_deform_conv2d": lambda: formats(
        "fused_deform_conv2d", [(40, 9, 18, 1, 10), (48, 5, 7, 2, 136), (5, 7, 9, 1, 3)], fused_deform_conv2d_case
    ),
    "deform_columns": lambda: formats("deform_columns", [(4, 7, 9, 2), (3, 1, 5, 1)], deform_columns_case),
}
