"""Memory of the process."""

import ctypes
import gc


def give_back_freed_memory() -> None:
    """Gives the system back what was freed between allocations that live on: after a network was loaded, as much as its
    weights. Where the C library is not glibc, nothing happens.
    """
    gc.collect()
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; none by that name; Windows
        return
    trim(0)
