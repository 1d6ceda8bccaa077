"""Ids and labels that go together: every object of one class, every pixel of such a class in an object."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi

from napari_fewshot.frames import Instances, Labels
from napari_fewshot.instances.objects import connected, numbered
from napari_fewshot.proposals import Proposal
from napari_fewshot.support import BACKGROUND, UNLABELLED, Shot


def with_classes(ids: Instances, proposal: Proposal, counted: Sequence[int]) -> tuple[Labels, Instances]:
    """Give every object its class, and labels that agree.

    Parameters
    ----------
    ids
        (H, W) objects 1, 2, 3, ...
    proposal
        Whose probabilities say of which class they are.
    counted
        Classes that come in objects. What is labelled as another one stays so, and belongs to no object.

    Returns
    -------
    labels, ids
        (H, W) both.
    """
    known = [c for c in counted if c in proposal.class_ids]
    other = ~np.isin(proposal.labels, (BACKGROUND, *known))
    ids = numbered(np.where(other, 0, ids)) if other.any() else ids
    count = int(ids.max())
    labels = np.where(other, proposal.labels, BACKGROUND).astype(np.int32)
    if not count or not known:
        return labels, np.zeros_like(ids)
    rows = [1 + proposal.class_ids.index(c) for c in known]
    sums = [ndi.sum_labels(proposal.probabilities[row], ids, np.arange(1, count + 1)) for row in rows]
    of = np.concatenate([[BACKGROUND], np.asarray(known)[np.argmax(sums, axis=0)]]).astype(np.int32)
    return np.where(ids > 0, of[ids], labels).astype(np.int32), ids


def with_taught(ids: Instances, shot: Shot | None) -> Instances:
    """Put the objects that a person numbered over those that were proposed, which get numbers behind theirs."""
    if shot is None or shot.instances is None or shot.instances.shape != ids.shape or not shot.instances.any():
        return ids
    behind = np.where(ids > 0, numbered(ids) + shot.instances.max(), 0)
    return np.where(shot.instances > 0, shot.instances, behind).astype(np.int32)


def with_said(ids: Instances, said: Instances) -> Instances:
    """Put objects that a person made or mended over proposed ones of the same numbers.

    Parameters
    ----------
    ids
        (H, W) as proposed; an object with the number of one in ``said`` is the same, if they overlap.
    said
        (H, W) what a person said, 0 where they said nothing.

    Returns
    -------
    Instances
        (H, W) int32. What is left of an object that is covered by more than a half joins what covers it.
    """
    from skimage.segmentation import watershed  # slow to import, and the dock opens without

    covered = said > 0
    if not covered.any():
        return ids
    known, position = np.unique(ids, return_inverse=True)
    position = position.reshape(ids.shape)
    total = np.bincount(position.ravel(), minlength=len(known))
    under = np.bincount(position.ravel(), covered.ravel(), minlength=len(known))
    same = np.isin(known, ids[covered & (ids == said)])
    number = known.astype(np.int64)
    other = np.isin(known, said) & ~same & (known > 0)
    number[other] = max(int(known.max()), int(said.max())) + 1 + np.arange(int(other.sum()))
    laid = np.where(covered, said, number[position]).astype(np.int32)
    lost = ((2 * under > total) & (known > 0))[position]
    flat = np.zeros(ids.shape, np.uint8)
    rest = watershed(flat, np.where(lost & covered, said, 0), mask=lost, connectivity=2)
    return np.where(lost, rest, laid).astype(np.int32)


def follow(ids: Instances, labels: Labels, counted: Sequence[int]) -> Instances:
    """Let objects follow labels that have changed since: tidied, corrected, or painted over by a person.

    An object keeps those of its pixels that still have the label that most of it has. Pixels of a class that comes in
    objects and that have no id join the object of their class that they are connected with, the nearest first; where
    there is none, what is connected is a new object.

    Parameters
    ----------
    ids
        (H, W), any numbers.
    labels
        (H, W) as they are now.
    counted
        Classes that come in objects.

    Returns
    -------
    Instances
        (H, W) int32; those that stay keep their numbers.
    """
    free = np.isin(labels, counted) & (labels != UNLABELLED)
    kept = np.where(free & (labels == _majority(ids, labels)), ids, 0).astype(np.int32)
    if not (free & (kept == 0)).any():
        return kept
    from skimage.segmentation import watershed  # slow to import, and the dock opens without

    flat = np.zeros(labels.shape, np.uint8)
    for class_id in counted:
        own = labels == class_id
        kept = np.where(own, watershed(flat, np.where(own, kept, 0), mask=own, connectivity=2), kept).astype(np.int32)
    fresh = connected(np.where(free & (kept == 0), labels, BACKGROUND).astype(np.int32))
    return np.where(fresh > 0, fresh + kept.max(initial=0), kept).astype(np.int32)


def _majority(ids: Instances, labels: Labels) -> npt.NDArray[np.int32]:
    """(H, W) the label that most pixels of the same object have, the smallest of several; background does not count."""
    at = (ids > 0) & (labels != BACKGROUND) & (labels != UNLABELLED)
    keys, counts = np.unique(ids[at].astype(np.int64) * (UNLABELLED + 1) + labels[at], return_counts=True)
    order = np.lexsort((keys, -counts))  # the most pixels first
    owners, first = np.unique(keys[order] // (UNLABELLED + 1), return_index=True)
    winners = keys[order][first] % (UNLABELLED + 1)
    where = np.searchsorted(owners, ids).clip(max=max(len(owners) - 1, 0))
    if not len(owners):
        return np.full(ids.shape, -1, np.int32)
    return np.where(owners[where] == ids, winners[where], -1).astype(np.int32)
