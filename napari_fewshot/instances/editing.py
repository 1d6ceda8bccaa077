"""Mending objects by hand: put together, cut along a line, delete inside of a lasso; every change can be taken back."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi
from skimage.draw import line, polygon
from skimage.segmentation import watershed

from napari_fewshot.errors import MaskError
from napari_fewshot.frames import Instances
from napari_fewshot.instances.objects import EIGHT

Point = tuple[float, float]
"""Row and column, in pixels."""

_MOST: Final = 100
"""Changes that can be taken back."""


@dataclass(frozen=True, eq=False)
class Edit:
    """One change of a map of objects, as small as it is.

    Attributes
    ----------
    at
        (N,) indices into the flat map of pixels that changed.
    before, after
        (N,) their ids.
    what
        In words, for a menu.
    """

    at: npt.NDArray[np.int64]
    before: npt.NDArray[np.int32]
    after: npt.NDArray[np.int32]
    what: str


class ObjectEditor:
    """A map of objects that is mended by hand.

    Parameters
    ----------
    ids
        (H, W), 0 for no object. A copy is kept.
    free
        No piece gets a smaller number than this: where objects are linked, other slices have numbers as well.

    Examples
    --------
    >>> editor = ObjectEditor(np.array([[1, 1, 2, 2]]))
    >>> editor.merge([1, 2])
    True
    >>> editor.ids, editor.undo(), editor.ids
    (array([[1, 1, 1, 1]], dtype=int32), True, array([[1, 1, 2, 2]], dtype=int32))
    """

    def __init__(self, ids: npt.NDArray[np.integer], free: int = 1) -> None:
        self._ids = np.array(ids, np.int32)
        self._free = max(free, int(self._ids.max(initial=0)) + 1)
        self._done: list[Edit] = []
        self._undone: list[Edit] = []

    @property
    def ids(self) -> Instances:
        """(H, W) a copy of the map as it is now."""
        return self._ids.copy()

    @property
    def undoable(self) -> str:
        """What `undo` would take back, in words, or ""."""
        return self._done[-1].what if self._done else ""

    @property
    def redoable(self) -> str:
        """What `redo` would do again, in words, or ""."""
        return self._undone[-1].what if self._undone else ""

    def crossed(self, points: Sequence[Point]) -> list[int]:
        """Return the objects that a line goes over, ascending; of a single point the one that it lies on."""
        way = _drawn(points, self._ids.shape) if len(points) > 1 else _spot(points, self._ids.shape)
        return [int(number) for number in np.unique(self._ids[way]) if number]

    def merge(self, numbers: Sequence[int]) -> bool:
        """Make one object of several; it keeps the smallest number. Returns whether anything changed.

        Raises
        ------
        MaskError
            If one of them is not there.
        """
        self._check(numbers)
        several = np.isin(self._ids, numbers)
        kept = min(numbers, default=0)
        return self._change(np.where(several, kept, self._ids), f"put {len(set(numbers))} objects together")

    def split(self, points: Sequence[Point]) -> bool:
        """Cut every object that a line crosses from side to side. Returns whether anything changed.

        The largest piece keeps the number, the others get new ones; pixels of the line go to the nearest piece.
        An object that the line only enters stays whole.

        Parameters
        ----------
        points
            Two or more corners of the line, in the image or outside of it.
        """
        cut = _drawn(points, self._ids.shape)
        changed = self._ids.copy()
        free = self._free
        for number in np.unique(self._ids[cut]):
            if number == 0:
                continue
            own = self._ids == number
            whole = ndi.label(own, EIGHT)[1]
            pieces, count = ndi.label(own & ~cut, EIGHT)
            if count <= whole:
                continue
            pieces = watershed(np.zeros(own.shape, np.uint8), pieces, mask=own, connectivity=2)
            largest = 1 + int(np.bincount(pieces[own])[1:].argmax())
            for piece in range(1, count + 1):
                if piece != largest:
                    changed[pieces == piece] = free
                    free += 1
        return self._change(changed, "cut objects along a line")

    def delete_inside(self, points: Sequence[Point]) -> bool:
        """Delete all objects of which more than half lies inside of a lasso. Returns whether anything changed.

        Parameters
        ----------
        points
            Three or more corners; the last one is joined with the first.
        """
        if len(points) < 3:
            raise MaskError(f"a lasso of {len(points)} point(s) encloses nothing; draw it around what is to go")
        inside = np.zeros(self._ids.shape, bool)
        rows, columns = np.array(points, float).T
        inside[polygon(rows, columns, self._ids.shape)] = True
        known, position = np.unique(self._ids, return_inverse=True)
        within = np.bincount(position.ravel(), inside.ravel(), len(known))
        gone = known[2 * within > np.bincount(position.ravel(), minlength=len(known))]
        return self._change(np.where(np.isin(self._ids, gone), 0, self._ids), "deleted objects inside of a lasso")

    def undo(self) -> bool:
        """Take back the last change. Returns whether there was one."""
        return self._go(self._done, self._undone, back=True)

    def redo(self) -> bool:
        """Do again what was taken back last. Returns whether there was anything."""
        return self._go(self._undone, self._done, back=False)

    def _check(self, numbers: Sequence[int]) -> None:
        missing = sorted(set(numbers) - set(np.unique(self._ids[self._ids > 0]).tolist()))
        if missing:
            raise MaskError(f"there is no object {missing[0]} here; pick one that is shown")

    def _change(self, changed: npt.NDArray[np.integer], what: str) -> bool:
        at = np.flatnonzero(changed != self._ids)
        if not len(at):
            return False
        edit = Edit(at, self._ids.flat[at].copy(), changed.flat[at].astype(np.int32), what)
        self._ids.flat[at] = edit.after
        self._free = max(self._free, int(edit.after.max()) + 1)  # a number that was given is not given again
        self._done = [*self._done, edit][-_MOST:]
        self._undone = []
        return True

    def _go(self, here: list[Edit], there: list[Edit], *, back: bool) -> bool:
        if not here:
            return False
        edit = here.pop()
        self._ids.flat[edit.at] = edit.before if back else edit.after
        there.append(edit)
        return True


def _spot(points: Sequence[Point], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """(H, W) True on the pixels that points lie in."""
    spot = np.zeros(shape, bool)
    for row, column in np.rint(np.array(points, float).reshape(-1, 2)).astype(int):
        if 0 <= row < shape[0] and 0 <= column < shape[1]:
            spot[row, column] = True
    return spot


def _drawn(points: Sequence[Point], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """(H, W) True on the line, which lets nothing through at corners: it is widened to the right."""
    if len(points) < 2:
        raise MaskError(f"a line of {len(points)} point(s) cuts nothing; draw it across an object")
    cut = np.zeros(shape, bool)
    corners = np.rint(np.array(points, float)).astype(int)
    for start, end in pairwise(corners):
        rows, columns = line(*start, *end)
        seen = (rows >= 0) & (columns >= 0) & (rows < shape[0]) & (columns < shape[1])
        cut[rows[seen], columns[seen]] = True
    cut[:, 1:] |= cut[:, :-1].copy()
    return cut
