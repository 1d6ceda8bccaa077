"""Where a session stands, as one frozen value: what undo brings back, and what is saved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_fewshot import provenance
from napari_fewshot.frames import Frame, FrameKey, Instances
from napari_fewshot.imaging.cleanup import CleanUp, above_thresholds
from napari_fewshot.instances.fitting import follow, with_said
from napari_fewshot.instances.mending import Edit, Mending, Renumbering, Said, relabelled
from napari_fewshot.instances.objects import taught_objects
from napari_fewshot.propagation import keep_human, tidied
from napari_fewshot.provenance import Origin, OriginMap
from napari_fewshot.support import UNLABELLED, LabelClass, Shot, SupportSet

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


def taught(state: SessionState, shot: Shot) -> SessionState:
    """Learn from a shot: one before it on its frame is replaced, what was decided there no longer is."""
    proposals = dict(state.proposals)
    waiting = proposals.pop(shot.key, None)
    if waiting is not None and shot.is_partial and waiting.labels.shape == shot.labels.shape:
        proposals[shot.key] = aligned(painted_over(waiting, shot), state.support.with_shot(shot))
    support = state.support if shot.instances is None else numbered_shots(state.support)
    return replace(
        state,
        support=support.with_shot(shot),
        proposals=proposals,
        accepted={k: v for k, v in state.accepted.items() if k != shot.key},
        objects={k: v for k, v in state.objects.items() if k != shot.key},
        rejected=state.rejected - {shot.key},
        origins=state.origins_when_taught(shot),
        aside=state.aside - {shot.key},
    )


def followed(ids: Instances | None, labels: npt.NDArray[Any], support: SupportSet) -> Instances | None:
    """Let objects follow labels that have changed; see `follow`. With nothing taught, classes with objects count."""
    if ids is None:
        return None
    counted = support.counted_ids or tuple(int(c) for c in np.unique(labels[ids > 0]) if c)
    return follow(ids, labels.astype(np.int32), counted)


def aligned(waiting: OpenProposal, support: SupportSet) -> OpenProposal:
    """Let the objects of an open proposal follow its labels, whatever changed these."""
    ids = followed(waiting.instances, waiting.labels, support)
    if ids is None or np.array_equal(ids, waiting.instances):  # type: ignore[arg-type] # neither is None, or both are
        return waiting
    return replace(waiting, instances=ids)


def kept_objects(
    found: Instances | None,
    earlier: OpenProposal | None,
    shot: Shot | None,
    corrections: npt.NDArray[Any] | None,
    free: int = 0,
) -> Instances | None:
    """Number the objects of a new proposal as they were numbered before, and as a person did.

    Parameters
    ----------
    found
        (H, W) as proposed; None where objects were not told apart.
    earlier
        What was open on the frame until now.
    shot
        What was taught on it.
    corrections
        (H, W) see `OpenProposal`: objects of corrected pixels stay as they are.
    free
        The next number that no slice of the stack has, where they are linked, else 0.

    Returns
    -------
    Instances or None
        (H, W); where nothing was told apart, only objects of corrected pixels, so that none is lost by a proposal in
        between.
    """
    from napari_fewshot.instances.linking import matched  # slow to import, and the dock opens without

    before = None if earlier is None else earlier.instances
    mended = None if before is None or corrections is None else np.where(corrections != UNLABELLED, before, 0)
    if found is None:
        return mended if mended is not None and mended.any() else None
    if before is None or before.shape != found.shape:
        ids = matched(found, np.zeros_like(found), free=free) if free else found
    else:
        edits = () if earlier is None else earlier.edits
        ids = matched(found, before, free=max([free, *(edit.largest + 1 for edit in edits)]))
    for said in (None if shot is None else shot.instances, mended):
        if said is not None and said.shape == ids.shape:
            ids = with_said(ids, said)
    return ids


def mended(waiting: OpenProposal, ids: Instances, support: SupportSet) -> OpenProposal | None:
    """Put objects as a person edited them into an open proposal; None where nothing is other than it was.

    All pixels of an object that changed are theirs from now on, and those of one that was taken away.
    """
    before = said_of(waiting)
    human = changed_objects(ids, waiting.instances)
    if not human.any():
        return None
    labels = relabelled(waiting.labels, before.ids, ids)
    after = _with(waiting, Said(labels, ids.astype(np.int32), np.where(human, labels, before.corrections)))
    after = aligned(after, support)
    return replace(after, edits=(*waiting.edits, Mending.between(before, said_of(after))))


def changed_objects(ids: npt.NDArray[np.integer[Any]], before: Instances | None) -> npt.NDArray[np.bool_]:
    """(H, W) True on all pixels of objects that somebody changed, and where one was taken away."""
    changed = ids != (0 if before is None else before)
    return np.asarray(changed | np.isin(ids, np.setdiff1d(ids[changed], [0])), bool)


def said_of(waiting: OpenProposal) -> Said:
    """What an open proposal says of each pixel."""
    shape, none = waiting.labels.shape, waiting.corrections
    ids = np.zeros(shape, np.int32) if waiting.instances is None else waiting.instances
    return Said(waiting.labels, ids, np.full(shape, UNLABELLED, np.uint8) if none is None else none)


def _with(waiting: OpenProposal, said: Said) -> OpenProposal:
    corrections = said.corrections if bool((said.corrections != UNLABELLED).any()) else None
    ids = None if waiting.instances is None and not said.ids.any() else said.ids
    return replace(waiting, labels=said.labels, instances=ids, corrections=corrections)


def renumbered(state: SessionState, news: Mapping[FrameKey, Instances]) -> SessionState:
    """Give the objects of frames other numbers, whether they are open, taught or decided."""
    proposals, objects, shots = dict(state.proposals), dict(state.objects), []
    for key, ids in news.items():
        waiting = proposals.get(key)
        if waiting is not None and waiting.instances is not None:
            edit = Renumbering.between(waiting.instances, ids)
            proposals[key] = replace(waiting, instances=ids, edits=(*waiting.edits, edit))
        if key in objects:
            objects[key] = Renumbering.between(objects[key], ids).of(objects[key])
    for shot in state.support.shots:
        if shot.key in news and shot.instances is not None:
            numbers = Renumbering.between(shot.instances, news[shot.key])
            shot = replace(shot, instances=numbers.of(shot.instances))
        shots.append(shot)
    support = SupportSet(shots, state.support.classes, state.support.tags)
    return replace(state, proposals=proposals, objects=objects, support=support)


def numbered_shots(support: SupportSet) -> SupportSet:
    """Say of all shots which objects they are taken to show, so that others with ids do not change what is counted."""
    if support.has_instances:
        return support
    shots = [replace(shot, instances=taught_objects(shot, support.counted_ids)) for shot in support.shots]
    return SupportSet(shots, support.classes, support.tags)


def painted_over(waiting: OpenProposal, shot: Shot) -> OpenProposal:
    """Let what was painted on a frame stand over its open proposal and over earlier corrections of it."""
    said = shot.said
    labels = keep_human(waiting.labels.astype(np.int32), said).astype(np.uint8)
    corrections = waiting.corrections
    if corrections is not None:
        corrections = np.where(said == UNLABELLED, corrections, np.uint8(UNLABELLED))
    ids = waiting.instances
    if ids is not None and shot.instances is not None:
        ids = with_said(ids, shot.instances)
    return replace(waiting, labels=labels, corrections=corrections, instances=ids)


def cleaned(
    waiting: OpenProposal,
    shot: Shot | None,
    steps: CleanUp,
    label_ids: Sequence[int] = (),
    probabilities: npt.NDArray[Any] | None = None,
) -> OpenProposal | None:
    """Tidy an open proposal, from what was proposed: however it was tidied before makes no difference.

    What a person corrected, or painted on the frame, stays as it is.

    Parameters
    ----------
    waiting
        The proposal.
    shot
        What was taught on the frame.
    steps
        What to do.
    label_ids, probabilities
        Of the proposal, see `above_thresholds`.

    Returns
    -------
    OpenProposal or None
        None where there are thresholds and no probabilities.
    """
    if steps.thresholds and probabilities is None:
        return None
    base = waiting.labels if waiting.uncleaned is None else waiting.uncleaned
    labels = base.astype(np.int32)
    human = np.full(labels.shape, UNLABELLED, np.int32)
    if shot is not None and shot.labels.shape == labels.shape:
        human = shot.said
    if waiting.corrections is not None:
        human = np.where(waiting.corrections != UNLABELLED, waiting.corrections, human).astype(np.int32)
    if probabilities is not None:
        labels = above_thresholds(labels, probabilities, label_ids, steps.thresholds)
    labels = tidied(labels, human, steps)
    return replace(
        waiting, labels=labels.astype(np.uint8), uncleaned=None if steps.does_nothing else base, steps=steps.steps
    )


def merged_proposals(
    then: SessionState, now: SessionState, frames: Mapping[FrameKey, Frame]
) -> dict[FrameKey, OpenProposal]:
    """Proposals after going to another state: the newest of each frame that is open there, with what it says painted.

    Parameters
    ----------
    then
        Where undo or redo goes to.
    now
        Where it comes from.
    frames
        All that there are.
    """
    decided = then.accepted.keys() | then.rejected | {s.key for s in then.support if not s.is_partial}
    shots_then, shots_now = ({s.key: s for s in state.support} for state in (then, now))
    merged = {}
    for key in {**then.proposals, **now.proposals}:
        if key in decided or key not in frames:
            continue
        kept = _merged(then.proposals.get(key), now.proposals.get(key), shots_then.get(key), shots_now.get(key))
        if kept is not None and fits(frames[key], kept.labels):
            merged[key] = aligned(kept, then.support)
    return merged


def _merged(
    then: OpenProposal | None, now: OpenProposal | None, shot_then: Shot | None, shot_now: Shot | None
) -> OpenProposal | None:
    if now is None or now is then:
        return then
    if then is not None:
        now = _edited_as(then, now)
    if then is not None and then.generation == now.generation and then.steps != now.steps:
        now = _tidied_as(then, now)
    kept: OpenProposal | None = now
    if shot_now is not None and shot_now is not shot_then and shot_now.labels.shape == now.labels.shape:
        kept = unpainted(now, then, shot_now)
    if kept is None or shot_then is None or shot_then is shot_now or shot_then.labels.shape != kept.labels.shape:
        return kept
    return painted_over(kept, shot_then)


def _edited_as(then: OpenProposal, now: OpenProposal) -> OpenProposal:
    """The same proposal with the edits of its objects that there were then, and what was corrected since."""
    if then.edits == now.edits or then.labels.shape != now.labels.shape:
        return now
    said, there = said_of(now), set(map(id, then.edits))
    for edit in reversed(now.edits):
        said = said if id(edit) in there else edit.taken_back(said)
    there = set(map(id, now.edits))
    for edit in then.edits:
        said = said if id(edit) in there else edit.done_again(said)
    return replace(_with(now, said), edits=then.edits)


def _tidied_as(then: OpenProposal, now: OpenProposal) -> OpenProposal:
    """The same proposal, tidied as it was then, with all that was corrected since."""
    if then.labels.shape != now.labels.shape:
        return now
    labels, corrections = then.labels, now.corrections
    if corrections is not None:
        labels = np.where(corrections == UNLABELLED, labels, corrections)
    ids = kept_objects(then.instances, now, None, corrections)
    return replace(now, labels=labels, uncleaned=then.uncleaned, steps=then.steps, instances=ids)


def unpainted(now: OpenProposal, then: OpenProposal | None, shot: Shot) -> OpenProposal | None:
    """Take what a shot painted over a proposal off it again: below is what was there before.

    Where nothing was, a proposal that nobody corrected goes; on one that somebody corrected, what they painted stays as
    a correction: a pixel that a person gave a label must not pass for the model's.
    """
    painted = (shot.said != UNLABELLED) & (shot.said == now.labels)
    if now.corrections is not None:
        painted &= now.corrections == UNLABELLED  # corrected since
    if then is None or then.labels.shape != now.labels.shape:
        if now.corrections is None:
            return None
        return replace(now, corrections=np.where(painted, now.labels, now.corrections))
    corrections = _laid(then.corrections, now.corrections, painted)
    return replace(now, labels=np.where(painted, then.labels, now.labels), corrections=corrections)


def _laid(
    below: npt.NDArray[np.uint8] | None, above: npt.NDArray[np.uint8] | None, holes: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8] | None:
    """Corrections, with those below seen through holes of those above."""
    if below is None and above is None:
        return None
    none = np.full(holes.shape, UNLABELLED, np.uint8)
    laid = np.where(holes, none if below is None else below, none if above is None else above)
    return laid if bool((laid != UNLABELLED).any()) else None


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


def with_names(state: SessionState, classes: tuple[LabelClass, ...]) -> SessionState:
    """Give classes their new names and colours, and add new ones; those that are not mentioned stay."""
    named = {c.id: c for c in (*state.support.classes, *classes)}
    return replace(state, support=state.support.with_classes(named.values()))


def with_pixels(state: SessionState, frames: Mapping[FrameKey, Frame]) -> SessionState:
    """Let shots and tags be of these frames, where they are about one of them."""
    support = state.support
    shots = [replace(shot, frame=frames[shot.key]) if shot.key in frames else shot for shot in support.shots]
    tags = [replace(tag, frame=frames[tag.key]) if tag.key in frames else tag for tag in support.tags]
    return replace(state, support=SupportSet(shots, support.classes, tags))


def fits(frame: Frame, labels: npt.NDArray[Any]) -> bool:
    """Whether labels lie on a frame, as far as its size is known."""
    return frame.size is None or labels.shape == frame.size
