"""Where the name of a model of timm is typed, with what is known of it below."""

from typing import Final

from qtpy.QtCore import QStringListModel, Qt, Signal
from qtpy.QtWidgets import QCompleter, QLineEdit, QVBoxLayout, QWidget

from napari_fewshot.ui.banner import wrapping_label
from napari_fewshot.ui.state import ModelState

_OFFERED: Final = 12
_TROUBLE: Final = "QLabel { border-left: 4px solid #f2c14e; padding-left: 6px; }"


class ModelBox(QWidget):
    """A line for the name, which offers those that there are, and a text."""

    named = Signal(str)
    """A name was typed in full, or chosen from those that are offered."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.line = QLineEdit()
        self.line.setPlaceholderText("convnext_tiny, vit_small_patch14_dinov2 ...")
        self.line.setClearButtonEnabled(True)
        self.line.setToolTip(
            "A model as timm names it. With @ and numbers, some of its stages or blocks, such as "
            "vit_small_patch14_dinov2@6,9,12. Press Enter to use it."
        )
        self.text = wrapping_label()
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._names = QStringListModel(self)
        completer = QCompleter(self._names, self)
        completer.setFilterMode(Qt.MatchFlag.MatchContains)
        completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        completer.setMaxVisibleItems(_OFFERED)
        self.line.setCompleter(completer)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.line)
        column.addWidget(self.text)
        self.line.returnPressed.connect(self._on_enter)
        completer.activated[str].connect(self.named)

    def show_model(self, state: ModelState) -> None:
        """Say what is known."""
        if state.names and self._names.rowCount() != len(state.names):
            self._names.setStringList(list(state.names))
        self.text.setText(state.text)
        self.text.setVisible(bool(state.text))
        self.text.setStyleSheet(_TROUBLE if state.is_trouble else "")

    def _on_enter(self) -> None:
        self.named.emit(self.line.text())
