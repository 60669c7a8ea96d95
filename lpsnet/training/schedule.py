"""Optimiser, learning rate and moving average of the weights."""

import math

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from lpsnet.config import TrainConfig


def learning_rate_factor(step: int, config: TrainConfig) -> float:
    """The learning rate of this step as a share of `TrainConfig.learning_rate`."""
    if step < config.warmup:
        return 0.001 + (1 - 0.001) * step / config.warmup
    if config.schedule == "steps":
        return 0.1 ** sum(step >= s for s in config.steps)
    progress = (step - config.warmup) / max(1, config.iterations - config.warmup)
    return (1 + math.cos(math.pi * min(1.0, progress))) / 2


def build_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """SGD or AdamW; biases and norms do not decay, the backbone has its own factor on the learning rate."""
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith("backbone."), parameter.ndim > 1), []).append(parameter)
    settings = [
        {
            "params": parameters,
            "base_lr": config.learning_rate * (config.backbone_learning_rate if in_backbone else 1.0),
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (in_backbone, decays), parameters in groups.items()
    ]
    if config.optimizer == "sgd":
        return SGD(settings, lr=config.learning_rate, momentum=config.momentum)
    return AdamW(settings, lr=config.learning_rate)


def set_learning_rate(optimizer: Optimizer, step: int, config: TrainConfig) -> float:
    """Sets the rate of every group for this step; returns the highest."""
    factor = learning_rate_factor(step, config)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return max(group["lr"] for group in optimizer.param_groups)


class MovingAverage:
    """An exponential moving average of a model's state. Its decay rises at first, so that the start is forgotten."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)
