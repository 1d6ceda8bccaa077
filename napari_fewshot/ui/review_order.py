"""Which rows of the table are shown, and in which order: thousands of them in milliseconds. Knows no Qt."""

from collections.abc import Iterable, Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from napari_fewshot.ui.state import ReviewRow, Standing

Numbers = npt.NDArray[np.intp]
"""Numbers of rows in the order of frames."""


class Column(IntEnum):
    """What the columns show."""

    NAME = 0
    STANDING = 1
    SCORE = 2
    CLASSES = 3
    GAIN = 4
    """Never shown: to sort by."""


class ReviewOrder:
    """Sorts and filters rows; of rows that change only these are looked at again.

    Equal rows stay in the order of frames.
    """

    def __init__(self) -> None:
        self.column, self.descending = Column.GAIN, False
        self._standings: frozenset[Standing] = frozenset(Standing)
        self._text = ""
        self._keys = np.empty(0)
        self._are_shown = np.empty(0, bool)

    def sort_by(self, column: Column, *, descending: bool) -> None:
        """Sort by what a column shows, from `look_at` on."""
        self.column, self.descending = column, descending

    def show_only(self, standings: frozenset[Standing], text: str) -> bool:
        """Show rows that stand like this and have this in their name, in upper or lower case, from `look_at` on.

        Returns whether that is something else than before.
        """
        before, now = (self._standings, self._text), (standings, text.casefold())
        self._standings, self._text = now
        return before != now

    def look_at(self, rows: Sequence[ReviewRow], changed: Iterable[int] | None = None) -> Numbers:
        """Return the numbers of the rows to show, the first one first.

        Parameters
        ----------
        rows
            All of them.
        changed
            Those that are other ones than the last time; None for all.
        """
        if changed is None:
            self._keys, self._are_shown = np.empty(len(rows)), np.empty(len(rows), bool)
            changed = range(len(rows))
        for number in changed:
            row = rows[number]
            self._keys[number] = _sorted_by(row, self.column)
            self._are_shown[number] = row.standing in self._standings and self._text in row.name.casefold()
        shown = np.flatnonzero(self._are_shown)
        keys = self._keys[shown]
        return shown[np.argsort(-keys if self.descending else keys, kind="stable")]


def _sorted_by(row: ReviewRow, column: Column) -> float:
    if column is Column.GAIN:  # then all others, in their order
        return row.place + 1.0 if row.gain is None else -row.gain
    if column is Column.STANDING:
        return float(_STANDINGS[row.standing])
    if column is Column.SCORE:
        return -1.0 if row.score is None else row.score
    if column is Column.CLASSES:
        return -1.0 if row.area is None else row.area
    return float(row.place)


_STANDINGS = {standing: place for place, standing in enumerate(Standing)}
