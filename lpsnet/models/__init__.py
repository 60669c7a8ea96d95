"""The dense network: backbones, feature pyramid and heads."""

from lpsnet.models.backbone import build_backbone, load_backbone_weights
from lpsnet.models.lpsnet import LPSNet

__all__ = ["LPSNet", "build_backbone", "load_backbone_weights"]
