"""What is here needs a CUDA GPU."""

import os
import random

import pytest
import torch

from lpsnet.native.library import library

_SEED = int(os.environ.get("LPSNET_TEST_SEED") or random.SystemRandom().randrange(2**31))
"""Inputs are new in each run; a failed run is repeated by its seed."""


def _missing() -> str | None:
    if not torch.cuda.is_available():
        return "torch finds no CUDA GPU"
    if not library().lps_num_cuda_devices():
        return "liblpsnet has no CUDA code, or finds no GPU: build it with LPSNET_CUDA=ON"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    missing = _missing() if marked else None
    if missing is None:
        return
    if os.environ.get("LPSNET_REQUIRE_GPU"):
        pytest.exit(f"LPSNET_REQUIRE_GPU is set, and {missing}", returncode=1)
    for item in marked:
        item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture
def seed() -> int:
    """Of the inputs."""
    print(f"LPSNET_TEST_SEED={_SEED}")  # pytest shows it where a test fails
    return _SEED
