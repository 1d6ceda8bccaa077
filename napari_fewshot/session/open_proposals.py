"""What becomes of a proposal while it is open: it is taken in, corrected, tidied, painted over."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_fewshot.frames import Labels
from napari_fewshot.imaging.cleanup import CleanUp, above_thresholds
from napari_fewshot.instances.fitting import with_said
from napari_fewshot.propagation import keep_human, tidied
from napari_fewshot.proposals import Proposal
from napari_fewshot.session.objects import changed_objects, kept_objects
from napari_fewshot.session.state import OpenProposal
from napari_fewshot.support import UNLABELLED, Shot


def opened(
    proposal: Proposal,
    earlier: OpenProposal | None,
    shot: Shot | None,
    *,
    generation: int,
    steps: CleanUp,
    free: int = 0,
) -> OpenProposal:
    """Keep of a proposal what stays open; what people corrected or painted on its frame stands over it.

    Parameters
    ----------
    proposal
        As it came.
    earlier
        What was open on the frame until now: its corrections, and the numbers of its objects, stay.
    shot
        What was taught on the frame.
    generation
        The run that it came from.
    steps
        How it was tidied.
    free
        See `kept_objects`.
    """
    corrections = None if earlier is None else earlier.corrections
    labels = proposal.labels.astype(np.uint8)
    if shot is not None and shot.labels.shape == labels.shape:
        labels = keep_human(labels.astype(np.int32), shot.said).astype(np.uint8)
    if corrections is not None and corrections.shape == labels.shape:
        labels = np.where(corrections != UNLABELLED, corrections, labels)
    else:
        corrections = None  # of an image that was replaced by one of another size
    uncleaned = None if proposal.uncleaned is None else proposal.uncleaned.astype(np.uint8)
    ids = kept_objects(proposal.instances, earlier, shot, corrections, free)
    edits = () if earlier is None else earlier.edits
    return OpenProposal(
        labels, proposal.score, generation, corrections, proposal.note, uncleaned, steps, ids, edits
    )  # fmt: skip


def corrected(
    waiting: OpenProposal,
    labels: Labels,
    human: npt.NDArray[np.bool_] | None = None,
    instances: npt.NDArray[np.integer[Any]] | None = None,
) -> OpenProposal:
    """Put an open proposal as somebody changed it in its place; see `Session.correct` for what these are."""
    ids = waiting.instances
    if instances is not None:
        touched = changed_objects(instances, ids)
        human, ids = touched if human is None else touched | human, instances.astype(np.int32)
    changed = labels != waiting.labels if human is None else (labels != waiting.labels) | human
    before = waiting.corrections
    corrections = np.full(labels.shape, UNLABELLED, np.uint8) if before is None else before.copy()
    corrections[changed] = labels[changed]
    return replace(waiting, labels=labels.astype(np.uint8), corrections=corrections, instances=ids)


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
