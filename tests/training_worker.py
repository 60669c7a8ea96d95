"""One of the processes that test_training_distributed.py starts; and what both sides of those tests build on."""

import dataclasses
import sys
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor, nn

from lpsnet.config import RECIPES, Recipe
from lpsnet.data.sample import Sample
from lpsnet.data.synthetic import SyntheticScenes
from lpsnet.models import efficientnet_lite
from lpsnet.models.lpsnet import LPSNet
from lpsnet.models.sync_norm import SyncBatchNorm2d
from lpsnet.training import distributed
from lpsnet.training.distributed import Ranks
from lpsnet.training.loop import train

BN_BATCHES = (2, 1)
"""Images of each process in the test of the layer alone."""


def tiny_recipe(norm: str, **train_fields) -> Recipe:
    """Plain SGD, so that an error of rounding stays one."""
    recipe = RECIPES["lpsnet_tiny_synthetic"]
    fields = {
        "iterations": 3,
        "batch_size": 3,
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "warmup": 1,
        "checkpoint_every": 2,
        "workers": 0,
        **train_fields,
    }
    model = dataclasses.replace(
        recipe.model,
        fpn_channels=16,
        ppm_channels=8,
        box_channels=16,
        semantic_channels=(16,),
        norm=norm,
        norm_groups=4,
        freeze_backbone_norm=norm == "gn",
    )
    return dataclasses.replace(recipe, model=model, train=dataclasses.replace(recipe.train, **fields))


def tiny_model(recipe: Recipe) -> LPSNet:
    """Its network with the backbone cut down to one thin block per stage."""
    name = recipe.model.backbone
    with (
        patch.dict(efficientnet_lite.WIDTHS, {name: (8, 8, 8, 8, 16, 16, 16)}),
        patch.dict(efficientnet_lite.DEPTHS, {name: (1,) * 7}),
    ):
        return LPSNet(recipe)


def scenes() -> list[Sample]:
    """Of two sizes, so that a batch must be padded to its largest wherever that is."""
    sizes = [(64, 96), (64, 64), (32, 64)]
    return [SyntheticScenes(8, size=sizes[i % 3])[i] for i in range(8)]


def run(recipe: Recipe, output: Path, ranks: Ranks | None = None, **kwargs) -> list[dict[str, float]]:
    """Losses of each step, in the main process."""
    torch.manual_seed(recipe.train.seed)
    steps: list[dict[str, float]] = []
    train(
        tiny_model(recipe),
        scenes(),
        output,
        ranks=ranks,
        on_step=lambda report: steps.append({**report.losses, "grad_norm": report.grad_norm}),
        **kwargs,
    )
    return steps


def layer_inputs() -> tuple[Tensor, Tensor]:
    """Images and gradients of all processes together."""
    generator = torch.Generator().manual_seed(3)
    shape = (sum(BN_BATCHES), 5, 4, 6)
    return 3 + 2 * torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def layer_results(layer: nn.BatchNorm2d, images: Tensor, grads: Tensor) -> dict[str, Tensor]:
    """Everything that a training step of the layer computes."""
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(0.5, 2, 5))
        layer.bias.copy_(torch.linspace(-1, 1, 5))
    x = images.clone().requires_grad_()
    y = layer(x)
    y.backward(grads.to(y.dtype))
    state = {k: v.clone() for k, v in layer.state_dict().items()}
    return {"y": y.detach(), "dx": x.grad, "dweight": layer.weight.grad, "dbias": layer.bias.grad, **state}


def main(output: Path) -> None:
    with distributed.join("cpu") as ranks:
        begin = sum(BN_BATCHES[: ranks.rank])
        mine = slice(begin, begin + BN_BATCHES[ranks.rank])
        results: dict[str, object] = {
            f"layer_{dtype}": layer_results(SyncBatchNorm2d(5), *(t[mine].to(dtype) for t in layer_inputs()))
            for dtype in (torch.float32, torch.bfloat16)
        }
        for norm in ("gn", "bn"):
            results[norm] = run(tiny_recipe(norm), output / norm, ranks)
        results["accumulated"] = run(tiny_recipe("gn", batch_size=5, accumulate=2), output / "accumulated", ranks)
        results["resumed"] = run(tiny_recipe("gn"), output / "resumed", ranks, resume=True)
        torch.save(results, output / f"results{ranks.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
