"""A window in which keys are changed: an action in each row, with its key."""

from functools import partial

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QKeySequenceEdit,
    QLabel,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.errors import SettingsError
from napari_fewshot.ui.actions import HINTS, TITLES, Action
from napari_fewshot.ui.keymap import Keymap
from napari_fewshot.ui.napari_keys import keys_of_napari, portable


class KeysDialog(QDialog):
    """Shows every action with its key; a key that belongs to something else is refused with a message.

    Parameters
    ----------
    keymap
        Is changed at once.
    window
        Whose menus have keys too.
    """

    def __init__(self, keymap: Keymap, window: QWidget | None = None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keys of few-shot propagation")
        self._keymap, self._taken = keymap, keys_of_napari(window)
        self.message = QLabel("Click a key, then press another one. Backspace leaves an action without a key.")
        self.message.setWordWrap(True)
        rows, content = QGridLayout(), QWidget()
        content.setLayout(rows)
        self.edits: dict[Action, QKeySequenceEdit] = {}
        for number, action in enumerate(Action):
            title, edit = QLabel(TITLES[action].removesuffix(" ...")), QKeySequenceEdit(QKeySequence(keymap[action]))
            title.setToolTip(HINTS[action])
            title.setBuddy(edit)
            edit.editingFinished.connect(partial(self._take, action))
            rows.addWidget(title, number, 0)
            rows.addWidget(edit, number, 1)
            self.edits[action] = edit
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(content)
        buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.RestoreDefaults | QDialogButtonBox.StandardButton.Close
        )
        self.defaults = buttons.button(QDialogButtonBox.StandardButton.RestoreDefaults)
        assert self.defaults is not None
        self.defaults.clicked.connect(self._reset)
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.addWidget(self.message)
        column.addWidget(scroll, 1)
        column.addWidget(buttons)
        self.resize(content.sizeHint().width() + 60, 480)

    def _take(self, action: Action) -> None:
        edit = self.edits[action]
        key = portable(edit.keySequence().toString(QKeySequence.SequenceFormat.PortableText))
        if key in ("Backspace", "Del"):
            key = ""
        if key == self._keymap[action]:
            self._show()
            return
        try:
            if "," in key.removesuffix(","):  # several keys, one after the other
                raise SettingsError(f"{key} are several keys; press one, with Shift, Ctrl or Alt if you like")
            self._keymap.change(action, key, self._taken)
        except SettingsError as error:
            self.message.setText(f"Not changed: {error}.")
        else:
            self.message.setText(f"'{TITLES[action].removesuffix(' ...')}' is {key or 'without a key'} now.")
        self._show()

    def _reset(self) -> None:
        self._keymap.reset()
        self.message.setText("Every action has the key again that it came with.")
        self._show()

    def _show(self) -> None:
        """Show the keys as they are, whatever was typed."""
        for action, edit in self.edits.items():
            edit.blockSignals(True)
            edit.setKeySequence(QKeySequence(self._keymap[action]))
            edit.blockSignals(False)
