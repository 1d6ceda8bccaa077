"""Text that a person has to read: on a coloured ground until they have, or of a height that does not jump."""

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QToolButton


class Banner(QFrame):
    """A message on a coloured ground that stays until somebody has read it."""

    def __init__(self, name: str, ground: str, ink: str) -> None:
        super().__init__()
        self.setObjectName(name)
        self.setStyleSheet(f"#{name} {{ background: {ground}; border-radius: 4px; }} QLabel {{ color: {ink}; }}")
        self.text = wrapping_label()
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.close_button = QToolButton()
        self.close_button.setText("✕")
        self.close_button.setToolTip("I have read it")
        self.close_button.setStyleSheet(f"QToolButton {{ color: {ink}; background: transparent; border: none; }}")
        row = QHBoxLayout(self)
        row.setContentsMargins(6, 4, 4, 4)
        row.addWidget(self.text, 1)
        row.addWidget(self.close_button, 0, Qt.AlignmentFlag.AlignTop)
        self.hide()

    def show_text(self, text: str) -> None:
        """Show a message; "" is none."""
        show_text(self.text, text)
        self.setVisible(bool(text))


class SteadyLabel(QLabel):
    """Text of several lines that keeps its height when it gets shorter, so that nothing below it jumps."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        self._lines = lines
        self.setWordWrap(True)
        self.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)

    def heightForWidth(self, width: int) -> int:  # noqa: N802
        """As high as its text, and at least as high as its lines."""
        return max(super().heightForWidth(width), self._lines * self.fontMetrics().lineSpacing() + 4)


def wrapping_label() -> QLabel:
    """Text of several lines that takes the width that there is: what it says makes the dock no wider."""
    label = QLabel()
    label.setWordWrap(True)
    label.setMinimumWidth(1)
    return label


def show_text(label: QLabel, text: str) -> None:
    """Show a text, or nothing where it is empty."""
    label.setText(text)
    label.setVisible(bool(text))
