"""All buttons of the dock, one for each action: what is written on them, and which can be pressed."""

from collections.abc import Callable, Collection, Iterator, Mapping

from qtpy.QtWidgets import QPushButton

from napari_fewshot.ui.actions import HINTS, TITLES, Action
from napari_fewshot.ui.keymap import on_button
from napari_fewshot.ui.state import Overlay
from napari_fewshot.ui.tour_box import FRAME

_OVERLAYS = {
    Action.UNCERTAINTY: Overlay.UNCERTAINTY,
    Action.CHANGE: Overlay.CHANGE,
    Action.PROBABILITY: Overlay.PROBABILITY,
    Action.PROVENANCE: Overlay.PROVENANCE,
}
_SWITCHES = (*_OVERLAYS, Action.VIEW, Action.PREVIEW, Action.MERGE, Action.SPLIT, Action.DELETE)


class ActionButtons(Mapping[Action, QPushButton]):
    """Makes the buttons.

    Parameters
    ----------
    made
        Those that were made elsewhere: they open a menu by themselves.
    on_click
        Called when one of the others is clicked; its name is the value of its `Action`.
    """

    def __init__(self, made: Mapping[Action, QPushButton], on_click: Callable[[], None]) -> None:
        self._titles: dict[Action, str] = {}
        self._buttons = {action: _button(action, made.get(action)) for action in Action}
        for action in self._buttons.keys() - made.keys():
            self._buttons[action].clicked.connect(on_click)

    def __getitem__(self, action: Action) -> QPushButton:
        return self._buttons[action]

    def __iter__(self) -> Iterator[Action]:
        return iter(self._buttons)

    def __len__(self) -> int:
        return len(self._buttons)

    def retitle(self, action: Action, title: str | None) -> None:
        """Write something else on a button than its title, None for that again."""
        title = title or TITLES[action]
        if self._titles.get(action, TITLES[action]) != title:
            self._titles[action] = title
            self._buttons[action].setText(on_button(action, title))

    def note_title(self, action: Action, title: str) -> None:
        """Remember what a button that was made elsewhere has written on itself."""
        self._titles[action] = title

    def show_keys(self) -> None:
        """Write the keys on the buttons as they are now."""
        for action, button in self._buttons.items():
            button.setText(on_button(action, self._titles.get(action)))

    def enable(self, actions: Collection[Action]) -> None:
        """Let these be pressed, and no others."""
        for action, button in self._buttons.items():
            button.setEnabled(action in actions)

    def show_overlay(self, shown: Overlay | None) -> None:
        """Let the button of what lies over the slice look pressed."""
        for action, overlay in _OVERLAYS.items():
            self._buttons[action].setChecked(shown is overlay)

    def frame(self, framed: Action | None) -> None:
        """Draw a frame around one button, and no other."""
        for action, button in self._buttons.items():
            style = FRAME if action is framed else ""
            if button.styleSheet() != style:
                button.setStyleSheet(style)


def _button(action: Action, made: QPushButton | None) -> QPushButton:
    button = made or QPushButton()
    button.setText(on_button(action))
    button.setToolTip(HINTS[action])
    button.setEnabled(False)
    button.setObjectName(action.value)
    button.setCheckable(action in _SWITCHES)
    return button
