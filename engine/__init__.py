"""Runs LPSNet: from an image to its panoptic map.

>>> import lpsnet.engine
>>> engine = lpsnet.engine.load("lpsnet_lite0_camvid")
>>> result = engine.predict("street.jpg")
>>> result.segments_info
"""

from .pipeline import Engine, load

__all__ = ["Engine", "load"]
