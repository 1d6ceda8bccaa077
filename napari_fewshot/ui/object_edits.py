"""Tools for objects: put together, cut along a line, delete inside of a lasso, link. Knows neither Qt nor napari."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import SupportError
from napari_fewshot.frames import FrameKey, Instances, image_name
from napari_fewshot.session import Session
from napari_fewshot.support import Shot
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.keymap import with_key
from napari_fewshot.ui.layer_sync import LayerSync
from napari_fewshot.ui.objects import Objects
from napari_fewshot.ui.ports import Layers
from napari_fewshot.ui.state import ObjectTool
from napari_fewshot.ui.teaching import Teaching

if TYPE_CHECKING:
    from napari_fewshot.instances.editing import ObjectEditor

Point = tuple[float, float]
"""Row and column, in pixels of the frame."""

_HOW = {
    ObjectTool.MERGE: "Click one object, then the other, or draw a line over all that belong together.",
    ObjectTool.SPLIT: "Draw a line across an object, from outside to outside.",
    ObjectTool.DELETE: "Draw a line around what is to go.",
}
_REMEMBERED = 100
_MOVED_RADII = 1.0  # that the centre of an object may move from one time to the next


@dataclass(frozen=True, eq=False)
class _Repainted:
    """What a tool changed on the labels layer of a slice that was taught: napari's undo knows nothing of it.

    Attributes
    ----------
    key
        The slice.
    shot
        That was taught with it.
    before, after
        (H, W) what was painted.
    """

    key: FrameKey
    shot: Shot
    before: npt.NDArray[np.integer]
    after: npt.NDArray[np.integer]


class ObjectEdits:
    """What lines mean that are drawn over objects with one of the tools.

    On an open proposal an edit is a correction. A slice that was taught or accepted is taught anew with it. On any
    other it is painted on the layer of objects, as with a brush.

    Parameters
    ----------
    session
        Has the objects.
    layers, sync
        Show them; lines are drawn there.
    objects
        Knows whether objects are told apart.
    teaching
        Teaches slices anew.
    """

    def __init__(self, session: Session, layers: Layers, sync: LayerSync, objects: Objects, teaching: Teaching) -> None:
        self.tool: ObjectTool | None = None
        """The tool in hand."""
        self.note = ""
        """What to do with it, or what came of it, in words."""
        self._session, self._layers, self._sync = session, layers, sync
        self._objects, self._teaching = objects, teaching
        self._first: tuple[FrameKey, int] | None = None  # the object that was clicked, to be put together with another
        self._repainted: list[_Repainted] = []

    # ------------------------------------------------------------------ tools
    def take(self, tool: ObjectTool) -> None:
        """Take a tool; one that is in hand already is put away.

        Raises
        ------
        SupportError
            If objects are not told apart.
        """
        if tool is self.tool:
            self.put_away()
            return
        key = self._sync.shown()
        if not self._objects.are_told_apart or self._layers.objects(key) is None:
            raise SupportError("objects are not told apart; tick 'Separate touching objects' above Propose first")
        self._layers.take_tool(key)
        self.tool, self._first, self.note = tool, None, _HOW[tool]

    def put_away(self) -> None:
        """Put the tool away."""
        if self.tool is not None:
            self.tool, self._first, self.note = None, None, ""
            self._layers.drop_tool()

    def drawn(self, points: Sequence[Point]) -> None:
        """Do what a line means that was drawn on the slice on screen; one point is a click.

        Raises
        ------
        SupportError
            If there are no objects.
        MaskError
            If the line is none that the tool can do anything with.
        """
        from napari_fewshot.instances.editing import ObjectEditor  # slow to import, and the dock opens without

        if self.tool is None:
            return
        key = self._sync.shown()
        self._sync.take_corrections(key)
        waiting = self._session.proposal(key)
        ids = self._layers.objects(key) if waiting is None else waiting.instances
        if ids is None or not ids.any():
            raise SupportError(f"there are no objects on '{self._layers.name(key)}'; press {with_key(Action.PROPOSE)}")
        editor = ObjectEditor(np.maximum(ids, 0), self._session.free_number(key))
        if not self._edited(editor, key, points):
            return
        if waiting is None:
            self._repaint(key, editor.ids)
        else:
            self._session.mend(key, editor.ids)
            self._sync.show_proposals([key])

    def _edited(self, editor: "ObjectEditor", key: FrameKey, points: Sequence[Point]) -> bool:
        """Whether the tool changed anything; says what came of it."""
        match self.tool:
            case ObjectTool.MERGE:
                return self._merged(editor, key, points)
            case ObjectTool.SPLIT:
                changed = editor.split(points)
                self.note = _HOW[ObjectTool.SPLIT] if changed else "The line cuts no object from side to side."
            case _:
                changed = editor.delete_inside(points)
                self.note = _HOW[ObjectTool.DELETE] if changed else "No object lies mostly inside of the line."
        return changed

    def _merged(self, editor: "ObjectEditor", key: FrameKey, points: Sequence[Point]) -> bool:
        found = editor.crossed(points)
        if len(found) == 1 and self._first is not None and self._first[0] == key and self._first[1] in editor.ids:
            found = sorted({*found, self._first[1]})
        if len(found) > 1:
            self._first, self.note = None, _HOW[ObjectTool.MERGE]
            return editor.merge(found)
        self._first = (key, found[0]) if found else None
        how = _HOW[ObjectTool.MERGE]
        self.note = "Now click the one that belongs to it." if found else f"There is no object. {how}"
        return False

    # ------------------------------------------------------------------ slices without an open proposal
    def _repaint(self, key: FrameKey, ids: Instances) -> None:
        """Write edited objects on their layer; a slice that is taught or accepted learns of it."""
        from napari_fewshot.instances.mending import relabelled

        is_decided, there = self._session.objects(key) is not None, self._layers.objects(key)
        self._layers.write_objects(key, ids)
        if not is_decided or there is None:
            return
        self._sync.ensure_labels(image_name(key))
        before = self._sync.painted(key)
        after = relabelled(before.astype(np.uint8), np.maximum(there, 0), ids)
        self._layers.restore_painted(key, after.astype(np.int32))
        if after.any():
            self._teaching.teach()
        else:
            self._teaching.nothing_here()
        shot = self._shot(key)
        if shot is not None and not np.array_equal(before, after):
            self._repainted = [*self._repainted, _Repainted(key, shot, before, after)][-_REMEMBERED:]

    def follow_undo(self) -> None:
        """Take back on labels layers, or do again, what went with a decision that was taken back or done again."""
        for each in self._repainted:
            painted, is_on = self._layers.painted(each.key), self._shot(each.key) is each.shot
            if painted is not None and np.array_equal(painted, each.before if is_on else each.after):
                self._layers.restore_painted(each.key, (each.after if is_on else each.before).astype(np.int32))

    def _shot(self, key: FrameKey) -> Shot | None:
        return next((shot for shot in self._session.support if shot.key == key), None)

    # ------------------------------------------------------------------ through a stack
    def link(self) -> None:
        """Give the same object one number on all slices, or times, of the image on screen.

        Raises
        ------
        SupportError
            If it is a single slice, or has objects on no two of them.
        """
        key = self._sync.shown()
        uid = image_name(key)
        axes = next((image.stack_axes for image in self._layers.images() if image.uid == uid), "")
        if not axes:
            raise SupportError(f"'{self._layers.name(key)}' is a single slice; objects are linked through a stack")
        self._sync.take_all_corrections()
        of_image = [k for k in self._session.frames if image_name(k) == uid]
        if sum(_is_any(self._session.objects(k, with_proposals=True)) for k in of_image) < 2:
            raise SupportError(f"there are no objects to link yet; press {with_key(Action.PROPOSE)} first")
        preferred = self._session.propagation.volume.along
        along = preferred if preferred and preferred in axes else axes[-1]
        changed = self._session.link_objects(uid, along, reach=_MOVED_RADII if along == "T" else 0.0)
        through = {"Z": "through the depth", "T": "over time"}.get(along, f"along {along}")
        number = "1 slice" if len(changed) == 1 else f"{len(changed)} slices"
        news = f": objects have other numbers on {number}." if changed else " already."
        self.note = f"Linked {through}{news}"


def _is_any(ids: Instances | None) -> bool:
    return ids is not None and bool(ids.any())
