"""What an array must look like before liblpsnet gets its address."""

from collections.abc import Sequence

import numpy as np

from lpsnet.native.library import FLOAT16, FLOAT32


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


def expect_logits(logits: np.ndarray) -> tuple[np.ndarray, int, bool]:
    """Logits as liblpsnet reads them: float32 or float16, and channels last where they lie so in memory, uncopied.

    Returns:
        The array, [C, h, w] or, contiguous, [h, w, C]; its LpsDtype; whether channels are last.

    Raises:
        ValueError: another dtype or shape than float32 or float16 [C, h, w].
    """
    logits = np.asarray(logits)
    number, dtype = (np.float16, FLOAT16) if logits.dtype == np.float16 else (np.float32, FLOAT32)
    if logits.dtype == number and logits.ndim == 3 and not logits.flags.c_contiguous:
        turned = logits.transpose(1, 2, 0)
        if turned.flags.c_contiguous:
            return turned, dtype, True
    return expect("logits", logits, number, ("C", "h", "w")), dtype, False
