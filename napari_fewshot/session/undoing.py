"""What undo and redo do to open proposals: the newest stays, and says what is taught where they go."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from napari_fewshot.frames import Frame, FrameKey
from napari_fewshot.session.objects import aligned, kept_objects, said_of, saying
from napari_fewshot.session.open_proposals import painted_over, unpainted
from napari_fewshot.session.state import OpenProposal, SessionState, fits
from napari_fewshot.support import UNLABELLED, Shot


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
    return replace(saying(now, said), edits=then.edits)


def _tidied_as(then: OpenProposal, now: OpenProposal) -> OpenProposal:
    """The same proposal, tidied as it was then, with all that was corrected since."""
    if then.labels.shape != now.labels.shape:
        return now
    labels, corrections = then.labels, now.corrections
    if corrections is not None:
        labels = np.where(corrections == UNLABELLED, labels, corrections)
    ids = kept_objects(then.instances, now, None, corrections)
    return replace(now, labels=labels, uncleaned=then.uncleaned, steps=then.steps, instances=ids)
