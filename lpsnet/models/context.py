"""Scene context for P5: pyramid pooling or global average pooling over C5, blind to the padding of the input."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lpsnet.config import ModelConfig
from lpsnet.models.norm import build_norm

Size = tuple[int, int]


def pooling_weights(size: int, valid: int, bins: int) -> np.ndarray:
    """float32[bins, size]: adaptive average pooling of the first `valid` of `size` cells, as a matrix."""
    weights = np.zeros((bins, size), np.float32)
    for i in range(bins):
        start, stop = i * valid // bins, -(-(i + 1) * valid // bins)
        weights[i, start:stop] = 1 / (stop - start)
    return weights


def upsampling_weights(size: int, valid: int, bins: int) -> np.ndarray:
    """float32[size, bins]: bilinear interpolation of `bins` to the first `valid` cells; the others repeat the last.

    Pixel centres lie at half integers (align_corners=False).
    """
    weights = np.zeros((size, bins), np.float32)
    for y in range(size):
        position = max((min(y, valid - 1) + 0.5) * bins / valid - 0.5, 0.0)
        low = min(int(position), bins - 1)
        high = min(low + 1, bins - 1)
        weights[y, low] += 1 - (position - low)
        weights[y, high] += position - low
    return weights


class PyramidPooling(nn.Module):
    """Pyramid pooling (Zhao et al., CVPR 2017) as in UPerNet: what it returns is added to the lateral of P5.

    Pooling and the way back are products with matrices that depend on the sizes only. Those are computed once per
    size, so an exported graph carries them as constants and needs no adaptive pooling.
    """

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__()
        self.bins = config.ppm_bins
        self.reduced_channels = config.ppm_channels
        self.reduce = nn.ModuleList(nn.Linear(in_channels, self.reduced_channels) for _ in self.bins)
        fused = in_channels + self.reduced_channels * len(self.bins)
        self.fuse = nn.Conv2d(fused, config.fpn_channels, 3, padding=1, bias=False)
        self.norm = build_norm(config, config.fpn_channels)
        self._matrices: dict[tuple, tuple[Tensor, list[Tensor]]] = {}

    def forward(self, c5: Tensor, valid: Size) -> Tensor:
        """C5 [N, C, h, w] to [N, fpn_channels, h, w].

        Args:
            c5: the last map of the backbone.
            valid: rows and columns of it that hold the image; the averages are over these alone.
        """
        pool, upsample = self.matrices(c5, valid)
        cells = c5.flatten(2).transpose(1, 2)  # [N, h * w, C], a view in either memory format
        pooled = (pool @ cells).split([b * b for b in self.bins], dim=1)
        branches = [
            up @ functional.relu(reduce(p)) for up, reduce, p in zip(upsample, self.reduce, pooled, strict=True)
        ]
        cells = torch.cat([cells, *branches], dim=2)
        fused = self.fuse(cells.transpose(1, 2).unflatten(2, c5.shape[2:]))
        return functional.relu(self.norm(fused), inplace=True)

    def matrices(self, c5: Tensor, valid: Size) -> tuple[Tensor, list[Tensor]]:
        """The pooling of all bins, [sum of bins^2, h * w], and the way back of each, [h * w, bins^2]."""
        height, width = c5.shape[2:]
        key = (height, width, *valid, c5.device, c5.dtype)
        if key in self._matrices:
            return self._matrices[key]
        pool, upsample = [], []
        for b in self.bins:
            pool.append(np.kron(pooling_weights(height, valid[0], b), pooling_weights(width, valid[1], b)))
            upsample.append(np.kron(upsampling_weights(height, valid[0], b), upsampling_weights(width, valid[1], b)))
        made = (
            torch.tensor(np.concatenate(pool)).to(c5),
            [torch.tensor(u).to(c5) for u in upsample],
        )
        if not torch.compiler.is_exporting():  # what is made while a graph is traced is no real tensor
            self._matrices[key] = made
        return made


class GlobalPooling(nn.Module):
    """The mean of C5 through a 1x1 convolution, added everywhere: the ablation of the paper's Table 5."""

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(in_channels, config.fpn_channels)

    def forward(self, c5: Tensor, valid: Size) -> Tensor:
        """C5 [N, C, h, w] to [N, fpn_channels, 1, 1]; `valid` as in PyramidPooling."""
        return self.reduce(c5[:, :, : valid[0], : valid[1]].mean((2, 3)))[:, :, None, None]
