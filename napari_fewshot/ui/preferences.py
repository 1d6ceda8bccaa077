"""What the dock remembers from one day to the next: a small JSON file in the folder for settings of this computer."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import platformdirs

from napari_fewshot.io.atomic import replacing
from napari_fewshot.models.cache_settings import CacheSettings

FOLDER_VARIABLE: Final = "NAPARI_FEWSHOT_CONFIG"
"""Environment variable that names another folder for the file."""


@dataclass(frozen=True)
class Preferences:
    """What a person chose once and for all.

    Attributes
    ----------
    memory_gib, disk_gib
        Limits of the features that are kept, in GiB; 0 = off.
    prepare
        Whether images are prepared while somebody paints.
    autosave
        Whether sessions are saved by themselves.
    beside
        Whether they are saved beside the images instead of in the folder for data of the user.

    Raises
    ------
    ValueError
        If a limit is negative or not a number.
    """

    memory_gib: float = CacheSettings.memory_gib
    disk_gib: float = CacheSettings.disk_gib
    prepare: bool = True
    autosave: bool = True
    beside: bool = False

    def __post_init__(self) -> None:
        CacheSettings(self.memory_gib, self.disk_gib)  # checks them

    @property
    def cache(self) -> CacheSettings:
        """The limits of the features."""
        return CacheSettings(self.memory_gib, self.disk_gib)


def preferences_file() -> Path:
    """Return where preferences are kept; it need not exist."""
    named = os.environ.get(FOLDER_VARIABLE, "").strip()
    folder = Path(named).expanduser() if named else platformdirs.user_config_path("napari-fewshot", appauthor=False)
    return folder / "preferences.json"


def read_preferences() -> Preferences:
    """Return what was chosen; the defaults where nothing was, or where the file makes no sense."""
    try:
        return Preferences(**json.loads(preferences_file().read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return Preferences()


def write_preferences(preferences: Preferences) -> None:
    """Keep what was chosen.

    Raises
    ------
    ExportError
        If the file cannot be written.
    """
    with replacing(preferences_file(), overwrite=True) as file:
        file.write(json.dumps(asdict(preferences), indent=2).encode())
