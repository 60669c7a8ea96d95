"""Normalisation layers: frozen, over one map, and over all the levels that share a head."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpsnet.config import ModelConfig

BN_MOMENTUM = 0.05
"""Of the BatchNorm in context and heads: half of torch's, as a step sees few images, yet short trainings settle."""


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm with fixed statistics and fixed affine parameters; the keys are BatchNorm's."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(num_features, eps, momentum)
        self.requires_grad_(False)

    def forward(self, input: Tensor) -> Tensor:
        return functional.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )


def build_norm(config: ModelConfig, channels: int) -> nn.Module:
    """The layer that `config.norm` names. Raises ValueError where the groups do not divide the channels."""
    if config.norm == "bn":
        return nn.BatchNorm2d(channels, momentum=BN_MOMENTUM)
    if config.norm == "gn":
        if channels % config.norm_groups:
            raise ValueError(
                f"norm_groups: expected a divisor of the {channels} channels it normalises, got {config.norm_groups}"
            )
        return nn.GroupNorm(config.norm_groups, channels)
    raise ValueError(f"norm: expected 'gn' or 'bn', got {config.norm!r}")


class LevelNormReLU(nn.Module):
    """Normalises the levels of a pyramid behind a convolution that they share, then ReLU.

    GroupNorm looks at each level alone. BatchNorm takes its statistics over the pixels of all levels together: there
    is one running mean and one running variance, so evaluation does what training did, and the layer folds into the
    shared convolution.
    """

    def __init__(self, config: ModelConfig, channels: int) -> None:
        super().__init__()
        self.norm = build_norm(config, channels)

    @property
    def joint(self) -> bool:
        """Whether what becomes of a level depends on the others."""
        return self.training and not isinstance(self.norm, nn.GroupNorm)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels [N, C, h_i, w_i] to levels of the same sizes."""
        if not self.joint:
            return [functional.relu(self.norm(x), inplace=True) for x in levels]
        # All pixels as one channels-last map [1, C, pixels, 1]: one copy when the levels are channels-last themselves.
        pixels = [x.permute(0, 2, 3, 1).flatten(0, 2) for x in levels]
        joint = self.norm(torch.cat(pixels)[None, :, None].permute(0, 3, 1, 2))
        joint = functional.relu(joint, inplace=True)
        parts = joint.permute(0, 2, 3, 1).flatten(0, 2).split([len(p) for p in pixels])
        return [
            part.view(x.shape[0], x.shape[2], x.shape[3], x.shape[1]).permute(0, 3, 1, 2)
            for part, x in zip(parts, levels, strict=True)
        ]


def through_layers(layers: Iterable[nn.Module], norms: Iterable[nn.Module], levels: Sequence[Tensor]) -> list[Tensor]:
    """Takes every level through all layers, each followed by its `LevelNormReLU`.

    Where levels do not depend on each other it goes level by level, so that few maps are there at a time. A list of
    levels is emptied on the way: those that nobody else holds are freed when they are not needed any more.
    """
    left = levels if isinstance(levels, list) else list(levels)
    pairs = list(zip(layers, norms, strict=True))
    if not any(norm.joint for _, norm in pairs):
        return [_through_layers(pairs, left.pop(0)) for _ in range(len(left))]
    for layer, norm in pairs:
        left[:] = norm([layer(x) for x in left])
    return left


def _through_layers(pairs: Sequence[tuple[nn.Module, nn.Module]], x: Tensor) -> Tensor:
    for layer, norm in pairs:
        x = layer(x)
        (x,) = norm([x])
    return x
