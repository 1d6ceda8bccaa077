"""The list of classes: a colour, a name and an id each; a click makes one the brush."""

from collections.abc import Sequence
from dataclasses import replace

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QHeaderView,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.support import LabelClass
from napari_fewshot.ui.ports import PAINTED_BACKGROUND

_COLOUR, _NAME, _ID = range(3)


class ClassTable(QWidget):
    """Shows classes; says what a person wants to change and leaves the changing to others.

    Parameters
    ----------
    background_colour
        Of the row for painted background, ``#rrggbb``.
    """

    class_edited = Signal(object)
    brush_selected = Signal(int)

    def __init__(self, background_colour: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._classes: tuple[LabelClass, ...] = ()
        self._background_colour = background_colour
        self.table = QTableWidget(0, 3)
        self.table.setHorizontalHeaderLabels(["", "class", "id"])
        self.table.setToolTip("Click a class to paint with it. Double-click its name or its colour to change it.")
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        rows, header = self.table.verticalHeader(), self.table.horizontalHeader()
        assert rows is not None and header is not None
        rows.hide()
        self._header = header
        self.table.setSizeAdjustPolicy(QAbstractItemView.SizeAdjustPolicy.AdjustToContents)
        self.table.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        header.setSectionResizeMode(_COLOUR, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(_ID, QHeaderView.ResizeMode.ResizeToContents)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table)
        self.table.cellClicked.connect(self._on_click)
        self.table.cellDoubleClicked.connect(self._on_double_click)
        self.table.itemChanged.connect(self._on_changed)

    def show_classes(self, classes: Sequence[LabelClass], brush: int) -> None:
        """Draw the classes, the brush selected."""
        self.table.blockSignals(True)
        if tuple(classes) != self._classes or not self.table.rowCount():
            self._classes = tuple(classes)
            self.table.setRowCount(len(self._classes) + 1)
            for row, shown in enumerate(self._classes):
                self._fill(row, shown.colour, shown.name, shown.id)
            self._fill(len(self._classes), self._background_colour, "background", PAINTED_BACKGROUND)
            self.table.setMaximumHeight(8 * self.table.sizeHintForRow(0) + self._header.sizeHint().height())
            self.table.updateGeometry()
        row = next((row for row, c in enumerate(self._classes) if c.id == brush), len(self._classes))
        self.table.selectRow(row)
        self.table.blockSignals(False)

    def name_last(self) -> None:
        """Let a person type the name of the last class."""
        if self._classes:
            self.table.editItem(self.table.item(len(self._classes) - 1, _NAME))

    def _fill(self, row: int, colour: str, name: str, value: int) -> None:
        is_class = value != PAINTED_BACKGROUND
        swatch = QTableWidgetItem(_swatch(colour), "")
        swatch.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable)
        text = QTableWidgetItem(name)
        number = QTableWidgetItem(str(value) if is_class else "")
        number.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable)
        if not is_class:
            text.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable)
            for item in (swatch, text, number):
                item.setToolTip("Brush what is surely none of your classes; the rest of the slice is then unknown.")
        for column, item in ((_COLOUR, swatch), (_NAME, text), (_ID, number)):
            self.table.setItem(row, column, item)

    def _value(self, row: int) -> int:
        return self._classes[row].id if row < len(self._classes) else PAINTED_BACKGROUND

    def _on_click(self, row: int, column: int) -> None:
        self.brush_selected.emit(self._value(row))

    def _on_double_click(self, row: int, column: int) -> None:
        if column != _COLOUR or row >= len(self._classes):
            return
        old = self._classes[row]
        colour = QColorDialog.getColor(QColor(old.colour), self, f"Colour of '{old.name}'")
        if colour.isValid():
            self.class_edited.emit(replace(old, colour=colour.name()))

    def _on_changed(self, item: QTableWidgetItem) -> None:
        row = item.row()
        if item.column() != _NAME or row >= len(self._classes):
            return
        name = item.text().strip()
        old = self._classes[row]
        if name and name != old.name:
            self.class_edited.emit(replace(old, name=name))
        elif not name:
            self.table.blockSignals(True)
            item.setText(old.name)
            self.table.blockSignals(False)


def _swatch(colour: str) -> QIcon:
    pixmap = QPixmap(QSize(16, 16))
    pixmap.fill(QColor(colour))
    return QIcon(pixmap)
