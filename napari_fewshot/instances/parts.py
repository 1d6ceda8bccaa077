"""Hidden classes: what is taught as one class is learnt as the core and the rim of objects.

Where two objects touch there is rim between their cores. Any method that tells classes apart tells these apart as well,
from the ids of a few shots, and its probability of core is a relief in which objects are hills and their contacts
valleys. (Cores and borders as classes of their own: Caicedo et al., Cytometry A 95, 2019, section "boundary".)
"""

from typing import Final

import numpy as np
import scipy.ndimage as ndi

from napari_fewshot.errors import SupportError
from napari_fewshot.frames import Instances, Labels
from napari_fewshot.instances.objects import depth, taught_objects
from napari_fewshot.support import MAX_CLASSES, UNLABELLED, Shot, SupportSet

_CORE: Final = 0.5
"""Core is what lies deeper than this share of how deep its object is."""


def parts_of(support: SupportSet, class_ids: tuple[int, ...]) -> SupportSet:
    """Teach the same frames anew, with rims and cores for classes.

    Parameters
    ----------
    support
        What was taught.
    class_ids
        The C classes that come in objects; the others keep to themselves.

    Returns
    -------
    SupportSet
        The i-th class has the ids 2 i + 1 (rim) and 2 i + 2 (core), i from 0; further classes follow.

    Raises
    ------
    SupportError
        If these are too many.
    """
    others = [c for c in support.class_ids if c not in class_ids]
    if 2 * len(class_ids) + len(others) > MAX_CLASSES:
        raise SupportError(
            f"{len(class_ids)} classes come in objects; at most {(MAX_CLASSES - len(others)) // 2} can be told apart "
            "at a time: teach fewer, or leave touching objects together"
        )
    codes = {c: 2 * i + 1 for i, c in enumerate(class_ids)}
    codes |= {c: 2 * len(class_ids) + i for i, c in enumerate(others, start=1)}
    return SupportSet(_in_parts(shot, taught_objects(shot, class_ids), codes) for shot in support)


def _in_parts(shot: Shot, ids: Instances, codes: dict[int, int]) -> Shot:
    labels = shot.labels.copy()
    for class_id, code in codes.items():
        labels[shot.labels == class_id] = code
    return Shot(shot.frame, (labels + core_of(ids, shot.labels)).astype(np.int32))


def core_of(ids: Instances, labels: Labels) -> Labels:
    """Return the core of each object as 1, everything else 0: (H, W) int32."""
    if not ids.any():
        return np.zeros(ids.shape, np.int32)
    inside = depth(ids)
    deepest = np.concatenate([[1], ndi.maximum(inside, ids, np.arange(1, ids.max() + 1))]).astype(np.float32)
    return np.asarray((ids > 0) & (inside > _CORE * deepest[ids]) & (labels != UNLABELLED), np.int32)
