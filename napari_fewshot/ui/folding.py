"""A part of the dock that can be folded away."""

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QSizePolicy, QToolButton, QVBoxLayout, QWidget


class Folding(QWidget):
    """A title, and below it a widget that is seen when somebody clicks on the title.

    Unlike superqt's, it grows with what is in it.
    """

    def __init__(self, title: str, content: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.header, self.content = QToolButton(), content
        self.header.setText(title)
        self.header.setCheckable(True)
        self.header.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.header.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.header.setStyleSheet("QToolButton { text-align: left; padding: 4px; font-weight: bold; }")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.header)
        column.addWidget(content)
        self.header.toggled.connect(self._on_toggled)
        self._on_toggled(False)

    @property
    def is_open(self) -> bool:
        """Whether the content is seen."""
        return self.header.isChecked()

    def open(self) -> None:
        """Show the content."""
        self.header.setChecked(True)

    def fold(self) -> None:
        """Hide the content."""
        self.header.setChecked(False)

    def _on_toggled(self, is_open: bool) -> None:
        self.header.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
        self.content.setVisible(is_open)
