"""What a run needs to go on exactly where it stopped, on disk: the last state and the one before it."""

import os
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import torch

from lpsnet.config import Recipe

STATE_NAME = "state.pt"
PREVIOUS_NAME = "state.previous.pt"

_MAY_DIFFER = frozenset(
    f"train.{name}"
    for name in ("accumulate", "checkpoint_every", "compile", "explosion", "log_every", "sync_bn", "workers")
)
"""Settings of the machine, not of what is learnt; so are all of ``postprocess``."""


def has_state(output: Path) -> bool:
    """Whether the folder holds the state of a run."""
    return any((output / name).exists() for name in (STATE_NAME, PREVIOUS_NAME))


def remove_state(output: Path) -> None:
    """Forgets the run in the folder."""
    for name in (STATE_NAME, PREVIOUS_NAME):
        (output / name).unlink(missing_ok=True)


def save_state(output: Path, state: dict[str, Any]) -> None:
    """Writes ``state.pt``; the one that was there becomes ``state.previous.pt``.

    Whatever happens meanwhile, one of the two is whole: the file is on the disk before it gets its name.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    path = output / STATE_NAME
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            _write(state, file)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            path.replace(output / PREVIOUS_NAME)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(output, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load_state(output: Path, recipe: Recipe) -> dict[str, Any]:
    """Reads what `save_state` wrote last, without unpickling objects.

    Where ``state.pt`` is missing or damaged, ``state.previous.pt`` is taken, with a warning.

    Raises:
        ValueError: no such state, or one of another recipe.
    """
    try:
        state = _read(output / STATE_NAME)
    except ValueError as error:
        if not (output / PREVIOUS_NAME).exists():
            raise
        state = _read(output / PREVIOUS_NAME)
        warnings.warn(f"{error}; going on from {PREVIOUS_NAME}, of step {state['step']}", stacklevel=2)
    theirs, ours = _flat(Recipe.from_dict(state["recipe"]).to_dict()), _flat(recipe.to_dict())
    differing = [
        f"{key} ({theirs[key]} there, {ours[key]} here)"
        for key in ours
        if theirs[key] != ours[key] and key not in _MAY_DIFFER and not key.startswith("postprocess.")
    ]
    if differing:
        raise ValueError(f"resume: expected a run of the same recipe, got {output}, which differs in {differing}")
    return state


def _write(state: dict[str, Any], file: BinaryIO) -> None:
    try:
        torch.save(state, file)
    except RuntimeError as error:  # torch's own, of where it stood when the file refused a write
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _read(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # pickle, zip and torch each raise their own
        reason = str(error).partition("\n")[0]
        raise ValueError(f"resume: expected the state of a training run, got {path}: {reason}") from None
    if not isinstance(state, dict) or "recipe" not in state:
        raise ValueError(f"resume: expected the state of a training run, got {path} without a recipe")
    return state


def _flat(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
