"""What the dock remembers from one day to the next: a small JSON file in the folder for settings of this computer."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

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
    advanced
        Whether the dock shows everything that there is, not only what is needed every day.
    keys
        Keys by the value of their `Action`, as far as they are others than those that actions come with.

    Raises
    ------
    ValueError
        If a limit is negative or not a number, or keys are not text.
    """

    memory_gib: float = CacheSettings.memory_gib
    disk_gib: float = CacheSettings.disk_gib
    prepare: bool = True
    autosave: bool = True
    beside: bool = False
    advanced: bool = False
    keys: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        CacheSettings(self.memory_gib, self.disk_gib)  # checks them
        if not isinstance(self.keys, dict) or not all(isinstance(key, str) for key in self.keys.values()):
            raise ValueError(f"keys are {self.keys!r}")

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
    """Return what was chosen; the defaults where nothing was, or where the file makes no sense.

    What a newer version wrote beside it is passed over.
    """
    known = {each.name for each in fields(Preferences)}
    try:
        written = json.loads(preferences_file().read_text("utf-8"))
        return Preferences(**{name: value for name, value in written.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError):
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


def change_preferences(**changes: Any) -> Preferences:
    """Keep these of the preferences, and return all; what another window chose meanwhile stays.

    Parameters
    ----------
    changes
        Attributes of `Preferences`.

    Raises
    ------
    ExportError
        If the file cannot be written.
    """
    preferences = replace(read_preferences(), **changes)
    write_preferences(preferences)
    return preferences
