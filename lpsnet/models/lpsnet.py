"""LPSNet: backbone, feature pyramid, box head and semantic head (CVPR 2021)."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from lpsnet.checkpoint import assign_state, load_checkpoint
from lpsnet.config import Recipe
from lpsnet.models.backbone import build_backbone, load_backbone_weights, pretrained_weights_path
from lpsnet.models.box_head import BoxHead
from lpsnet.models.context import Size
from lpsnet.models.fpn import FeaturePyramid
from lpsnet.models.semantic_head import NUM_LEVELS, SemanticHead
from lpsnet.packaged import packaged_file
from lpsnet.structures import DenseOutputs

STRIDE = 32
"""Of C5; the input is a multiple of it."""


class LPSNet(nn.Module):
    """The dense network of a recipe, with random weights.

    Attributes:
        recipe: what it was made from.
        backbone, fpn, box_head, semantic_head: its parts.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.backbone = build_backbone(recipe.model)
        self.fpn = FeaturePyramid(recipe.model, self.backbone.channels)
        self.box_head = BoxHead(recipe.model)
        self.semantic_head = SemanticHead(recipe.model, len(recipe.categories))

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> "LPSNet":
        """The trained network of a checkpoint: float32, on the CPU, in evaluation mode.

        Args:
            name_or_path: name of a checkpoint that comes with the package, or the path of a file.

        Raises:
            ValueError: no such name or file, or a file that is damaged or does not fit its own recipe.
        """
        recipe, state = load_checkpoint(packaged_file(name_or_path))
        with torch.device("meta"):  # no time spent on random weights
            model = cls(recipe)
        assign_state(model, state)
        return model.eval()

    def forward(self, images: Tensor, image_size: Size | None = None) -> DenseOutputs:
        """What inference needs: like `heads`, with border-ness as probabilities."""
        outputs = self.heads(images, image_size)
        return replace(outputs, borderness=tuple(torch.sigmoid(b) for b in outputs.borderness))

    def heads(self, images: Tensor, image_size: Size | None = None) -> DenseOutputs:
        """What the losses need: border-ness as logits.

        Args:
            images: float[N, 3, H, W], normalised as the recipe's `input` says; H and W are multiples of 32.
            image_size: height and width in pixels of the image, which lies at the top left of the padded input; the
                same for the whole batch. None: the images fill it. Scene context is taken from the image alone.

        Raises:
            ValueError: a shape or a size that does not fit.
        """
        valid = _valid_cells(images, image_size)
        # Lists, which the parts empty: the largest maps are freed as soon as they are not needed any more.
        levels = self.fpn(list(self.backbone(images)), valid)
        ltrb, borderness = self.box_head(levels[1:])
        finer = list(levels[:NUM_LEVELS])
        del levels
        return DenseOutputs(self.semantic_head(finer), ltrb, borderness)

    def load_pretrained_backbone(self, weights: str | Path | None = None) -> None:
        """Loads ImageNet weights into the backbone.

        Args:
            weights: path of a checkpoint; None takes that of the installed package.

        Raises:
            ValueError: no package carries the weights of this backbone, or the file does not fit.
            ModuleNotFoundError: the package is missing.
        """
        if weights is None:
            weights = pretrained_weights_path(self.recipe.model.backbone)
        load_backbone_weights(self.backbone, weights)


class FlatLPSNet(nn.Module):
    """The dense network as a function of tensors: what `torch.export` and tracers take.

    Args:
        model: in evaluation mode.
        image_size: as in `LPSNet.heads`, fixed.
    """

    def __init__(self, model: LPSNet, image_size: Size | None = None) -> None:
        super().__init__()
        self.model = model
        self.image_size = image_size

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The fields of `LPSNet.forward` one after the other: logits, ltrb of P3..P7, border-ness of P3..P7."""
        outputs = self.model(images, self.image_size)
        return (outputs.logits, *outputs.ltrb, *outputs.borderness)


def _valid_cells(images: Tensor, image_size: Size | None) -> Size:
    shape = images.shape
    if images.ndim != 4 or shape[1] != 3 or shape[2] % STRIDE or shape[3] % STRIDE or 0 in shape[2:]:
        raise ValueError(f"images: expected [N, 3, H, W] with multiples of {STRIDE} for H and W, got {list(shape)}")
    height, width = image_size or shape[2:]
    if not (0 < height <= shape[2] and 0 < width <= shape[3]):
        raise ValueError(f"image_size: expected at most {tuple(shape[2:])} and at least (1, 1), got {image_size}")
    return -(-height // STRIDE), -(-width // STRIDE)
