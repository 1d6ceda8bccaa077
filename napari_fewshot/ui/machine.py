"""How much memory and disk this computer has to spare."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Room:
    """What is free, in bytes; None where nobody can tell."""

    memory: int | None
    disk: int | None


def room(folder: Path) -> Room:
    """Look at the memory, and at the disk that a folder lies on or will lie on."""
    return Room(_free_memory(), _free_disk(folder))


def _free_memory() -> int | None:
    """What programs can still get. Linux tells; elsewhere that is all the memory there is, if even that is told."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no such function
        return None


def _free_disk(folder: Path) -> int | None:
    for existing in (folder, *folder.parents):
        if existing.exists():
            try:
                return shutil.disk_usage(existing).free
            except OSError:
                return None
    return None
