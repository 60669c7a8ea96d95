"""EfficientNet-Lite0 and -Lite2: EfficientNet (Tan and Le, ICML 2019) with ReLU6 and without squeeze-and-excitation."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpsnet.models.depthwise import mixed_depthwise_conv2d
from lpsnet.models.norm import FrozenBatchNorm2d

KERNELS = (3, 3, 5, 3, 5, 5, 3)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
EXPANSIONS = (1, 6, 6, 6, 6, 6, 6)
STEM_CHANNELS = 32
WIDTHS = {
    "efficientnet_lite0": (16, 24, 40, 80, 112, 192, 320),
    "efficientnet_lite2": (16, 24, 48, 88, 120, 208, 352),
}
DEPTHS = {
    "efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1),
    "efficientnet_lite2": (1, 3, 3, 4, 4, 5, 1),
}
_OUTPUT_STAGES = (1, 2, 4, 6)
"""The last stages at strides 4, 8, 16 and 32."""
_CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")
_PUBLISHED_NAMES = (
    ("_conv_stem.", "stem.0."),
    ("_blocks.", "blocks."),
    ("._expand_conv.", ".expand.0."),
    ("._bn0.", ".expand.1."),
    ("._depthwise_conv.", ".depthwise.0."),
    ("._bn1.", ".depthwise.1."),
    ("._project_conv.", ".project.0."),
    ("._bn2.", ".project.1."),
)
"""From the names of the published checkpoints to ours; the stem's ``_bn0.`` comes apart, as it stands first."""


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding: where the padding is odd, the bottom and the right get more."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        # With stride 1 and an odd kernel SAME is symmetric, and the convolution pads by itself.
        pads = kernel // 2 if stride == 1 else 0
        super().__init__(in_channels, out_channels, kernel, stride, pads, groups=groups, bias=False)
        self.pads = pads

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride > 1:
            height, width = (
                max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in (input.shape[2], input.shape[3])
            )
            input = functional.pad(input, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(input)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        training = bias is None  # a bias is a norm that was folded in
        if training and self.groups > 1 and input.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            return mixed_depthwise_conv2d(input, weight, self.stride[0], self.pads)
        return super()._conv_forward(input, weight, bias)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection, and a shortcut where the shape stays."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        expansion: int,
        norm: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        width = in_channels * expansion
        self.expand: nn.Module | None = None
        if expansion != 1:
            self.expand = nn.Sequential(SameConv2d(in_channels, width, 1), norm(width), nn.ReLU6(inplace=True))
        self.depthwise = nn.Sequential(
            SameConv2d(width, width, kernel, stride, groups=width), norm(width), nn.ReLU6(inplace=True)
        )
        self.project = nn.Sequential(SameConv2d(width, out_channels, 1), norm(out_channels))
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.has_shortcut else y


class EfficientNetLite(nn.Module):
    """The convolutional part of an EfficientNet-Lite. It expects (x - 127) / 128 of 0..255 RGB.

    Args:
        widths: channels per stage.
        depths: blocks per stage.
        freeze_norm: BatchNorm keeps its statistics and its affine parameters.

    Attributes:
        channels: of C2..C5.
    """

    def __init__(self, widths: tuple[int, ...], depths: tuple[int, ...], freeze_norm: bool) -> None:
        super().__init__()
        batch_norm = FrozenBatchNorm2d if freeze_norm else nn.BatchNorm2d
        norm = partial(batch_norm, eps=1e-3, momentum=0.01)
        self.channels = tuple(widths[i] for i in _OUTPUT_STAGES)
        self.stem = nn.Sequential(SameConv2d(3, STEM_CHANNELS, 3, 2), norm(STEM_CHANNELS), nn.ReLU6(inplace=True))
        blocks = []
        in_channels = STEM_CHANNELS
        last_blocks = []
        for width, depth, kernel, stride, expansion in zip(widths, depths, KERNELS, STRIDES, EXPANSIONS, strict=True):
            for j in range(depth):
                blocks.append(InvertedResidual(in_channels, width, kernel, stride if j == 0 else 1, expansion, norm))
                in_channels = width
            last_blocks.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)
        self.output_blocks = tuple(last_blocks[i] for i in _OUTPUT_STAGES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """[N, 3, H, W] to C2..C5, [N, channels[i], H / s, W / s] for the strides s = 4, 8, 16, 32, rounded up."""
        x = self.stem(images)
        features = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.output_blocks:
                features.append(x)
        return tuple(features)

    @staticmethod
    def adapt_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The published checkpoint under our names, without its classifier. Our own names pass unchanged."""
        adapted = {}
        for key, value in state.items():
            if key.startswith(_CLASSIFIER):
                continue
            if key.startswith("_bn0."):
                key = key.replace("_bn0.", "stem.1.")
            for theirs, ours in _PUBLISHED_NAMES:
                key = key.replace(theirs, ours)
            adapted[key] = value
        return adapted


def efficientnet_lite(name: str, freeze_norm: bool) -> EfficientNetLite:
    """The EfficientNet-Lite of this name, a key of `WIDTHS`, with random weights."""
    return EfficientNetLite(WIDTHS[name], DEPTHS[name], freeze_norm)
