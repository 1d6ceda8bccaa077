"""How much memory and disk features may take, and where on the disk they lie. No torch in it: the dock reads it too."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import platformdirs

FOLDER_VARIABLE: Final = "NAPARI_FEWSHOT_CACHE"
"""Environment variable that names another folder for everything that can be computed or fetched again."""

GIB: Final = 1 << 30


def user_cache_folder() -> Path:
    """Return the folder that ``NAPARI_FEWSHOT_CACHE`` names, else the one this computer has for such files."""
    named = os.environ.get(FOLDER_VARIABLE, "").strip()
    return Path(named).expanduser() if named else platformdirs.user_cache_path("napari-fewshot", appauthor=False)


@dataclass(frozen=True)
class CacheSettings:
    """Limits of the features that are kept so that no image is computed twice.

    Raises
    ------
    ValueError
        If a limit is negative or not a number.
    """

    memory_gib: Annotated[float, "Memory for features, in GiB; 0 = off."] = 0.6
    disk_gib: Annotated[float, "Disk space for features, in GiB, so that they are there tomorrow; 0 = off."] = 10.0
    folder: Annotated[Path | None, "Where they lie on the disk; none = the usual place for such files."] = None

    def __post_init__(self) -> None:
        for name, gib in (("memory", self.memory_gib), ("disk space", self.disk_gib)):
            if not 0 <= gib < float("inf"):
                raise ValueError(f"the {name} for features is {gib} GiB; use 0 (off) or more")

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory at most."""
        return int(self.memory_gib * GIB)

    @property
    def disk_bytes(self) -> int:
        """Bytes on the disk at most."""
        return int(self.disk_gib * GIB)

    @property
    def features_folder(self) -> Path:
        """Folder of the features, inside the one that was named: nothing else in there is ever touched."""
        return (self.folder or user_cache_folder()) / "features"


@dataclass(frozen=True)
class CacheUsage:
    """What the kept features take at present."""

    memory_bytes: int
    disk_bytes: int
    entries: int
    """Images whose features are kept, in memory, on the disk or in both."""
