"""What the tests of training build on, and the processes that they start: see `main`."""

import dataclasses
import os
import signal
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
from lpsnet.training import cli, distributed
from lpsnet.training.distributed import Ranks
from lpsnet.training.log import StepReport
from lpsnet.training.loop import train
from lpsnet.training.step import Gradients, Stepper

SCENES = 8
BN_BATCHES = (2, 1)
"""Images of each process in the test of the layer alone."""
LAYER_DTYPES = (torch.float32, torch.bfloat16)


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
    size = dataclasses.replace(recipe.input, short_side=64, max_side=96)
    return dataclasses.replace(recipe, model=model, input=size, train=dataclasses.replace(recipe.train, **fields))


def tiny_model(recipe: Recipe) -> LPSNet:
    """Its network with the backbone cut down to one thin block per stage."""
    name = recipe.model.backbone
    with (
        patch.dict(efficientnet_lite.WIDTHS, {name: (8, 8, 8, 8, 16, 16, 16)}),
        patch.dict(efficientnet_lite.DEPTHS, {name: (1,) * 7}),
    ):
        return LPSNet(recipe)


TINY_ARGUMENTS = (
    "lpsnet_tiny_synthetic",
    *("--model.fpn-channels", "16", "--model.ppm-channels", "8", "--model.box-channels", "16"),
    *("--model.semantic-channels", "16", "--model.norm", "gn", "--model.norm-groups", "4"),
    *("--model.freeze-backbone-norm", "--augment.crop", "64", "64", "--train.batch-size", "2"),
    *("--input.short-side", "64", "--input.max-side", "96", "--train.checkpoint-every", "2", "--train.log-every", "1"),
)
"""For the command, beside `command`'s network."""


def scenes() -> list[Sample]:
    """Of two sizes, so that a batch must be padded to its largest wherever that is."""
    sizes = [(64, 96), (64, 64), (32, 64)]
    return [SyntheticScenes(SCENES, size=sizes[i % 3])[i] for i in range(SCENES)]


def run(
    recipe: Recipe, output: Path, ranks: Ranks | None = None, interrupt_after: int = 0, **kwargs
) -> list[dict[str, float]]:
    """Losses of each step, in the main process."""
    torch.manual_seed(recipe.train.seed)
    steps: list[dict[str, float]] = []

    def note(report: StepReport) -> None:
        steps.append({**report.losses, "grad_norm": report.grad_norm})
        if report.step == interrupt_after:
            os.kill(os.getpid(), signal.SIGINT)

    train(
        tiny_model(recipe),
        scenes(),
        output,
        ranks=ranks,
        on_step=note,
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


def exchange(device: str, output: Path) -> None:
    """What a process of test_training_distributed.py does."""
    with distributed.join(device) as ranks:
        begin = sum(BN_BATCHES[: ranks.rank])
        mine = slice(begin, begin + BN_BATCHES[ranks.rank])
        results: dict[str, object] = {
            f"layer_{dtype}": layer_results(
                SyncBatchNorm2d(5, device=ranks.device), *(t[mine].to(ranks.device, dtype) for t in layer_inputs())
            )
            for dtype in LAYER_DTYPES
        }
        for norm in ("gn", "bn"):
            results[norm] = run(tiny_recipe(norm), output / norm, ranks)
        results["accumulated"] = run(tiny_recipe("gn", batch_size=5, accumulate=2), output / "accumulated", ranks)
        results["resumed"] = run(tiny_recipe("gn"), output / "resumed", ranks, resume=True)
        torch.save(results, output / f"results{ranks.rank}.pt")


def command(args: list[str], dies_at: int | None = None) -> None:
    """lpsnet-train with the thin backbone. Its last process kills itself once, in step `dies_at`."""
    apply = Stepper.apply

    def apply_or_die(self: Stepper, gradients: Gradients) -> None:
        apply.steps = getattr(apply, "steps", 0) + 1
        if apply.steps == dies_at and self.ranks.rank == self.ranks.world - 1 and not distributed.was_restarted():
            os.kill(os.getpid(), signal.SIGKILL)
        apply(self, gradients)

    with patch("lpsnet.models.lpsnet.LPSNet", tiny_model), patch.object(Stepper, "apply", apply_or_die):
        cli.main(args)


def main() -> None:
    """exchange DEVICE OUTPUT; train ARGUMENTS; or dies STEP ARGUMENTS."""
    mode, *args = sys.argv[1:]
    if mode == "exchange":
        exchange(args[0], Path(args[1]))
    elif mode == "train":
        command(args)
    elif mode == "dies":
        command(args[1:], int(args[0]))


if __name__ == "__main__":
    main()
