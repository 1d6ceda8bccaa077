"""The table of frames as Qt sees it: a model over frozen rows, of which it shows some, in some order."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, QTimer, Signal
from qtpy.QtGui import QFont, QImage, QPixmap

from napari_fewshot.frames import FrameKey
from napari_fewshot.support import LabelClass
from napari_fewshot.ui.next_step import percent
from napari_fewshot.ui.review_order import Column as Column
from napari_fewshot.ui.review_order import Numbers, ReviewOrder
from napari_fewshot.ui.state import ReviewRow, ReviewTable, Standing

ROW: Final = Qt.ItemDataRole.UserRole
"""The `ReviewRow` itself."""
PICTURE: Final = 32
"""Side of the small pictures, in pixels."""

_PIXMAPS = 400  # that are kept: some screens full
_NOTICED_ONE_BY_ONE = 64  # ranges of rows; of more, Qt is told at once
_ASK_MS = 30


_TITLES = {
    Column.NAME: ("image", "The slice, or the image. Click a row to go there."),
    Column.STANDING: ("state", "Where it stands. Corrected: you have changed what was proposed."),
    Column.SCORE: ("score", "How good the open proposal probably is: the overlap (IoU) to expect with the truth."),
    Column.CLASSES: (
        "labelled",
        "How much of it is labelled, and with which classes. A hollow square: you said that it contains this class.",
    ),
    Column.GAIN: ("gain", ""),
}


class ReviewModel(QAbstractTableModel):
    """Rows as they were shown last, sorted and filtered; tells Qt only of rows that are other ones now.

    Qt's own way, a `QSortFilterProxyModel`, asks Python for every comparison: a second for 10,000 rows.
    """

    pictures_wanted = Signal(object)
    """Keys of frames that are in sight and have no small picture yet."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[ReviewRow, ...] = ()
        self._order = ReviewOrder()
        self._numbers: Numbers = np.empty(0, np.intp)
        """Of the rows that are shown, by their place in the table."""
        self._places: dict[FrameKey, int] = {}
        self._classes: dict[int, LabelClass] = {}
        self._shown: FrameKey | None = None
        self._pixmaps: OrderedDict[FrameKey, tuple[object, QPixmap]] = OrderedDict()
        self._wanted: dict[FrameKey, None] = {}
        self._asking = QTimer(self)
        self._asking.setSingleShot(True)
        self._asking.setInterval(_ASK_MS)
        self._asking.timeout.connect(self._ask)
        self._blank = QPixmap(PICTURE, PICTURE)
        self._blank.fill(Qt.GlobalColor.transparent)

    # ------------------------------------------------------------------ new rows
    def show_table(self, table: ReviewTable, classes: Sequence[LabelClass]) -> bool:
        """Show other rows. Returns whether there are other frames now, so that nothing is selected any more."""
        named = {c.id: c for c in classes}
        renamed, self._classes = named != self._classes, named
        before, self._rows = self._rows, table.rows
        shown, self._shown = self._shown, table.shown
        if before is not table.rows and not _are_same_frames(before, table.rows):
            self.beginResetModel()
            self._places = {row.key: number for number, row in enumerate(table.rows)}
            self._pixmaps.clear()
            self._numbers = self._order.look_at(table.rows)
            self.endResetModel()
            return True
        changed = set()
        if before is not table.rows:
            changed = {number for number, (a, b) in enumerate(zip(before, table.rows, strict=True)) if a is not b}
            self._show(self._order.look_at(table.rows, changed))
        if shown != table.shown:
            changed |= {self._places[key] for key in (shown, table.shown) if key is not None and key in self._places}
        self._tell(np.arange(len(self._rows)) if renamed else np.array(sorted(changed), np.intp))
        return False

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by what a column shows."""
        self._order.sort_by(Column(column), descending=order == Qt.SortOrder.DescendingOrder)
        self._show(self._order.look_at(self._rows))

    def is_sorted_by(self, column: int, order: Qt.SortOrder) -> bool:
        """Whether rows are in this order."""
        return (self._order.column, self._order.descending) == (column, order == Qt.SortOrder.DescendingOrder)

    def show_only(self, standings: frozenset[Standing], text: str) -> None:
        """Show rows that stand like this and have this in their name, in upper or lower case."""
        if self._order.show_only(standings, text):
            self._show(self._order.look_at(self._rows))

    def _show(self, numbers: Numbers) -> None:
        """Show these rows in this order; what is selected stays so as long as it is shown.

        Rows that go are brought together at the end first, and those that come are put there.
        """
        before = self._numbers
        stay = np.isin(before, numbers, assume_unique=True)
        come = numbers[~np.isin(numbers, before, assume_unique=True)]
        left = int(stay.sum())
        if left < len(before):
            self._reorder(np.concatenate([before[stay], before[~stay]]))
            self.beginRemoveRows(QModelIndex(), left, len(before) - 1)
            self._numbers = self._numbers[:left]
            self.endRemoveRows()
        if len(come):
            self.beginInsertRows(QModelIndex(), left, left + len(come) - 1)
            self._numbers = np.concatenate([self._numbers, come])
            self.endInsertRows()
        self._reorder(numbers)

    def _reorder(self, numbers: Numbers) -> None:
        before = self._numbers
        if np.array_equal(before, numbers):
            return
        self.layoutAboutToBeChanged.emit()
        place_of = self._places_in(numbers)
        self._numbers = numbers
        kept = self.persistentIndexList()
        self.changePersistentIndexList(
            kept, [self.index(int(place_of[before[index.row()]]), index.column()) for index in kept]
        )
        self.layoutChanged.emit()

    def _places_in(self, numbers: Numbers) -> Numbers:
        """The place of each row in the table, by its number; -1 for one that is not shown."""
        places = np.full(len(self._rows), -1, np.intp)
        places[numbers] = np.arange(len(numbers))
        return places

    def _tell(self, changed: Numbers) -> None:
        """Tell Qt of rows, by their numbers, that look different."""
        places = self._places_in(self._numbers)[changed]
        ranges: list[list[int]] = []
        for number in np.sort(places[places >= 0]).tolist():
            if ranges and ranges[-1][1] == number - 1:
                ranges[-1][1] = number
            else:
                ranges.append([number, number])
        if len(ranges) > _NOTICED_ONE_BY_ONE:
            ranges = [[ranges[0][0], ranges[-1][1]]]
        for first, last in ranges:
            self.dataChanged.emit(self.index(first, 0), self.index(last, len(Column) - 1))

    # ------------------------------------------------------------------ what is asked for
    @property
    def count(self) -> int:
        """How many rows there are, shown or not."""
        return len(self._rows)

    def index_of(self, key: FrameKey | None) -> QModelIndex:
        """Return where the row of a frame is; an invalid index for one that is not shown."""
        if key is None or key not in self._places:
            return QModelIndex()
        place = int(self._places_in(self._numbers)[self._places[key]])
        return QModelIndex() if place < 0 else self.index(place, 0)

    @property
    def class_colours(self) -> dict[int, str]:
        """Colour of each class, ``#rrggbb``."""
        return {class_id: shown.colour for class_id, shown in self._classes.items()}

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: N802, B008 - Qt's own signature
        """One for each frame that is shown."""
        return 0 if parent.isValid() else len(self._numbers)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: N802, B008
        """See `Column`."""
        return 0 if parent.isValid() else len(Column)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: N802
        """Titles and hints of the columns."""
        if orientation != Qt.Orientation.Horizontal or role not in _HEADER_ROLES:
            return None
        return _TITLES[Column(section)][_HEADER_ROLES.index(role)]

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Say what a cell shows."""
        row = self._rows[self._numbers[index.row()]]
        if role == Qt.ItemDataRole.DisplayRole:
            return self._text(row, index.column())
        if role == ROW:
            return row
        if role == Qt.ItemDataRole.DecorationRole and index.column() == Column.NAME:
            return self._pixmap(row)
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._hint(row)
        if role == Qt.ItemDataRole.FontRole and row.key == self._shown:
            font = QFont()
            font.setBold(True)
            return font
        return None

    def _text(self, row: ReviewRow, column: int) -> str:
        if column == Column.NAME:
            return row.name
        if column == Column.STANDING:
            return row.standing.value
        if column == Column.SCORE:
            return "" if row.score is None else percent(row.score)
        if column == Column.CLASSES:
            return "" if row.area is None else _area(row.area)
        return ""

    def _hint(self, row: ReviewRow) -> str:
        lines = [f"{row.name}: {row.standing.value}" + ("" if row.score is None else f", score {percent(row.score)}")]
        if row.class_ids:
            lines.append(f"{self._names(row.class_ids)} on {row.pixels} pixels")
        if row.contains:
            lines.append(f"contains {self._names(row.contains)}")
        return "\n".join(lines)

    def _names(self, class_ids: Sequence[int]) -> str:
        return ", ".join(self._classes[i].name if i in self._classes else f"class {i}" for i in class_ids)

    # ------------------------------------------------------------------ small pictures
    def _pixmap(self, row: ReviewRow) -> QPixmap:
        if row.picture is None:
            self._wanted[row.key] = None
            if not self._asking.isActive():
                self._asking.start()
            return self._blank
        known = self._pixmaps.get(row.key)
        if known is not None and known[0] is row.picture:
            return known[1]
        height, width = row.picture.shape[:2]
        image = QImage(row.picture.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
        keep, smooth = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
        pixmap = QPixmap.fromImage(image).scaled(PICTURE, PICTURE, keep, smooth)
        self._pixmaps[row.key] = row.picture, pixmap
        while len(self._pixmaps) > _PIXMAPS:
            self._pixmaps.popitem(last=False)
        return pixmap

    def _ask(self) -> None:
        wanted, self._wanted = list(self._wanted), {}
        self.pictures_wanted.emit(wanted)


_HEADER_ROLES = (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole)


def _are_same_frames(before: Sequence[ReviewRow], now: Sequence[ReviewRow]) -> bool:
    return len(before) == len(now) and all(a is b or a.key == b.key for a, b in zip(before, now, strict=True))


def _area(share: float) -> str:
    return "< 1\u00a0%" if 0 < share < 0.01 else percent(share)
