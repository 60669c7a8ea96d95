"""A photograph to try a model on."""

from pathlib import Path

import lpsnet


def sample_photograph() -> Path:
    """The path of a photograph of 640x427 that comes with the package: a pagoda by a lake, trees and buildings."""
    return Path(lpsnet.__file__).with_name("photographs") / "china.jpg"
