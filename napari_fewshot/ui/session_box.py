"""The part of the dock about the session on the disk: whether and where it is saved."""

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_fewshot.ui.banner import wrapping_label
from napari_fewshot.ui.preferences import Preferences
from napari_fewshot.ui.section import row


class SessionBox(QWidget):
    """What becomes of the session, and two choices about it.

    Parameters
    ----------
    preferences
        To begin with.
    """

    saving_chosen = Signal(bool, bool)
    """Whether to save by itself, and whether beside the images."""
    opening_cancelled = Signal()

    def __init__(self, preferences: Preferences, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.autosave = QCheckBox("Save by itself")
        self.autosave.setChecked(preferences.autosave)
        self.autosave.setToolTip("Whatever you do is on the disk a few seconds later, also if the computer crashes.")
        self.beside = QCheckBox("Beside the images")
        self.beside.setChecked(preferences.beside)
        self.beside.setToolTip("Save new sessions in the folder of the images, otherwise in your folder for data.")
        self.line = QLabel()
        self.line.setWordWrap(True)
        self.line.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.line.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)  # paths are long
        self.opening, self.cancel = wrapping_label(), QPushButton("Cancel")
        self.cancel.setToolTip("Do not open the session; what you were at stays as it is.")
        self._how_far = row(self.opening, self.cancel, stretch=(1, 0))
        self._how_far.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for widget in (self._how_far, self.autosave, self.beside, self.line):
            column.addWidget(widget)
        self.autosave.toggled.connect(self._on_choice)
        self.beside.toggled.connect(self._on_choice)
        self.cancel.clicked.connect(self.opening_cancelled)

    def show_line(self, line: str) -> None:
        """Say what becomes of the session."""
        breakable = line.replace("/", "/\u200b").replace("\\", "\\\u200b")  # a line may end after a folder
        self.line.setText(breakable)
        self.line.setToolTip(line)

    def show_opening(self, line: str) -> None:
        """Say how far the opening of another session is; "" where none is opened."""
        self.opening.setText(line)
        self._how_far.setVisible(bool(line))

    def _on_choice(self) -> None:
        self.saving_chosen.emit(self.autosave.isChecked(), self.beside.isChecked())
