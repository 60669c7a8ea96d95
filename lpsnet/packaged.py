"""The trained models that come with the package. No torch."""

from pathlib import Path

FOLDER = Path(__file__).with_name("checkpoints")
_SUFFIXES = (".safetensors", ".onnx")


def packaged_models() -> dict[str, Path]:
    """The files by name: a checkpoint's without its suffix, an exported model's with it."""
    files = sorted(p for p in FOLDER.iterdir() if p.suffix in _SUFFIXES)
    return {p.stem if p.suffix == _SUFFIXES[0] else p.name: p for p in files}


def packaged_file(name_or_path: str | Path) -> Path:
    """The file of a packaged model, by its name, or of a path.

    Raises:
        ValueError: neither, with the names that there are.
    """
    models = packaged_models()
    path = models.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        raise ValueError(f"model: expected a file or one of {list(models)}, got {str(name_or_path)!r}")
    return path
