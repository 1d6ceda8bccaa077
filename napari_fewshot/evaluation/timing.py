"""How long a proposal takes: what features cost, which are computed once, apart from what a method does with them."""

import time
from dataclasses import dataclass

from napari_fewshot.frames import Frame
from napari_fewshot.proposals import Proposal
from napari_fewshot.segmenter import Concept, FewShotSegmenter, Prepares


@dataclass(frozen=True)
class Timed:
    """A proposal and what it took.

    Attributes
    ----------
    proposal
        As from `Concept.propose`.
    features
        Seconds for the features of the frame, close to 0 where they were known; 0 where the segmenter does not say.
    method
        Seconds for the proposal, once features are known.
    """

    proposal: Proposal
    features: float
    method: float


def propose_timed(segmenter: FewShotSegmenter, concept: Concept, frame: Frame) -> Timed:
    """Propose for a frame with a look at the clock.

    Raises
    ------
    ImageError
        If the image cannot be used.
    """
    start = time.perf_counter()
    if isinstance(segmenter, Prepares):
        for _ in segmenter.prepare(frame):
            pass
    ready = time.perf_counter()
    proposal = concept.propose(frame)
    return Timed(proposal, ready - start, time.perf_counter() - ready)
