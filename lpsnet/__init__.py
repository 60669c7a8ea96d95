"""LPSNet: one-stage panoptic segmentation, from an image to panoptic ids.

>>> import lpsnet.engine
>>> engine = lpsnet.engine.load("lpsnet_lite0_camvid")
>>> engine.predict("street.jpg").segments_info
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lpsnet.models.lpsnet import LPSNet
    from lpsnet.structures import PanopticResult

__version__ = "0.1.0"
__all__ = ["LPSNet", "PanopticResult"]


def __getattr__(name: str) -> Any:
    # Torch is imported when the network is asked for, not before: what runs artifacts works without it.
    if name == "LPSNet":
        from lpsnet.models.lpsnet import LPSNet

        return LPSNet
    if name == "PanopticResult":
        from lpsnet.structures import PanopticResult

        return PanopticResult
    raise AttributeError(f"module 'lpsnet' has no attribute {name!r}")
