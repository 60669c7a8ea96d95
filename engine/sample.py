"""A photograph to try a model on, from a package that ships it."""

from importlib.util import find_spec
from pathlib import Path


def sample_photograph() -> Path:
    """The path of scikit-learn's china.jpg, a street with trees and buildings under the sky.

    Raises:
        ValueError: scikit-learn is not installed; the message says how to get it.
    """
    spec = find_spec("sklearn")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "datasets" / "images" / "china.jpg"
        if path.is_file():
            return path
    raise ValueError("sample: expected scikit-learn with its photographs; install lpsnet[demo]")
