"""Which key presses which action: the one that it comes with, or another that a person chose. Knows no Qt."""

from collections.abc import Mapping
from typing import Final

from psygnal import Signal

from napari_fewshot.errors import SettingsError
from napari_fewshot.ui.actions import DEFAULT_KEYS, TITLES, Action


class Keymap:
    """A key, in Qt's portable notation ("Shift+T"), for each action; "" for none.

    Examples
    --------
    >>> keymap = Keymap()
    >>> keymap.change(Action.TEACH, "F9")
    >>> keymap[Action.TEACH], keymap.chosen
    ('F9', {'teach': 'F9'})
    >>> keymap.change(Action.ACCEPT, "F9")
    Traceback (most recent call last):
    napari_fewshot.errors.SettingsError: F9 is the key of 'Teach this slice' already; choose another one
    """

    changed = Signal()
    """An action has another key."""

    def __init__(self) -> None:
        self._keys = dict(DEFAULT_KEYS)

    def __getitem__(self, action: Action) -> str:
        return self._keys[action]

    @property
    def chosen(self) -> dict[str, str]:
        """What is to be remembered: the keys that are others than those that actions come with."""
        return {action.value: key for action, key in self._keys.items() if key != DEFAULT_KEYS[action]}

    def use(self, chosen: Mapping[str, str]) -> None:
        """Use remembered keys, and the others as they come; of two alike the one that was chosen stays."""
        keys = {action: chosen.get(action.value, key) for action, key in DEFAULT_KEYS.items()}
        for action, key in keys.items():
            if key and action.value not in chosen and key in chosen.values():
                keys[action] = ""
        self._set(keys)

    def change(self, action: Action, key: str, taken: Mapping[str, str] | None = None) -> None:
        """Give an action another key, or none.

        Parameters
        ----------
        action
            The action.
        key
            In Qt's portable notation; "" for none.
        taken
            Keys that mean something else already, and what.

        Raises
        ------
        SettingsError
            If the key belongs to something else; nothing is changed then.
        """
        others = {its_key: f"'{TITLES[other]}'" for other, its_key in self._keys.items() if other is not action}
        whose = {**(taken or {}), **others}.get(key, "") if key else ""
        if whose:
            raise SettingsError(f"{key} is the key of {whose} already; choose another one")
        self._set({**self._keys, action: key})

    def reset(self) -> None:
        """Give every action the key that it comes with."""
        self._set(dict(DEFAULT_KEYS))

    def _set(self, keys: dict[Action, str]) -> None:
        if keys != self._keys:
            self._keys = keys
            self.changed.emit()


KEYMAP: Final = Keymap()
"""The keys of this program: all docks have the same, as all windows of napari have."""


def on_button(action: Action, title: str | None = None) -> str:
    """Write an action with its key as on its button.

    >>> on_button(Action.TEACH)
    'Teach this slice  [Shift+T]'
    """
    key = KEYMAP[action]
    return f"{title or TITLES[action]}  [{key}]" if key else title or TITLES[action]


def with_key(action: Action, title: str | None = None) -> str:
    """Write an action with its key as in a sentence.

    >>> with_key(Action.TEACH)
    'Teach this slice (Shift+T)'
    """
    name, key = (title or TITLES[action]).removesuffix(" ..."), KEYMAP[action]
    return f"{name} ({key})" if key else name
