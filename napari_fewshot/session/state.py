"""Where a session stands, as one frozen value: what undo brings back, and what is saved."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_fewshot import provenance
from napari_fewshot.frames import Frame, FrameKey, Instances
from napari_fewshot.imaging.cleanup import CleanUp
from napari_fewshot.instances.mending import Edit
from napari_fewshot.provenance import Origin, OriginMap
from napari_fewshot.support import Shot, SupportSet

LabelMap = npt.NDArray[np.integer[Any]]
"""(H, W) of whatever type it came in: most are proposals that were accepted, a byte for each pixel."""


class FrameState(StrEnum):
    """Where a frame stands in the review."""

    UNTOUCHED = "untouched"
    TAUGHT = "taught"
    PROPOSED = "proposed"
    CORRECTED = "corrected"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Effort:
    """What labelling took so far.

    Attributes
    ----------
    seconds
        In which somebody was at work.
    strokes
        With the brush, or another tool that changes labels.
    clicks
        On buttons of the dock, or their keys.
    """

    seconds: float = 0.0
    strokes: int = 0
    clicks: int = 0

    def __add__(self, other: "Effort") -> "Effort":
        return Effort(self.seconds + other.seconds, self.strokes + other.strokes, self.clicks + other.clicks)


@dataclass(frozen=True, eq=False)
class OpenProposal:
    """What is kept of a proposal until somebody decides on it: small, whatever the number of classes.

    Attributes
    ----------
    labels
        (H, W) uint8, corrections included.
    score
        Expected IoU in [0, 1].
    generation
        The run that it came from.
    corrections
        (H, W) uint8, 255 where nobody corrected; None where nothing was corrected.
    note
        See `Proposal.note`.
    uncleaned
        (H, W) uint8 before it was tidied; None where it was not.
    steps
        How it was tidied.
    instances
        (H, W) int32 which object a pixel belongs to, 0 for none; None where objects are not told apart. They agree with
        ``labels``: an object is of one class.
    edits
        What was done to the objects, in its order; each is a step of undo.
    """

    labels: npt.NDArray[np.uint8]
    score: float
    generation: int
    corrections: npt.NDArray[np.uint8] | None = None
    note: str = ""
    uncleaned: npt.NDArray[np.uint8] | None = None
    steps: CleanUp = field(default_factory=CleanUp)
    instances: Instances | None = None
    edits: tuple[Edit, ...] = ()


@dataclass(frozen=True, eq=False)
class SessionState:
    """Everything that undo brings back. Arrays in it are never written to.

    Attributes
    ----------
    support
        Shots, tags and classes.
    proposals
        Those that wait for a decision.
    accepted
        (H, W) labels of frames that were accepted, uint8 where they were accepted as proposed.
    rejected
        Frames whose proposal was thrown away.
    origins
        (H, W) who says so, of frames that are or were accepted; of all others it follows from the rest.
    aside
        Taught frames that are not learnt from.
    objects
        (H, W) int32 objects of accepted frames, where they were told apart.
    """

    support: SupportSet = field(default_factory=SupportSet)
    proposals: Mapping[FrameKey, OpenProposal] = field(default_factory=dict)
    accepted: Mapping[FrameKey, LabelMap] = field(default_factory=dict)
    rejected: frozenset[FrameKey] = frozenset()
    origins: Mapping[FrameKey, OriginMap] = field(default_factory=dict)
    aside: frozenset[FrameKey] = frozenset()
    objects: Mapping[FrameKey, Instances] = field(default_factory=dict)

    @property
    def learnt_from(self) -> SupportSet:
        """Shots and tags that are not set aside."""
        support = self.support
        if not self.aside:
            return support
        return SupportSet((s for s in support if s.key not in self.aside), support.classes, support.tags)

    def shot(self, key: FrameKey) -> Shot | None:
        """Return what was taught on a frame."""
        return next((shot for shot in self.support if shot.key == key), None)

    def frame_state(self, key: FrameKey) -> FrameState:
        """Tell where a frame stands."""
        if key in self.accepted:
            return FrameState.ACCEPTED
        waiting = self.proposals.get(key)
        if waiting is not None:
            return FrameState.PROPOSED if waiting.corrections is None else FrameState.CORRECTED
        if key in self.rejected:
            return FrameState.REJECTED
        return FrameState.TAUGHT if key in self.support.keys else FrameState.UNTOUCHED

    def origin_map(self, key: FrameKey) -> OriginMap | None:
        """Return who says what a frame is labelled with (H, W), None where nothing is."""
        waiting, shot = self.proposals.get(key), self.shot(key)
        if key in self.accepted or (waiting is None and key in self.origins):
            return self.origins.get(key)
        if waiting is not None:
            return self.origins_of_open(key, provenance.of_proposal(waiting.labels, waiting.corrections, shot))
        return None if shot is None else provenance.of_shot(shot)

    def origins_of_open(self, key: FrameKey, origins: OriginMap) -> OriginMap:
        """Return the origins of a proposal; what was accepted before it was taught is no person's painting."""
        before = self.origins.get(key)
        if before is None or before.shape != origins.shape:
            return origins
        as_accepted = (origins == Origin.HUMAN) & (before == Origin.ACCEPTED)
        return np.where(as_accepted, np.uint8(Origin.ACCEPTED), origins)

    def origins_when_taught(self, shot: Shot) -> dict[FrameKey, OriginMap]:
        """Return the origins to keep once a shot is taught: parts of it may still be what was accepted before."""
        others = {key: origins for key, origins in self.origins.items() if key != shot.key}
        origins, earlier = self.origins.get(shot.key), self.shot(shot.key)
        before = self.accepted.get(shot.key)
        if before is None and earlier is not None:
            before = earlier.labels
        if origins is None or before is None:
            return others
        return {**others, shot.key: provenance.of_shot_over(shot, before, origins)}


def differs(key: FrameKey, a: SessionState, b: SessionState) -> bool:
    """Whether anything that two states say of a frame is not the same."""
    return (
        a.shot(key) is not b.shot(key)
        or a.support.tag(key) is not b.support.tag(key)
        or a.proposals.get(key) is not b.proposals.get(key)
        or a.accepted.get(key) is not b.accepted.get(key)
        or (key in a.rejected) is not (key in b.rejected)
        or (key in a.aside) is not (key in b.aside)
    )


def fits(frame: Frame, labels: npt.NDArray[Any]) -> bool:
    """Whether labels lie on a frame, as far as its size is known."""
    return frame.size is None or labels.shape == frame.size
