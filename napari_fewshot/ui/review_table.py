"""The table of frames in the dock: sort, filter, click to go there, select many."""

from collections.abc import Sequence

from qtpy.QtCore import QEvent, QModelIndex, QRect, QSize, Qt, Signal
from qtpy.QtGui import QColor, QKeyEvent, QPainter
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.frames import FrameKey
from napari_fewshot.support import LabelClass
from napari_fewshot.ui.review_model import PICTURE, ROW, Column, ReviewModel
from napari_fewshot.ui.state import Order, ReviewTable, Standing

_LEAST_ROWS, _MOST_ROWS = 2, 6
_BAR = 4  # pixels high
_SQUARE = 8
_PADDING = 12
_BAR_COLOUR, _TRACK_COLOUR = QColor("#3182bd"), QColor(128, 128, 128, 90)
_OPEN = frozenset({Standing.PROPOSED, Standing.CORRECTED})
_MOVING = (Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_PageUp, Qt.Key.Key_PageDown, Qt.Key.Key_Home, Qt.Key.Key_End)
_ORDER_HINTS = {
    Order.GAIN: "Proposals that are uncertain, or on images unlike all that you taught, come first: there a look "
    "brings most.",
    Order.PLACE: "As they follow each other in the stack, or in the list of layers.",
}


class ReviewPanel(QWidget):
    """The table, with what filters and orders it above it."""

    row_clicked = Signal(object)
    """Key of the frame to go to."""
    rows_selected = Signal(object)
    """Keys of the selected rows."""
    pictures_wanted = Signal(object)
    order_chosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.model = ReviewModel()
        self.table = _Table()
        self.table.setModel(self.model)
        self.table.setColumnHidden(Column.GAIN, True)
        self.table.setItemDelegate(_Cells(self.model, self.table))
        self.order = _box("In which order 'Next to review' goes, and the table is sorted.")
        for order in Order:
            self.order.addItem(order.value, order)
            self.order.setItemData(self.order.count() - 1, _ORDER_HINTS[order], Qt.ItemDataRole.ToolTipRole)
        self.filter = _box("Which rows are shown.")
        self.filter.addItem("all", frozenset(Standing))
        self.filter.addItem("to review", _OPEN)
        for standing in Standing:
            self.filter.addItem(standing.value, frozenset({standing}))
        self.search = QLineEdit()
        self.search.setPlaceholderText("part of a name")
        self.search.setToolTip("Show only rows with this in their name.")
        self.search.setClearButtonEnabled(True)
        self.selection = QLabel()
        self.selection.setWordWrap(True)
        self.selection.hide()
        self._shown_key: FrameKey | None = None
        self._lay_out()
        self._connect()

    def show_table(self, table: ReviewTable, classes: Sequence[LabelClass]) -> None:
        """Draw the table; what did not change is left alone."""
        other_frames = self.model.show_table(table, classes)
        self.order.setCurrentIndex(list(Order).index(table.order))
        self.selection.setText(table.selection)
        self.selection.setVisible(bool(table.selection))
        if other_frames:
            self.table.updateGeometry()
            self._on_selected()
        if other_frames or table.shown != self._shown_key:
            self._shown_key = table.shown
            self._bring_into_sight(table.shown)

    def _bring_into_sight(self, key: FrameKey | None) -> None:
        index = self.model.index_of(key)
        if index.isValid():
            self.table.scrollTo(index)
            selection = self.table.selectionModel()
            assert selection is not None
            selection.setCurrentIndex(index, selection.SelectionFlag.NoUpdate)

    def _lay_out(self) -> None:
        above = QHBoxLayout()
        above.setSpacing(4)
        above.addWidget(self.filter, 1)
        above.addWidget(self.search, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(above)
        column.addWidget(self.table)
        column.addWidget(self.selection)

    def _connect(self) -> None:
        self.table.clicked.connect(self._on_clicked)
        self.table.moved.connect(self._on_clicked)
        selection, header = self.table.selectionModel(), self.table.horizontalHeader()
        assert selection is not None and header is not None
        selection.selectionChanged.connect(self._on_selected)
        header.sectionClicked.connect(self._on_header)
        self.model.pictures_wanted.connect(self.pictures_wanted)
        self.order.activated.connect(self._on_order)
        self.filter.currentIndexChanged.connect(self._on_filter)
        self.search.textChanged.connect(self._on_filter)

    def _on_clicked(self, index: QModelIndex) -> None:
        row = index.data(ROW)
        if row is not None:
            self._shown_key = row.key  # it is in sight
            self.row_clicked.emit(row.key)

    def _on_selected(self) -> None:
        selection = self.table.selectionModel()
        assert selection is not None
        self.rows_selected.emit([index.data(ROW).key for index in selection.selectedRows(Column.NAME)])

    def _on_header(self, column: int) -> None:
        header = self.table.horizontalHeader()
        assert header is not None
        ascending, descending = Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder
        order = descending if self.model.is_sorted_by(column, ascending) else ascending
        header.setSortIndicatorShown(True)
        header.setSortIndicator(column, order)
        self.model.sort(column, order)

    def _on_order(self, row: int) -> None:
        header, order = self.table.horizontalHeader(), self.order.itemData(row)
        assert header is not None
        header.setSortIndicatorShown(False)
        self.model.sort(Column.GAIN if order is Order.GAIN else Column.NAME, Qt.SortOrder.AscendingOrder)
        self.order_chosen.emit(order)

    def _on_filter(self) -> None:
        self.model.show_only(self.filter.currentData(), self.search.text().strip())


class _Table(QTableView):
    """As high as its rows, within limits; wide columns where the font is large."""

    moved = Signal(object)
    """The index that the keyboard went to."""

    def __init__(self) -> None:
        super().__init__()
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setTextElideMode(Qt.TextElideMode.ElideLeft)  # which slice it is stands at the end
        self.setIconSize(QSize(PICTURE, PICTURE))
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        rows, header = self.verticalHeader(), self.horizontalHeader()
        assert rows is not None and header is not None
        rows.hide()
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header.setSectionsClickable(True)
        header.setHighlightSections(False)
        header.setMinimumSectionSize(20)
        self._rows, self._header = rows, header
        self._fit()

    def setModel(self, model: ReviewModel) -> None:  # type: ignore[override]  # noqa: N802
        """Show this."""
        super().setModel(model)
        self._fit()

    def sizeHint(self) -> QSize:  # noqa: N802
        """As high as its rows, from two to six of them."""
        model = self.model()
        count = 0 if model is None else model.count  # type: ignore[attr-defined]
        rows = max(_LEAST_ROWS, min(count, _MOST_ROWS))
        height = rows * self._rows.defaultSectionSize() + self._header.sizeHint().height() + 2 * self.frameWidth() + 2
        return QSize(super().sizeHint().width(), height)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """No lower than that; narrow enough for every screen."""
        return QSize(200, self.sizeHint().height())

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802
        """Follow the size of the font."""
        super().changeEvent(event)
        if event is not None and event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._fit()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802
        """Go to the row that the keyboard went to."""
        super().keyPressEvent(event)
        if event is not None and event.key() in _MOVING and self.currentIndex().isValid():
            self.moved.emit(self.currentIndex())

    def _fit(self) -> None:
        metrics = self.fontMetrics()
        self._rows.setDefaultSectionSize(max(PICTURE + 4, 2 * metrics.height()))
        if self.model() is None:
            return
        self._header.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        self._header.setSectionResizeMode(Column.NAME, QHeaderView.ResizeMode.Stretch)
        for column, widest in (
            (Column.STANDING, "nothing here"),
            (Column.SCORE, "100 %"),
            (Column.CLASSES, "labelled"),
        ):
            self._header.resizeSection(column, metrics.horizontalAdvance(widest) + _PADDING)
        self.updateGeometry()


class _Cells(QStyledItemDelegate):
    """Draws the score as a bar below its number, and classes as squares in their colours below their area."""

    def __init__(self, model: ReviewModel, parent: QWidget) -> None:
        super().__init__(parent)
        self._model = model

    def paint(self, painter: QPainter | None, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Draw a cell."""
        super().paint(painter, option, index)
        if painter is None:
            return
        if index.column() == Column.SCORE:
            self._paint_bar(painter, option.rect, index)
        elif index.column() == Column.CLASSES:
            self._paint_squares(painter, option.rect, index)

    def _paint_bar(self, painter: QPainter, cell: QRect, index: QModelIndex) -> None:
        score = index.data(ROW).score
        if score is None:
            return
        track = QRect(cell.left() + 3, cell.bottom() - _BAR - 2, cell.width() - 6, _BAR)
        painter.fillRect(track, _TRACK_COLOUR)
        track.setWidth(round(track.width() * score))
        painter.fillRect(track, _BAR_COLOUR)

    def _paint_squares(self, painter: QPainter, cell: QRect, index: QModelIndex) -> None:
        row, colours = index.data(ROW), self._model.class_colours
        tagged = [class_id for class_id in row.contains if class_id not in row.class_ids]
        left, top = cell.left() + 3, cell.bottom() - _SQUARE - 1
        for class_id in (*row.class_ids, *tagged):
            if left + _SQUARE > cell.right():
                break
            colour = QColor(colours.get(class_id, "#ff00ff"))
            square = QRect(left, top, _SQUARE - 1, _SQUARE - 1)
            painter.save()
            painter.setPen(colour)
            painter.setBrush(Qt.BrushStyle.NoBrush if class_id in tagged else colour)
            painter.drawRect(square)
            painter.restore()
            left += _SQUARE + 2


def _box(hint: str) -> QComboBox:
    box = QComboBox()
    box.setToolTip(hint)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(8)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return box
