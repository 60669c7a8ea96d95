"""What a run needs to go on exactly where it stopped, on disk."""

import os
from pathlib import Path
from typing import Any

import torch

from lpsnet.config import Recipe


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Writes the state beside its place and renames it, so that a crash leaves the old one whole."""
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_state(path: Path, recipe: Recipe) -> dict[str, Any]:
    """Reads what `save_state` wrote, without unpickling objects.

    Raises:
        ValueError: a file that is no such state, or one of another recipe.
    """
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise ValueError(f"resume: expected the state of a training run, got {path}: {error}") from None
    if not isinstance(state, dict) or "recipe" not in state:
        raise ValueError(f"resume: expected the state of a training run, got {path} without a recipe")
    theirs, ours = Recipe.from_dict(state["recipe"]), recipe
    if theirs != ours:
        differing = [k for k, v in ours.to_dict().items() if theirs.to_dict()[k] != v]
        raise ValueError(f"resume: expected a run of the same recipe, got {path}, which differs in {differing}")
    return state
