"""The classes, and which of them the brush paints. Knows neither Qt nor napari."""

from collections.abc import Sequence

from napari_fewshot.errors import MaskError
from napari_fewshot.frames import FrameKey, image_name
from napari_fewshot.session import Session
from napari_fewshot.support import BACKGROUND, LabelClass
from napari_fewshot.ui.layer_sync import LARGEST_ID, LayerSync
from napari_fewshot.ui.ports import PAINTED_BACKGROUND, Layers


class Palette:
    """Adds, changes and removes classes, and hands the brush to a person.

    Parameters
    ----------
    session
        Has the classes.
    layers
        Show them, and are painted on.
    sync
        Keeps both in step.
    """

    def __init__(self, session: Session, layers: Layers, sync: LayerSync) -> None:
        self._session, self._layers, self._sync = session, layers, sync
        self.brush = session.classes[0].id if session.classes else PAINTED_BACKGROUND
        """The class that is painted, or `PAINTED_BACKGROUND`."""
        layers.set_classes(session.classes)

    @property
    def class_id(self) -> int:
        """The class of the brush, 0 for background."""
        return BACKGROUND if self.brush == PAINTED_BACKGROUND else self.brush

    @property
    def box_class(self) -> int:
        """What is in boxes of which nothing else is known."""
        classes = self._session.classes
        return self.brush if self.brush != PAINTED_BACKGROUND else classes[0].id if classes else 1

    def name(self, class_id: int) -> str:
        """Return what a class is called."""
        if class_id == BACKGROUND:
            return "background"
        return next((c.name for c in self._session.classes if c.id == class_id), f"class {class_id}")

    # ------------------------------------------------------------------ the list of classes
    def add(self) -> None:
        """Add a class with the next free id and take it as the brush.

        Raises
        ------
        MaskError
            If there is no free id.
        """
        taken = {c.id for c in self._session.classes}
        free = next((i for i in range(1, LARGEST_ID + 1) if i not in taken), None)
        if free is None:
            raise MaskError(f"there are {LARGEST_ID} classes already; remove one first")
        self._set([*self._session.classes, LabelClass(free)])
        self.brush = free

    def change(self, changed: LabelClass) -> None:
        """Give a class another name or colour."""
        self._set([changed if c.id == changed.id else c for c in self._session.classes])

    def remove(self, class_id: int) -> None:
        """Remove a class that is painted nowhere.

        Raises
        ------
        MaskError
            If it is painted, taught or tagged somewhere.
        """
        kept = [c for c in self._session.classes if c.id != class_id]
        where = self._layers.paints_anywhere(class_id)
        if where and class_id not in self._session.support.class_ids:
            raise MaskError(
                f"'{self.name(class_id)}' is painted on '{where}'; erase it there before you remove the class"
            )
        self._set(kept)
        if self.brush == class_id:
            self.brush = kept[0].id if kept else PAINTED_BACKGROUND

    def _set(self, classes: Sequence[LabelClass]) -> None:
        self._session.set_classes(classes)
        self.follow()

    def follow(self) -> None:
        """Show classes that came with a mask (a value without a name)."""
        self._layers.set_classes(self._session.classes)

    # ------------------------------------------------------------------ the brush
    def select(self, value: int) -> None:
        """Take a class, or the painted background, as the brush."""
        self.brush = value
        key = self._sync.shown_or_none()
        if key is not None and value != PAINTED_BACKGROUND and self._layers.is_drawing_boxes(key):
            self._layers.draw_boxes(key, value)
        else:
            self.take_brush()

    def next(self) -> int:
        """Return the class after that of the brush, background after the last one."""
        order = [*(c.id for c in self._session.classes), PAINTED_BACKGROUND]
        return order[(order.index(self.brush) + 1) % len(order)]

    def take_brush(self) -> None:
        """Take the brush: on the proposal where one is open, on the labels otherwise, as on a cut through a stack."""
        cut = self._layers.cut()
        if cut is not None:
            self._sync.ensure_labels(image_name(cut.keys[0]))
            self._layers.take_brush(cut.keys[0], self.brush, on_proposal=False)
            return
        key = self._sync.shown()
        on_proposal = self._session.proposal(key) is not None
        if on_proposal:
            self._sync.ensure_proposals(image_name(key))
        else:
            self._sync.ensure_labels(image_name(key))
        background = BACKGROUND if on_proposal else PAINTED_BACKGROUND
        value = background if self.brush == PAINTED_BACKGROUND else self.brush
        self._layers.take_brush(key, value, on_proposal=on_proposal)

    def draw_boxes(self, key: FrameKey) -> None:
        """Let boxes of the selected class be drawn.

        Raises
        ------
        MaskError
            If background is selected.
        """
        if self.brush == PAINTED_BACKGROUND:
            raise MaskError("background needs no boxes; select a class in the list of classes first")
        self._layers.draw_boxes(key, self.brush)
