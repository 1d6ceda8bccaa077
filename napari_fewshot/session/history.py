"""Where a session stands, and what undo and redo go back and forth between."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from napari_fewshot.frames import Frame, FrameKey
from napari_fewshot.session.state import SessionState
from napari_fewshot.session.undoing import merged_proposals

_DEPTH = 100


class History:
    """The state of now, and those of before.

    Parameters
    ----------
    now
        Where it begins.
    """

    def __init__(self, now: SessionState) -> None:
        self.now = now
        self._undo: list[SessionState] = []
        self._redo: list[SessionState] = []

    @property
    def can_undo(self) -> bool:
        """Whether there is a state to go back to."""
        return bool(self._undo)

    @property
    def can_redo(self) -> bool:
        """Whether there is one to go forth to again."""
        return bool(self._redo)

    def remember(self) -> None:
        """Let undo come back to the state of now; redo leads nowhere any more."""
        self._undo.append(self.now)
        self._redo.clear()
        del self._undo[:-_DEPTH]

    def forget_undone(self) -> None:
        """Let redo lead nowhere any more."""
        self._redo.clear()

    def undo(self, frames: Mapping[FrameKey, Frame]) -> bool:
        """Go back to the last state that was remembered, with proposals on these frames. Returns whether there is one.

        See `merged_proposals` for what is open there.
        """
        return self._step(self._undo, self._redo, frames)

    def redo(self, frames: Mapping[FrameKey, Frame]) -> bool:
        """Go to the state that undo left last, in the same way."""
        return self._step(self._redo, self._undo, frames)

    def _step(self, source: list[SessionState], target: list[SessionState], frames: Mapping[FrameKey, Frame]) -> bool:
        if not source:
            return False
        left, then = self.now, source.pop()
        target.append(left)
        self.now = replace(then, proposals=merged_proposals(then, left, frames))
        return True

    def change_others(self, change: Callable[[SessionState], SessionState]) -> None:
        """Let all states that undo and redo lead to be other than they were: what holds whatever was decided."""
        self._undo = [change(state) for state in self._undo]
        self._redo = [change(state) for state in self._redo]

    def restart(self, now: SessionState) -> None:
        """Begin with another state; undo leads nowhere."""
        self.now = now
        self._undo.clear()
        self._redo.clear()
