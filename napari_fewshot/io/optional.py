"""Libraries that only some file formats need."""

from importlib import import_module
from typing import Any

from napari_fewshot.errors import SettingsError


def needed(module: str, extra: str, what: str) -> Any:
    """Import a library of an extra.

    Parameters
    ----------
    module
        What to import.
    extra
        Of this package, that brings it.
    what
        What it is needed for, for the message.

    Raises
    ------
    SettingsError
        If it is not installed; the message says how to.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{what} needs '{error.name}', which is not installed; run: pip install \"napari-fewshot[{extra}]\""
        ) from error
