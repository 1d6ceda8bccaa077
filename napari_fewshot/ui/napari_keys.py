"""The keys that napari itself uses, and what for: none of ours may be one of them."""

from contextlib import suppress
from typing import Any

from napari.settings import get_settings
from napari.utils.action_manager import action_manager
from qtpy.QtGui import QAction, QKeySequence
from qtpy.QtWidgets import QWidget

_PORTABLE = QKeySequence.SequenceFormat.PortableText


def portable(key: Any) -> str:
    """Write a key in Qt's portable notation, "" for one that Qt does not know.

    >>> portable("Ctrl+shift+c")
    'Ctrl+Shift+C'
    """
    return str(QKeySequence(str(key)).toString(_PORTABLE))


def keys_of_napari(window: QWidget | None = None) -> dict[str, str]:
    """Return what napari's keys mean, by key in Qt's portable notation.

    Parameters
    ----------
    window
        Whose menus are looked through as well.
    """
    found: dict[str, str] = {}
    for name, keys in get_settings().shortcuts.shortcuts.items():
        action = action_manager._actions.get(name)  # the only place that knows what an action is called
        title = f"napari ({action.description.strip().splitlines()[0].rstrip('.')})" if action is not None else "napari"
        found |= {portable(key): title for key in keys}
    for binding in _of_the_menus():
        found[portable(binding.keybinding)] = f"napari's menus ({binding.command_id.rpartition('.')[2]})"
    if window is not None:
        for shown in window.findChildren(QAction):
            if not shown.shortcut().isEmpty():
                found[portable(shown.shortcut().toString(_PORTABLE))] = f"the menu entry '{shown.text()}'"
    found.pop("", None)
    return found


def _of_the_menus() -> list[Any]:
    """Key bindings of napari's menus, which exist for Qt only once a menu was open."""
    with suppress(ImportError):  # napari 0.6 and newer
        from napari._app_model import get_app_model

        return list(get_app_model().keybindings)
    return []
