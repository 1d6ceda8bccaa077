"""How the dock is divided: sections with a title, and rows in them."""

from qtpy.QtWidgets import QGroupBox, QHBoxLayout, QVBoxLayout, QWidget


def section(title: str, *rows: QWidget) -> QGroupBox:
    """Return widgets below each other, with a title."""
    box = QGroupBox(title)
    column = QVBoxLayout(box)
    column.setContentsMargins(6, 6, 6, 6)
    column.setSpacing(4)
    for each in rows:
        column.addWidget(each)
    return box


def row(*widgets: QWidget, stretch: tuple[int, ...] = ()) -> QWidget:
    """Return widgets beside each other, all as wide as each other unless told otherwise."""
    together = QWidget()
    layout = QHBoxLayout(together)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    for number, widget in enumerate(widgets):
        layout.addWidget(widget, stretch[number] if stretch else 1)
    return together
