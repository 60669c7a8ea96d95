"""What several tests build on."""

import dataclasses
from pathlib import Path

import pytest
import torch

from lpsnet.checkpoint import save_checkpoint
from lpsnet.config import RECIPES, Recipe
from lpsnet.models.lpsnet import LPSNet

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    """A recipe small enough to run anywhere."""
    recipe = RECIPES["lpsnet_tiny_synthetic"]
    model = dataclasses.replace(recipe.model, fpn_channels=16, ppm_channels=8, box_channels=16, semantic_channels=(16,))
    return dataclasses.replace(recipe, model=model)


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_recipe, tmp_path_factory) -> Path:
    """A checkpoint of that recipe with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(path, LPSNet(tiny_recipe).state_dict(), tiny_recipe)
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development data sets, which users do not have."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the development data sets are not in {SHARED_DATA}")
    return SHARED_DATA
