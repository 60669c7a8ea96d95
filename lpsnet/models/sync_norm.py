"""BatchNorm whose statistics are over the batches of all processes, on any device.

torch's own SyncBatchNorm takes CUDA tensors only.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d, with its keys; while it trains, statistics and gradients are those of the joint batch.

    Equal to BatchNorm2d over the concatenated batches of the processes, whose sizes may differ. Every process must run
    it as often as the others.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized():
            return super().forward(input)
        return self._synchronized(input)

    @torch.compiler.disable  # collectives in a graph of autograd's
    def _synchronized(self, input: Tensor) -> Tensor:
        output, mean, var, count = _Normalize.apply(input, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (count / (count - 1).clamp(min=1)), self.momentum)
            self.num_batches_tracked.add_(1)
        return output


def synchronize_batch_norm(model: nn.Module) -> None:
    """Replaces every BatchNorm2d that trains by a `SyncBatchNorm2d` with the same tensors; frozen ones stay."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2d:
                synced = SyncBatchNorm2d(child.num_features, child.eps, child.momentum, device="meta")
                synced.load_state_dict(child.state_dict(keep_vars=True), assign=True)
                synced.train(child.training)
                setattr(parent, name, synced)


class _Normalize(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias over the batches of all processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        var, mean = torch.var_mean(x.float(), (0, 2, 3), correction=0)
        mine = torch.cat([mean, var, mean.new_tensor([x.numel() // x.shape[1]])])
        rows = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(rows, mine)
        channels = x.shape[1]
        means, variances, counts = torch.stack(rows).split([channels, channels, 1], dim=1)
        count = counts.sum()
        mean = (means * counts).sum(0) / count
        var = ((variances + (means - mean).square()) * counts).sum(0) / count
        ctx.save_for_backward(x, weight, mean, var, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var, count)
        return functional.batch_norm(x, mean, var, weight, bias, training=False, eps=eps), mean, var, count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, var, count = ctx.saved_tensors
        # With the statistics held fixed; what they add is the same for every pixel but for a factor on x.
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grads[0], x, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.cat([grad_weight, grad_bias])
        dist.all_reduce(sums)
        of_weight, of_bias = (sums / count).chunk(2)
        inverse = torch.rsqrt(var + ctx.eps)
        slope = -weight * inverse.square() * of_weight
        offset = -weight * inverse * of_bias - slope * mean
        correction = x * slope[:, None, None] + offset[:, None, None]
        return grad_x + correction.to(grad_x.dtype), grad_weight, grad_bias, None
