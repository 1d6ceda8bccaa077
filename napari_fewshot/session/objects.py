"""Objects in a session: they follow labels, keep their numbers, and are edited."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_fewshot.frames import FrameKey, Instances
from napari_fewshot.instances.fitting import follow, with_said
from napari_fewshot.instances.mending import Mending, Renumbering, Said, relabelled
from napari_fewshot.instances.objects import taught_objects
from napari_fewshot.session.state import OpenProposal, SessionState
from napari_fewshot.support import UNLABELLED, Shot, SupportSet


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
    after = saying(waiting, Said(labels, ids.astype(np.int32), np.where(human, labels, before.corrections)))
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


def saying(waiting: OpenProposal, said: Said) -> OpenProposal:
    """Return an open proposal that says this of each pixel."""
    corrections = said.corrections if bool((said.corrections != UNLABELLED).any()) else None
    ids = None if waiting.instances is None and not said.ids.any() else said.ids
    return replace(waiting, labels=said.labels, instances=ids, corrections=corrections)


def numbered_shots(support: SupportSet) -> SupportSet:
    """Say of all shots which objects they are taken to show, so that others with ids do not change what is counted."""
    if support.has_instances:
        return support
    shots = [replace(shot, instances=taught_objects(shot, support.counted_ids)) for shot in support.shots]
    return SupportSet(shots, support.classes, support.tags)


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
