"""What can be asked of a session: nothing here changes it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_fewshot.frames import Frame, FrameKey, Instances, Labels
from napari_fewshot.provenance import FrameProvenance, OriginMap, count, in_a_word
from napari_fewshot.session.frame_list import FrameList
from napari_fewshot.session.history import History
from napari_fewshot.session.state import FrameState, LabelMap, OpenProposal, fits
from napari_fewshot.support import UNLABELLED, LabelClass, SupportSet


class SessionView:
    """What was taught, proposed and decided, to be looked at.

    Parameters
    ----------
    frames
        All that there are.
    history
        Where the session stands.
    """

    def __init__(self, frames: FrameList, history: History) -> None:
        self._frames, self._history = frames, history

    @property
    def frames(self) -> Mapping[FrameKey, Frame]:
        """All frames to label, in the order in which they came."""
        return self._frames.listed

    def frame(self, key: FrameKey) -> Frame:
        """Return the frame of this key."""
        return self._frames.listed[key]

    @property
    def support(self) -> SupportSet:
        """Everything taught so far."""
        return self._history.now.support

    @property
    def classes(self) -> tuple[LabelClass, ...]:
        """The classes, by ascending id."""
        return self._history.now.support.classes

    @property
    def learnt_from(self) -> SupportSet:
        """What was taught, without the shots that are set aside."""
        return self._history.now.learnt_from

    @property
    def aside(self) -> frozenset[FrameKey]:
        """Taught frames that are not learnt from."""
        return self._history.now.aside

    @property
    def can_undo(self) -> bool:
        """Whether there is a decision to take back."""
        return self._history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether there is a decision to take again that was taken back."""
        return self._history.can_redo

    @property
    def open_proposals(self) -> Mapping[FrameKey, OpenProposal]:
        """Those that wait for a decision, by frame."""
        proposals, frames = self._history.now.proposals, self._frames
        if not frames.absent:
            return proposals
        return {key: waiting for key, waiting in proposals.items() if key in frames.listed}

    def proposal(self, key: FrameKey) -> OpenProposal | None:
        """Return the proposal that waits for a decision, if there is one."""
        return self._history.now.proposals.get(key) if key in self._frames.listed else None

    def state(self, key: FrameKey) -> FrameState:
        """Tell where a frame stands."""
        if key in self._frames.absent:
            return FrameState.TAUGHT if key in self.support.keys else FrameState.UNTOUCHED
        return self._history.now.frame_state(key)

    def origins(self, key: FrameKey) -> OriginMap | None:
        """Return who says what a frame is labelled with: (H, W) values of `Origin`, None where nothing is said."""
        return self._history.now.origin_map(key)

    def provenance(self) -> list[FrameProvenance]:
        """Return who says what, a row for each frame; goes through all pixels."""
        return [self._provenance(key) for key in {**self._frames.listed, **dict.fromkeys(self.support.keys)}]

    def _provenance(self, key: FrameKey) -> FrameProvenance:
        now, waiting = self._history.now, self.proposal(key)
        origins = now.origin_map(key)
        pixels = {} if origins is None else count(origins)
        score = None if waiting is None else waiting.score
        return FrameProvenance(key, now.frame_state(key), in_a_word(pixels), pixels, score)

    def in_order_from(self, first: FrameKey | None) -> list[FrameKey]:
        """All frames in the order of interest to somebody who looks at one: it, its neighbours in the stack, others."""
        return self._frames.in_order_from(first)

    def labels(self, key: FrameKey, *, with_proposals: bool = False) -> Labels | None:
        """Return the decided labels (H, W) of a frame, unknown pixels as background; None where nothing is decided.

        Parameters
        ----------
        key
            The frame.
        with_proposals
            Whether an open proposal counts where nothing has been decided.
        """
        now, waiting = self._history.now, self.proposal(key)
        decided: LabelMap | None = now.accepted.get(key)
        shot = now.shot(key)
        if decided is None and shot is not None:
            decided = shot.labels
        if decided is not None and not self._fits(key, decided):
            decided = None  # of an image that was replaced by one of another size
        if with_proposals and waiting is not None:
            decided = waiting.labels  # with what was painted in it
        return None if decided is None else np.where(decided == UNLABELLED, 0, decided).astype(np.int32)

    def objects(self, key: FrameKey, *, with_proposals: bool = False) -> Instances | None:
        """Return the objects (H, W) of a frame, 0 for none; None where they are not told apart.

        Parameters
        ----------
        key
            The frame.
        with_proposals
            Whether an open proposal counts, as for `labels`.
        """
        now, waiting = self._history.now, self.proposal(key)
        if with_proposals and waiting is not None:
            return waiting.instances
        found, shot = now.objects.get(key), now.shot(key)
        if found is None and shot is not None:
            found = shot.instances
        return found if found is not None and self._fits(key, found) else None

    def _fits(self, key: FrameKey, labels: npt.NDArray[Any]) -> bool:
        frame = self._frames.listed.get(key)
        return frame is None or fits(frame, labels)

    def review_queue(self) -> list[FrameKey]:
        """Frames with an open proposal, the one most in need of a look first."""
        proposals = self.open_proposals
        return sorted(proposals, key=lambda key: proposals[key].score)

    def next_to_review(self, after: FrameKey | None = None) -> FrameKey | None:
        """Return the open frame with the lowest score, other than ``after`` where there is a choice."""
        queue = self.review_queue()
        return next((key for key in queue if key != after), queue[0] if queue else None)

    def above(self, score: float) -> list[FrameKey]:
        """Frames whose open proposal scores at least this much."""
        return [key for key, proposal in self.open_proposals.items() if proposal.score >= score]
