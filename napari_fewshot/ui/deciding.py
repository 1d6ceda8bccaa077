"""Decisions on proposals: accepted, rejected, taken back, in the layers as well. Knows neither Qt nor napari."""

from collections.abc import Callable, Sequence

from napari_fewshot.errors import SupportError
from napari_fewshot.frames import FrameKey, image_name
from napari_fewshot.session import FrameState, Session
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.keymap import with_key
from napari_fewshot.ui.layer_sync import LayerSync
from napari_fewshot.ui.next_step import percent
from napari_fewshot.ui.palette import Palette
from napari_fewshot.ui.ports import Layers
from napari_fewshot.ui.proposing import Proposing
from napari_fewshot.ui.review import Review
from napari_fewshot.ui.teaching import Teaching


class Deciding:
    """Decides on open proposals as a person says, and takes back what they did.

    Parameters
    ----------
    session
        Has the proposals.
    layers, sync
        Show them, and what was accepted.
    palette
        Shows classes that come or go by a decision.
    teaching
        Knows whether tags count.
    proposing
        Makes open proposals anew.
    review
        Knows which rows are selected.
    """

    def __init__(
        self,
        session: Session,
        layers: Layers,
        sync: LayerSync,
        palette: Palette,
        teaching: Teaching,
        proposing: Proposing,
        review: Review,
    ) -> None:
        self.accept_score = 0.9
        """The score in [0, 1] at or above which all are accepted when asked."""
        self._session, self._layers, self._sync, self._palette = session, layers, sync, palette
        self._teaching, self._proposing, self._review = teaching, proposing, review

    # ------------------------------------------------------------------ the slice on screen
    def accept(self) -> None:
        """Accept the proposal on screen, with what a person painted over it; it becomes a further shot.

        Raises
        ------
        SupportError
            If none is open there.
        """
        key = self._sync.shown()
        self._sync.take_corrections(key)
        self._check_open(key)
        self._sync.ensure_labels(image_name(key))
        self._sync.let_painted_stand(key)
        self._session.add_frames([self._sync.read_frame(key)])  # a shot outlives its layer
        accepted = self._session.accept(key)
        self._layers.write_accepted([(key, accepted)])
        self._layers.clear_proposals([key])
        self._palette.follow()
        self._proposing.refresh(key)

    def reject(self) -> None:
        """Throw the proposal on screen away.

        Raises
        ------
        SupportError
            If none is open there.
        """
        key = self._sync.shown()
        self._check_open(key)
        self._sync.take_corrections(key)
        self._session.reject(key)
        self._layers.clear_proposals([key])

    def _check_open(self, key: FrameKey) -> None:
        if self._session.proposal(key) is None:
            raise SupportError(
                f"there is no open proposal on '{self._layers.name(key)}'; press {with_key(Action.PROPOSE)}, "
                f"or {with_key(Action.NEXT)} to go to one"
            )

    # ------------------------------------------------------------------ many at once
    def accept_above(self) -> None:
        """Accept every open proposal with at least the chosen score.

        Raises
        ------
        SupportError
            If there is none.
        """
        if not self._accept_many(self._session.above(self.accept_score)):
            raise SupportError(f"no open proposal scores {percent(self.accept_score)} or more; choose a lower score")

    def accept_selected(self) -> None:
        """Accept the open proposals of all selected rows.

        Raises
        ------
        SupportError
            If there is none.
        """
        if not self._accept_many(self._review.selected_open):
            raise SupportError(_NONE_SELECTED)

    def reject_selected(self) -> None:
        """Throw the open proposals of all selected rows away.

        Raises
        ------
        SupportError
            If there is none.
        """
        keys = self._review.selected_open
        for key in keys:
            self._sync.take_corrections(key)
        if not self._session.reject_many(keys):
            raise SupportError(_NONE_SELECTED)
        self._layers.clear_proposals(keys)

    def _accept_many(self, keys: Sequence[FrameKey]) -> Sequence[FrameKey]:
        """Accept open proposals in one step, and return their frames."""
        for key in keys:
            self._sync.take_corrections(key)
            self._sync.let_painted_stand(key)
        keys = self._session.accept_many(keys)
        self._write(keys)
        self._layers.clear_proposals(keys)
        return keys

    # ------------------------------------------------------------------ taking back
    def undo(self) -> None:
        """Take back the last decision, in the layers as well.

        Raises
        ------
        SupportError
            If there is none.
        """
        if not self._session.can_undo:
            raise SupportError("there is nothing to take back")
        self._sync.take_all_corrections()
        self._step(self._session.undo)

    def redo(self) -> None:
        """Do again what was taken back last, in the layers as well.

        Raises
        ------
        SupportError
            If there is nothing, or something else was decided or corrected since.
        """
        self._sync.take_all_corrections()  # one of them may be what makes it impossible
        if not self._session.can_redo:
            raise SupportError("there is nothing to do again")
        self._step(self._session.redo)

    def _step(self, move: Callable[[], Sequence[FrameKey]]) -> None:
        before = self._accepted()
        busy, support = self._proposing.is_running, self._session.support
        changed = move()
        self._proposing.end()
        now = self._accepted()
        self._layers.unwrite([key for key in changed if key in before - now])
        self._write([key for key in changed if key in now - before])
        self._sync.show_proposals(changed)
        self._palette.follow()
        retagged = self._teaching.takes_tags and support.tags != self._session.support.tags
        if busy or retagged or support.keys != self._session.support.keys:
            self._proposing.refresh(self._sync.shown_or_none())

    def _accepted(self) -> set[FrameKey]:
        return {key for key in self._session.frames if self._session.state(key) is FrameState.ACCEPTED}

    def _write(self, keys: Sequence[FrameKey]) -> None:
        """Write what was accepted into labels layers, where nobody painted."""
        for uid in {image_name(key) for key in keys}:
            self._sync.ensure_labels(uid)
        self._layers.write_accepted(
            [(key, labels) for key in keys if (labels := self._session.labels(key)) is not None]
        )


_NONE_SELECTED = "no selected row waits for a decision; click on rows with Ctrl or Shift to select them"
