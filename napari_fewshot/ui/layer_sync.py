"""Keeps the layers of the viewer and the session in step, in both directions. Knows neither Qt nor napari."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import FewShotError, ImageError, MaskError
from napari_fewshot.frames import Frame, FrameKey, Labels, image_name
from napari_fewshot.session import FrameState, Session
from napari_fewshot.support import BACKGROUND, UNLABELLED
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.keymap import with_key
from napari_fewshot.ui.objects import Objects
from napari_fewshot.ui.ports import PAINTED_BACKGROUND, Layers

LARGEST_ID = PAINTED_BACKGROUND - 1
LabelMap = npt.NDArray[np.integer[Any]]
"""(H, W) of the data type of its layer."""

_COPIED_BYTES = 64 << 20


class LayerSync:
    """What is on layers goes into the session, and what the session says onto layers.

    Parameters
    ----------
    session
        What was taught, proposed and decided.
    layers
        The viewer's layers.
    objects
        Knows what was mended on the layer of objects.
    """

    def __init__(self, session: Session, layers: Layers, objects: Objects) -> None:
        self.last_shown: FrameKey | None = None
        """The frame that was on screen when somebody looked last."""
        self._session, self._layers, self._objects = session, layers, objects

    # ------------------------------------------------------------------ the slice on screen
    def shown(self) -> FrameKey:
        """Return the frame on screen.

        Raises
        ------
        ImageError
            If no image that is to be labelled is there.
        """
        key = self._layers.shown()
        if key is None or key not in self._session.frames:
            raise ImageError("no ticked image is on screen; open an image, tick it in the list, and show it")
        return key

    def shown_or_none(self) -> FrameKey | None:
        """Return the frame on screen, None where there is none."""
        try:
            key = self._layers.shown()
        except FewShotError:
            return None
        return key if key in self._session.frames else None

    def go(self, key: FrameKey) -> FrameKey | None:
        """Bring a frame on screen, and return the other one that was left for it."""
        here = self.shown_or_none()
        left = None if here == key else here
        if left is not None:
            self.take_corrections(left)
        self._layers.go_to(key)
        self.last_shown = key
        return left

    # ------------------------------------------------------------------ from layers to the session
    def follow_frames(self) -> None:
        """Make the session's frames those of the chosen images."""
        wanted = {frame.key: frame for frame in self._layers.frames()}
        known = dict(self._session.frames)
        gone = [key for key in known if key not in wanted]
        if gone:
            self._session.remove_frames(gone)
            self._layers.clear_proposals(gone)
        # known ones too, so that the session sees whether their image has another size now
        same = {key for key, frame in wanted.items() if key in known and known[key].size == frame.size}
        self._session.add_frames([known[key] if key in same else frame for key, frame in wanted.items()])
        again = [key for key in wanted if key not in known and self._session.proposal(key) is not None]
        if again:  # the image was left alone for a while
            self.show_proposals(again)
        self.last_shown = self.shown_or_none()

    def take_corrections(self, key: FrameKey) -> None:
        """Tell the session what a person changed on a proposal, however it was changed (undo emits no event)."""
        waiting = self._session.proposal(key)
        shown = None if waiting is None else self._layers.proposed(key)
        if waiting is not None and shown is not None and shown.shape == waiting.labels.shape:
            labels = np.where(shown >= PAINTED_BACKGROUND, BACKGROUND, shown)
            mended = self._objects.mended(key, labels)
            if mended is None:
                self._session.correct(key, labels)
            else:
                self._session.correct(key, mended[0], instances=mended[1])
                self._show_proposal(key)

    def take_all_corrections(self) -> None:
        """Tell the session what a person changed on any proposal."""
        for key in self._session.review_queue():
            self.take_corrections(key)

    def let_painted_stand(self, key: FrameKey) -> None:
        """Put what a person painted on the labels layer over the proposal, as a correction of it."""
        waiting = self._session.proposal(key)
        painted = None if self._layers.painted(key) is None else self.painted(key)  # which checks it
        by_hand = self._layers.painted_by_hand(key)
        if waiting is not None and painted is not None and by_hand is not None and by_hand.any():
            painted = by_hand
            labels, corrections = self._session.labels(key), waiting.corrections
            if labels is not None and corrections is not None:  # what was taught before is older than they are
                taught = self._as_painted(key, labels)
                painted[(painted == taught) & (corrections != UNLABELLED)] = 0
            human = np.where(painted == PAINTED_BACKGROUND, BACKGROUND, painted)
            self._session.correct(key, np.where(painted != 0, human, waiting.labels).astype(np.int32))

    def painted(self, key: FrameKey) -> LabelMap:
        """Return what is painted at a frame (H, W), 254 for background.

        Raises
        ------
        MaskError
            If there is no labels layer, or it holds what cannot be a class.
        """
        painted = self._layers.painted(key)
        if painted is None:
            raise MaskError(f"'{self._layers.name(key)}' has no labels layer; press {with_key(Action.PAINT)}")
        if painted.size and (painted.min() < 0 or painted.max() > PAINTED_BACKGROUND):
            raise MaskError(
                f"the labels of '{self._layers.name(key)}' hold the value "
                f"{painted.max() if painted.max() > PAINTED_BACKGROUND else painted.min()}; "
                f"classes go from 1 to {LARGEST_ID}: relabel them"
            )
        return painted

    def take_objects(self, key: FrameKey) -> None:
        """Paint what was numbered on the layer of objects, and erase what was deleted there."""
        self.take_corrections(key)
        painted = self.painted(key)
        together = self._objects.paint(key, painted, PAINTED_BACKGROUND)
        if together is not painted:
            self._layers.restore_painted(key, together.astype(np.int32))

    def read_frame(self, key: FrameKey) -> Frame:
        """Return the frame in a form that outlives its layer.

        A copy of the pixels as they are now. A frame too large for that keeps hold of the array that it is read from
        instead: it outlives the layer as well, but changes with whoever changes the array.
        """
        frame = self._session.frame(key)
        pixels = frame.open()
        if math.prod(pixels.shape) * pixels.dtype.itemsize <= _COPIED_BYTES:
            return replace(frame, image=np.array(frame.read()))
        return replace(frame, image=frame.image() if callable(frame.image) else frame.image)

    # ------------------------------------------------------------------ from the session to layers
    def ensure_labels(self, uid: str) -> None:
        """Make the labels layer; one that somebody deleted comes back with what was taught and accepted."""
        if not self._layers.ensure_labels(uid):
            return
        accepted = []
        for key in self._session.frames:
            if image_name(key) != uid or (labels := self._session.labels(key)) is None:
                continue
            if self._session.state(key) is FrameState.ACCEPTED:
                accepted.append((key, labels))  # undo takes it out again
            else:
                self._layers.restore_painted(key, self._as_painted(key, labels))
        self._layers.write_accepted(accepted)

    def _as_painted(self, key: FrameKey, labels: Labels) -> Labels:
        shot = next((shot for shot in self._session.support if shot.key == key), None)
        if shot is None or not shot.is_partial:
            return labels
        said = shot.said
        painted = np.where((said == UNLABELLED) & (shot.labels != UNLABELLED), 0, labels)  # what was guessed from boxes
        return np.where(said == BACKGROUND, PAINTED_BACKGROUND, painted).astype(np.int32)

    def ensure_proposals(self, uid: str) -> None:
        """Make the proposal layer; one that somebody deleted comes back with every open proposal."""
        if not self._layers.ensure_proposals(uid):
            return
        for key in self._session.review_queue():
            if image_name(key) == uid:
                self._show_proposal(key)

    def show_proposals(self, keys: Sequence[FrameKey]) -> None:
        """Put the open proposals of frames on their layers, and take off what is no longer open there."""
        gone = []
        for key in keys:
            if self._session.proposal(key) is None:
                gone.append(key)
            else:
                self.ensure_proposals(image_name(key))
                self._show_proposal(key)
        self._layers.clear_proposals(gone)

    def _show_proposal(self, key: FrameKey) -> None:
        waiting = self._session.proposal(key)
        if waiting is not None:
            self._layers.show_proposal(key, waiting.labels)
