"""Checkpoints: one safetensors file with the weights and the recipe. Nothing in it is ever unpickled."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from lpsnet import atomic
from lpsnet.config import Recipe

FORMAT = "lpsnet"
VERSION = "1"
_SHOWN = 4
"""So many keys a message lists."""


def save_checkpoint(
    path: str | Path,
    model_state: Mapping[str, Tensor],
    recipe: Recipe,
    half: bool = False,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Writes a checkpoint, whole or not at all.

    Args:
        path: of the file, ``.safetensors`` by custom.
        model_state: `LPSNet.state_dict()`.
        recipe: of the model.
        half: store the weights of convolutions and linear layers as float16; norms and biases stay float32.
        extra: more metadata, as text.

    Raises:
        ValueError: a metadata key that the format uses itself, or, with `half`, a weight beyond float16.
        OSError: the file cannot be written.
    """
    metadata = {"format": FORMAT, "version": VERSION, "recipe": json.dumps(recipe.to_dict())}
    taken = sorted(metadata.keys() & (extra or {}).keys())
    if taken:
        raise ValueError(f"extra: expected keys other than the format's own, got {taken}")
    tensors = {key: value.detach().to("cpu").contiguous() for key, value in model_state.items()}
    if half:
        tensors = {key: _to_half(key, value) for key, value in tensors.items()}
    atomic.write_bytes(path, save(tensors, {**metadata, **(extra or {})}))


def load_checkpoint(path: str | Path) -> tuple[Recipe, dict[str, Tensor]]:
    """The recipe and the weights, float32 on the CPU, of a file that `save_checkpoint` wrote.

    Raises:
        ValueError: a file that is missing, damaged, or no checkpoint of LPSNet.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"checkpoint: expected a file, got {str(path)!r}, which is none")
    try:
        with safe_open(path, "pt") as file:
            recipe = _recipe(file.metadata() or {}, path)
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, no mapping
    except (SafetensorError, OSError) as error:
        raise ValueError(f"checkpoint: {str(path)!r} is damaged or no safetensors file: {error}") from None
    return recipe, {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def assign_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Makes the tensors of a checkpoint the parameters and buffers of a model, which may be on the meta device.

    Raises:
        ValueError: keys or shapes that do not fit, with a few of them.
    """
    expect_state("checkpoint", model, state)
    model.load_state_dict(state, assign=True)


def expect_state(name: str, model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Raises ValueError, which starts with `name` and lists a few keys, unless keys and shapes are the model's."""
    expected = model.state_dict()
    wrong = [
        f"{key} is {list(state[key].shape)}, not {list(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    problems = {
        "missing": [key for key in expected if key not in state],
        "unknown": [key for key in state if key not in expected],
        "of another shape": wrong,
    }
    found = [f"{len(keys)} {what} ({_some(keys)})" for what, keys in problems.items() if keys]
    if found:
        raise ValueError(f"{name}: expected the tensors of a {type(model).__name__}, got {'; '.join(found)}")


def _recipe(metadata: dict[str, str], path: Path) -> Recipe:
    if metadata.get("format") != FORMAT:
        raise ValueError(f"checkpoint: expected one of LPSNet, got {str(path)!r}, whose metadata do not say so")
    if metadata.get("version") != VERSION:
        raise ValueError(f"checkpoint: expected version {VERSION}, got {metadata.get('version')!r} in {str(path)!r}")
    try:
        return Recipe.from_dict(json.loads(metadata["recipe"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"checkpoint: the recipe in {str(path)!r} does not read: {error}") from None


def _to_half(key: str, value: Tensor) -> Tensor:
    if value.ndim < 2 or not value.is_floating_point():
        return value
    half = value.half()
    if not torch.equal(half.isfinite(), value.isfinite()):
        raise ValueError(f"half: expected weights within the range of float16, got {value.abs().max():.3g} in {key}")
    return half


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")
