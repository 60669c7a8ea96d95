"""The feature pyramid P2..P7 (Lin et al., CVPR 2017; FCOS for P6 and P7) with scene context in P5."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from lpsnet.config import ModelConfig
from lpsnet.models.context import GlobalPooling, PyramidPooling, Size


class FeaturePyramid(nn.Module):
    """C2..C5 to P2..P7.

    The context of C5 is added to the lateral of P5, so P4..P2 get it too on the way down (paper, section 3.2).

    Args:
        config: of the model.
        in_channels: of C2..C5.
    """

    def __init__(self, config: ModelConfig, in_channels: Sequence[int]) -> None:
        super().__init__()
        channels = config.fpn_channels
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        self.p6 = nn.Conv2d(channels, channels, 3, 2, 1)
        self.p7 = nn.Conv2d(channels, channels, 3, 2, 1)
        for conv in (*self.lateral, *self.output, self.p6, self.p7):
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)
        self.context: PyramidPooling | GlobalPooling | None
        if config.context == "ppm":
            self.context = PyramidPooling(config, in_channels[-1])
        elif config.context == "gap":
            self.context = GlobalPooling(config, in_channels[-1])
        elif config.context == "none":
            self.context = None
        else:
            raise ValueError(f"context: expected 'ppm', 'gap' or 'none', got {config.context!r}")

    def forward(self, features: Sequence[Tensor], valid: Size) -> tuple[Tensor, ...]:
        """P2..P7, [N, fpn_channels, ., .] at strides 4..128, sizes rounded up.

        Args:
            features: C2..C5, each half as large as the one before. A list is emptied on the way, so that each map that
                nobody else holds is freed when it is not needed any more.
            valid: rows and columns of C5 that hold the image; the context is taken from these alone.
        """
        levels = self.top_down(features, valid)
        p6 = self.p6(levels[-1])
        return (*levels, p6, self.p7(functional.relu(p6)))

    def top_down(self, features: Sequence[Tensor], valid: Size) -> list[Tensor]:
        """P2..P5 alone, from the arguments of `forward`."""
        left = features if isinstance(features, list) else list(features)
        x = self.lateral[-1](left[-1])
        if self.context is not None:
            x = x + self.context(left[-1], valid)
        left.pop()
        levels = [self.output[-1](x)]
        # From the coarsest on, so that few maps of the finest, which are the largest, are there at a time.
        while left:
            i = len(left) - 1
            lateral = self.lateral[i](left.pop())
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest").add_(lateral)
            del lateral
            levels.append(self.output[i](x))
        return levels[::-1]
