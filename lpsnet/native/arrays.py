"""What an array must look like before liblpsnet gets its address."""

from collections.abc import Sequence

import numpy as np


def expect(name: str, array: np.ndarray, dtype: type, shape: Sequence[int | str]) -> np.ndarray:
    """The array, or a contiguous copy. bool counts as uint8.

    Raises:
        ValueError: another dtype or shape; a string stands for any size.
    """
    array = np.asarray(array)
    if array.dtype == bool and dtype is np.uint8:
        array = array.view(np.uint8)
    fits = array.ndim == len(shape) and all(
        isinstance(want, str) or want == got for want, got in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{name}: expected {np.dtype(dtype)} [{wanted}], got {array.dtype} {list(array.shape)}")
    return np.ascontiguousarray(array)
