"""Objects in label maps: which there are, how large, and how deep inside of its object a pixel lies."""

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi

from napari_fewshot.frames import Instances, Labels
from napari_fewshot.support import BACKGROUND, UNLABELLED, Shot

EIGHT = np.ones((3, 3), bool)
"""Pixels that share a corner are connected."""


def numbered(ids: npt.NDArray[np.integer]) -> Instances:
    """Number objects 1, 2, 3, ... in the order of their ids. Returns (H, W) int32."""
    flat = ids.ravel()
    known, inverse = np.unique(flat, return_inverse=True)
    at = np.arange(len(known)) + (0 if len(known) and known[0] == 0 else 1)
    return at[inverse].reshape(ids.shape).astype(np.int32)


def connected(labels: Labels) -> Instances:
    """Take all 8-connected pixels of one class for an object. Returns (H, W) int32."""
    ids = np.zeros(labels.shape, np.int32)
    for class_id in np.unique(labels):
        if class_id in (BACKGROUND, UNLABELLED):
            continue
        parts, _ = ndi.label(labels == class_id, EIGHT)
        ids += np.where(parts > 0, parts + ids.max(), 0).astype(np.int32)
    return ids


def taught_objects(shot: Shot, class_ids: tuple[int, ...]) -> Instances:
    """Return the objects of a shot, numbered 1, 2, 3, ...: as a person did, else what is connected.

    Parameters
    ----------
    shot
        Where nobody numbered pixels of a class, those that are connected are taken for an object.
    class_ids
        Classes that come in objects.
    """
    counted = np.where(np.isin(shot.labels, class_ids), shot.labels, BACKGROUND).astype(np.int32)
    if shot.instances is None:
        return connected(counted)
    ids = np.where(counted > 0, shot.instances, 0)
    rest = connected(np.where(ids > 0, BACKGROUND, counted).astype(np.int32))
    return numbered(np.where(rest > 0, rest.astype(np.int64) + ids.max(), ids))


def areas(ids: Instances) -> npt.NDArray[np.int64]:
    """Return the pixels of each object that there is, in the order of their ids."""
    _, counts = np.unique(ids[ids > 0], return_counts=True)
    return counts


def depth(ids: Instances) -> npt.NDArray[np.float32]:
    """Return how far it is from each pixel of an object to the nearest one that is not of it, in pixels.

    The edge of the image is none of an object: what is cut by it goes on there.

    Parameters
    ----------
    ids
        (H, W), numbered 1, 2, 3, ...

    Returns
    -------
    ndarray
        (H, W) float32, 0 where there is no object.
    """
    found = np.zeros(ids.shape, np.float32)
    for number, box in enumerate(ndi.find_objects(ids), start=1):
        if box is None:
            continue
        own = ids[box] == number
        sides = [(0 if at.start == 0 else 1, 0 if at.stop == n else 1) for at, n in zip(box, ids.shape, strict=True)]
        room = np.pad(own, sides)
        distance = room * np.float32(max(ids.shape)) if room.all() else ndi.distance_transform_edt(room)
        inside = distance[tuple(slice(before, n - after) for (before, after), n in zip(sides, room.shape, strict=True))]
        found[box][own] = inside[own]
    return found


def without_small(ids: Instances, least: float) -> Instances:
    """Leave out objects of fewer pixels than this, and number the others 1, 2, 3, ..."""
    counts = np.bincount(ids.ravel())
    kept = counts >= max(least, 1)
    kept[0] = False
    return (np.cumsum(kept) * kept).astype(np.int32)[ids]
