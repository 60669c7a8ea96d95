"""Panoptic FPN's semantic head (Kirillov et al., CVPR 2019, section 3)."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from lpsnet.config import ModelConfig
from lpsnet.models.norm import build_norm


class SemanticFPNHead(nn.Module):
    """Each of P2..P5 to 1/4 by stages of 3x3 convolution, norm, ReLU and bilinear upsampling by 2; their sum; classes.

    P5 has three stages, P4 two, P3 one, and P2 one without upsampling.
    """

    def __init__(self, config: ModelConfig, channels: int, num_classes: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    _Stage(config, config.fpn_channels if i == 0 else channels, channels, upsample=level > 0)
                    for i in range(max(1, level))
                )
            )
            for level in range(4)
        )
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """P2..P5, [N, fpn_channels, h, w] each, to logits float32[N, num_classes, H / 4, W / 4]."""
        total, *coarser = (stage(x) for stage, x in zip(self.stages, levels, strict=True))
        for x in coarser:
            total += x
        return self.classifier(total).float()


class _Stage(nn.Module):
    """3x3 convolution, norm, ReLU, upsampling."""

    def __init__(self, config: ModelConfig, in_channels: int, channels: int, upsample: bool) -> None:
        super().__init__()
        conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        self.layers = nn.Sequential(conv, build_norm(config, channels))
        self.upsample = upsample

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.layers(x), inplace=True)
        if self.upsample:
            x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return x
