"""Objects that touch, on a layer of their own where each has its colour. Knows neither Qt nor napari."""

import numpy as np
import numpy.typing as npt

from napari_fewshot.frames import FrameKey, Instances, image_name
from napari_fewshot.session import Session
from napari_fewshot.support import BACKGROUND, UNLABELLED
from napari_fewshot.ui.ports import Layers

LabelMap = npt.NDArray[np.integer]


class Objects:
    """Keeps the layer of objects in step with the session.

    A person may change it with any tool of napari: pixels that get a number get a class with it, what loses its number
    is no object any more, and what has another number belongs to another one.

    Parameters
    ----------
    session
        Has the objects of shots, proposals and accepted frames.
    layers
        Show them.
    """

    def __init__(self, session: Session, layers: Layers) -> None:
        self.new_class = 1
        """Class of what is numbered and was of no class before."""
        self._session, self._layers = session, layers
        self._shown: dict[FrameKey, Instances] = {}
        self._stale: set[FrameKey] = set()
        self._was_on = False
        self._offered: set[str] = set()  # images that got a layer; if it is deleted, it stays away for now
        session.frame_changed.connect(self._on_frame)

    def _on_frame(self, key: FrameKey) -> None:
        self._stale.add(key)

    @property
    def are_told_apart(self) -> bool:
        """Whether a person asked for it."""
        return self._session.settings.instances

    # ------------------------------------------------------------------ from the session to the layer
    def follow(self, on_screen: FrameKey | None) -> None:
        """Show what changed; with ``on_screen`` there is a layer to number objects on before anything is taught."""
        if not self.are_told_apart:
            if self._was_on:
                self._layers.hide_objects()
                self._was_on = False
            return
        if not self._was_on:
            self._was_on = True
            self._offered.clear()
            self._stale.update(self._session.frames)
        if on_screen is not None and image_name(on_screen) not in self._offered:
            self._offered.add(image_name(on_screen))
            if self._layers.ensure_objects(image_name(on_screen)):
                self._forget(image_name(on_screen))
        stale = [key for key in self._session.frames if key in self._stale] if self._stale else []
        self._stale.clear()
        for key in stale:
            self._show(key)

    def _forget(self, uid: str) -> None:
        """A new layer: nothing of the image is shown yet."""
        frames = [key for key in self._session.frames if image_name(key) == uid]
        for key in frames:
            self._shown.pop(key, None)
        self._stale.update(frames)

    def _show(self, key: FrameKey) -> None:
        ids, before = self._session.objects(key, with_proposals=True), self._shown.get(key)
        if ids is before:
            return
        if self._layers.ensure_objects(image_name(key)):
            self._forget(image_name(key))
            before = None
        if ids is not None:
            self._layers.show_objects(key, ids)
            self._shown[key] = ids
        elif before is not None:  # what a person numbered beside it stays
            there = self._layers.objects(key)
            if there is not None and there.shape == before.shape:
                self._layers.show_objects(key, np.where(there == before, 0, there))
            del self._shown[key]

    # ------------------------------------------------------------------ from the layer to the session
    def mended(self, key: FrameKey, labels: LabelMap) -> tuple[LabelMap, Instances] | None:
        """Return labels and objects of an open proposal as a person mended them; None where they did not.

        Parameters
        ----------
        key
            Its frame.
        labels
            (H, W) as they are on the proposal layer.
        """
        ids, before = self._changed(key), self._shown.get(key)
        if ids is None or before is None or self._session.objects(key, with_proposals=True) is not before:
            return None
        labels = self._with_classes(labels, ids, before, BACKGROUND)
        return labels, self._followed(ids, labels)

    def paint(self, key: FrameKey, painted: LabelMap, background: int) -> LabelMap:
        """Return what is painted at a frame, together with what was numbered, or deleted, on the layer of objects.

        Parameters
        ----------
        key
            The frame.
        painted
            (H, W) as it is on the labels layer.
        background
            Value of painted background.
        """
        ids = self._changed(key)
        if ids is None or self._session.proposal(key) is not None:  # those of a proposal are a correction of it
            return painted
        return self._with_classes(painted, ids, self._before(key, ids), background)

    def of(self, key: FrameKey, labels: LabelMap) -> Instances | None:
        """Return the objects (H, W) of a frame that is taught; None where they are not told apart."""
        ids = self._on_layer(key)
        if ids is None or ids.shape != labels.shape:
            ids = self._session.objects(key, with_proposals=True)
        if ids is None and self.are_told_apart:
            ids = np.zeros(labels.shape, np.int32)
        return None if ids is None or ids.shape != labels.shape else self._followed(ids, labels)

    def _changed(self, key: FrameKey) -> Instances | None:
        """(H, W) the layer of objects where it is not as it was shown."""
        ids = self._on_layer(key)
        return None if ids is None or np.array_equal(ids, self._before(key, ids)) else np.maximum(ids, 0)

    def _on_layer(self, key: FrameKey) -> Instances | None:
        """(H, W) the layer of objects, None where they are not told apart or there is none."""
        ids = self._layers.objects(key) if self.are_told_apart else None
        return None if ids is None else ids.astype(np.int32)

    def _before(self, key: FrameKey, ids: Instances) -> Instances:
        before = self._shown.get(key)
        return np.zeros_like(ids) if before is None or before.shape != ids.shape else before

    def _with_classes(self, labels: LabelMap, ids: Instances, before: Instances, background: int) -> LabelMap:
        """Labels (H, W) where a number came or went: of the class that the object has, else of the chosen one."""
        labels = np.array(labels)
        labels[(ids == 0) & (before > 0)] = BACKGROUND
        bare = (ids > 0) & np.isin(labels, (BACKGROUND, UNLABELLED, background))
        for number in np.unique(ids[bare & (ids != before)]):
            own = ids == number
            classes = labels[own & ~bare]
            labels[own & bare & (ids != before)] = np.bincount(classes).argmax() if len(classes) else self.new_class
        return labels

    @staticmethod
    def _followed(ids: Instances, labels: LabelMap) -> Instances:
        from napari_fewshot.instances.fitting import follow  # slow to import

        counted = [int(c) for c in np.unique(labels) if c not in (BACKGROUND, UNLABELLED)]
        return follow(ids, labels.astype(np.int32), counted)
