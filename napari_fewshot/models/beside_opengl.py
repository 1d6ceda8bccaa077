"""Importing torchvision and timm into a program with a window.

Both make torch look for triton, whose library has LLVM in it. On Linux, the drivers of Mesa have another LLVM, and
where a window has loaded them before, loading triton ends the whole program (a segmentation fault). This package has no
use for triton, so torch does not get to see it then.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Final

_LOCK: Final = RLock()


@contextmanager
def without_triton() -> Iterator[None]:
    """Hide triton from imports inside, where loading it would end the program."""
    with _LOCK:  # another thread must not come upon it before it is hidden from that one, too, or after it no longer is
        if "triton" in sys.modules or not _has_llvm():
            yield
            return
        sys.modules["triton"] = None  # type: ignore[assignment] # Python's way to say that there is no such module
        try:
            yield
        finally:
            del sys.modules["triton"]


def _has_llvm() -> bool:
    """Whether something in this process has loaded LLVM."""
    try:
        return "libLLVM" in Path("/proc/self/maps").read_text(errors="replace")
    except OSError:  # not Linux: nobody has heard of such an end there
        return False
