"""One pass over the open frames, as a snapshot that is safe to consume on any thread."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from napari_fewshot.frames import Frame, FrameKey
from napari_fewshot.propagation import FrameFailure, PropagationSettings, RunProgress, propagate
from napari_fewshot.proposals import Proposal
from napari_fewshot.segmenter import FewShotSegmenter
from napari_fewshot.session.state import SessionState
from napari_fewshot.support import SupportSet
from napari_fewshot.volumes.concept import Surroundings


@dataclass(frozen=True)
class Run:
    """One pass over the open frames, with everything it needs; safe to consume on any thread."""

    generation: int
    support: SupportSet
    frames: tuple[Frame, ...]
    settings: PropagationSettings
    segmenter: Callable[[], FewShotSegmenter]
    retried: frozenset[FrameKey] = frozenset()
    """Frames that had been rejected before, and get another try."""
    surroundings: Surroundings = field(default_factory=Surroundings)
    """What is looked at beside ``frames`` where slices share evidence."""

    def proposals(
        self,
        on_failure: Callable[[FrameFailure], None] | None = None,
        progress: RunProgress | None = None,
    ) -> Iterator[Proposal]:
        """Load the segmenter if need be, learn, and propose; see `propagate`."""
        return propagate(
            self.segmenter(), self.support, self.frames, self.settings,
            on_failure=on_failure, progress=progress, surroundings=self.surroundings,
        )  # fmt: skip

    def is_still_asked_about(self, key: FrameKey, state: SessionState) -> bool:
        """Whether nobody has decided on this frame since the run began."""
        shot = state.shot(key)
        is_dense = shot is not None and not shot.is_partial
        return not (is_dense or key in state.accepted or key in state.rejected - self.retried)
