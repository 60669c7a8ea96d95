"""What to do with a file of a data set that is missing or does not fit."""

from collections.abc import Callable
from typing import NoReturn

OnFault = Callable[[Exception], None]
"""Called with each fault that indexing a data set finds. Where it returns, the image at fault is left out."""


def stop(fault: Exception) -> NoReturn:
    """The default: raises the first fault, so that no training and no score goes over a part of a data set unseen."""
    raise fault
