"""What several tests build on."""

import ctypes
import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lpsnet.checkpoint import save_checkpoint
from lpsnet.config import RECIPES, Recipe
from lpsnet.models.lpsnet import LPSNet

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--emulated-cuda",
        action="store_true",
        help="send every call of liblpsnet to its CUDA code, over host memory (a build with LPSNET_CUDA=EMULATED)",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--emulated-cuda"):
        _send_calls_to_the_emulation()


def _send_calls_to_the_emulation() -> None:
    from lpsnet.native import library
    from lpsnet.ops import device  # imports all that calls

    original = library.call

    def call(name: str, params: ctypes.Structure, *pointers: int | ctypes.Array | None, **_: int) -> None:
        size = library.workspace_size(name, params, library.CUDA)
        workspace = np.full(size, 0xA5, np.uint8)  # what is read before it is written shows
        address = workspace.ctypes.data
        original(name, params, *pointers, device=library.CUDA, workspace=address, workspace_size=size)

    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("lpsnet.") and getattr(module, "call", None) is original:
            module.call = call  # type: ignore[attr-defined]
    assert device.library.call is call


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
