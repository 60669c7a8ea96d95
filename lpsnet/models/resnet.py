"""ResNet-50 and ResNet-101 (He et al., CVPR 2016) with torchvision's names, so that its checkpoints load."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from lpsnet.models.norm import FrozenBatchNorm2d

DEPTHS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
_EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a shortcut; the 3x3 carries the stride, as in torchvision (v1.5)."""

    def __init__(self, in_channels: int, width: int, stride: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        out_channels = width * _EXPANSION
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = norm(out_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), norm(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        x = functional.relu(self.bn2(self.conv2(x)), inplace=True)
        # In place: at the first stage each map takes more memory than all weights of the stage.
        return functional.relu(self.bn3(self.conv3(x)).add_(shortcut), inplace=True)


class ResNet(nn.Module):
    """The convolutional part of a ResNet with bottlenecks.

    Args:
        depths: blocks per stage.
        freeze_norm: BatchNorm keeps its statistics and its affine parameters.

    Attributes:
        channels: of C2..C5.
    """

    channels = (256, 512, 1024, 2048)

    def __init__(self, depths: tuple[int, int, int, int], freeze_norm: bool) -> None:
        super().__init__()
        norm = FrozenBatchNorm2d if freeze_norm else nn.BatchNorm2d
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = norm(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _stage(64, 64, depths[0], 1, norm)
        self.layer2 = _stage(256, 128, depths[1], 2, norm)
        self.layer3 = _stage(512, 256, depths[2], 2, norm)
        self.layer4 = _stage(1024, 512, depths[3], 2, norm)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """[N, 3, H, W] to C2..C5, [N, channels[i], H / s, W / s] for the strides s = 4, 8, 16, 32, rounded up."""
        x = self.maxpool(functional.relu(self.bn1(self.conv1(images)), inplace=True))
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return tuple(features)

    @staticmethod
    def adapt_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """torchvision's state dict without its classifier."""
        return {key: value for key, value in state.items() if not key.startswith("fc.")}


def resnet(name: str, freeze_norm: bool) -> ResNet:
    """The ResNet of this name, a key of `DEPTHS`, with random weights."""
    return ResNet(DEPTHS[name], freeze_norm)


def _stage(in_channels: int, width: int, depth: int, stride: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    first = Bottleneck(in_channels, width, stride, norm)
    return nn.Sequential(first, *(Bottleneck(width * _EXPANSION, width, 1, norm) for _ in range(depth - 1)))
