"""Memory of the process that was freed, and is not the system's yet."""

import ctypes
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Return freed memory to the system, where the C library keeps it: glibc, in some milliseconds.

    After a few arrays of some MiB it takes those that follow from its heap (its threshold for mapping them rises by
    itself, mallopt(3)), and one small thing that stays above keeps all that was freed below: tens of MiB after
    each propagation of a stack.
    """
    _trim()(0)


@cache
def _trim() -> Callable[[int], object]:
    """`malloc_trim` of glibc; something that does nothing elsewhere."""
    try:
        found: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):  # Windows knows no None; macOS and musl no such function
        return int
    return found
