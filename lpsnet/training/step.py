"""One step of the optimiser, over all processes and all parts of a batch."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from lpsnet.config import Recipe
from lpsnet.losses import BatchTargets, Normalizers, losses
from lpsnet.models.lpsnet import LPSNet
from lpsnet.training.batches import Batch
from lpsnet.training.distributed import Ranks

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Gradients:
    """What the backward pass of a batch found; the gradients themselves are in the parameters.

    Attributes:
        losses: weighted, by name, of the whole batch; ``total`` is their sum.
        norm: of the gradient, before it is clipped.
    """

    losses: dict[str, float]
    norm: float


class Stepper:
    """Computes gradients and applies them.

    The gradients are those of the whole batch over all processes: each loss is divided by what the whole batch counts,
    so what processes and parts compute adds up.

    Args:
        model: on its device, in training mode, its BatchNorm synchronised where that is wanted.
        optimizer: of its parameters.
        ranks: the processes.

    Raises:
        ValueError: a batch with fewer images than there are processes times parts.
    """

    def __init__(self, model: LPSNet, optimizer: Optimizer, ranks: Ranks) -> None:
        config = model.recipe.train
        if config.accumulate < 1 or config.batch_size < ranks.world * config.accumulate:
            raise ValueError(
                f"batch_size: expected at least an image for each of {ranks.world} processes times {config.accumulate} "
                f"parts, got {config.batch_size}"
            )
        self.optimizer, self.ranks, self.config = optimizer, ranks, config
        self.scaler = torch.amp.GradScaler(ranks.device.type, enabled=config.amp == "fp16")
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._network: nn.Module = _Losses(model)
        if ranks.world > 1:
            devices = [ranks.device] if ranks.device.type == "cuda" else None
            self._network = DistributedDataParallel(self._network, device_ids=devices)

    def backward(self, batch: Batch, normalizers: Normalizers) -> Gradients:
        """Gradients of this process's part of a batch, added up over the processes.

        Args:
            batch: what this process learns from, padded to the size of the whole.
            normalizers: of the whole.
        """
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for i, part in enumerate(batch.split(self.config.accumulate), 1):
            device = self.ranks.device
            images = part.images.to(device, non_blocking=True, memory_format=torch.channels_last)
            with self._reduced_at_the_end(i == self.config.accumulate):
                parts = self._network(images, part.targets.to(device), normalizers)
                total = torch.stack(list(parts.values())).sum()
                # DistributedDataParallel takes the mean over the processes where we want the sum.
                self.scaler.scale(total * self.ranks.world).backward()
            for name, value in parts.items():
                sums[name] = sums.get(name, 0) + value.detach()
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        mine = torch.stack([*sums.values(), norm]).tolist()
        everyone = self.ranks.gather(*mine)[:, : len(sums)].sum(0).tolist()
        values = dict(zip(sums, everyone, strict=True))
        return Gradients(values | {"total": sum(everyone)}, mine[-1])

    def apply(self, gradients: Gradients) -> None:
        """Changes the weights. Where float16 overflowed, it lowers the loss scale instead."""
        if self.config.clip_norm > 0:
            norm = torch.tensor(gradients.norm, device=self.ranks.device)
            nn.utils.clip_grads_with_norm_(self._parameters, self.config.clip_norm, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    @property
    def loss_scale(self) -> float | None:
        """Of float16; None without it."""
        return self.scaler.get_scale() if self.scaler.is_enabled() else None

    def _reduced_at_the_end(self, last: bool) -> AbstractContextManager:
        if last or not isinstance(self._network, DistributedDataParallel):
            return nullcontext()
        return self._network.no_sync()


class _Losses(nn.Module):
    """The network with its losses behind it: what DistributedDataParallel hands the images to."""

    def __init__(self, model: LPSNet) -> None:
        super().__init__()
        self.model = model
        self.recipe: Recipe = model.recipe
        # Compiled is the method, not the module: the keys of its state stay.
        self._heads = torch.compile(model.heads) if self.recipe.train.compile else model.heads

    def forward(self, images: Tensor, targets: BatchTargets, normalizers: Normalizers) -> dict[str, Tensor]:
        dtype = _AUTOCAST.get(self.recipe.train.amp)
        with torch.autocast(images.device.type, dtype, enabled=dtype is not None):
            outputs = self._heads(images)
        return losses(outputs, targets, self.recipe.loss, normalizers)
