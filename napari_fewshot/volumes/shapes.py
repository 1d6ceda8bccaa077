"""Shapes in between two painted slices, by their signed distances (Raya and Udupa, IEEE TMI 1990)."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from scipy.ndimage import distance_transform_edt

from napari_fewshot.frames import Labels
from napari_fewshot.support import BACKGROUND
from napari_fewshot.volumes.slices import ROWS, Floats

_SOFTNESS: Final = 1.0  # pixels, right beside a painted slice; it grows with the distance to the nearer one


def signed_distances(labels: Labels, class_ids: Sequence[int]) -> Floats:
    """Tell how deep each pixel is in each label, in pixels: positive inside, negative outside.

    Parameters
    ----------
    labels
        (H, W), every pixel labelled.
    class_ids
        The C classes.

    Returns
    -------
    Floats
        (1 + C, H, W), background first; infinite where a label is everywhere or nowhere.
    """
    values = (BACKGROUND, *class_ids)
    found = np.empty((len(values), *labels.shape), np.float32)
    for channel, value in enumerate(values):
        inside = labels == value
        if inside.all() or not inside.any():
            found[channel] = np.inf if inside.any() else -np.inf
        else:
            found[channel] = distance_transform_edt(inside) - distance_transform_edt(~inside)
    return found


def in_between(one: Floats, other: Floats, part: float, away: int) -> Floats:
    """Tell how probable each label is on a slice in between two painted ones.

    A shape that is on one of them only ends half-way.

    Parameters
    ----------
    one, other
        (1 + C, H, W) signed distances of the painted slices.
    part
        How far the slice is on the way from the one to the other, in (0, 1).
    away
        How many slices the nearer of the two is away.

    Returns
    -------
    Floats
        (1 + C, H, W), summing to 1.
    """
    soft = _SOFTNESS * (1 + away) / 2
    here, there = _finite(one, other), _finite(other, one)
    found = np.empty_like(one)
    for top in range(0, one.shape[1], ROWS):
        rows = slice(top, top + ROWS)
        depth = ((1 - part) * here(rows) + part * there(rows)) / soft
        depth -= depth.max(axis=0)
        np.exp(depth, out=depth)
        found[:, rows] = depth / depth.sum(axis=0)
    return found


def _finite(distances: Floats, other: Floats) -> Callable[[slice], Floats]:
    """Give access to rows of signed distances; a label that is nowhere is as far away as it is deep on the other."""
    ends = np.zeros(len(distances), np.float32)
    for channel, (mine, theirs) in enumerate(zip(distances, other, strict=True)):
        end = float(mine[0, 0])
        if np.isinf(end):
            opposite = float(theirs.min() if end > 0 else theirs.max())
            ends[channel] = -opposite if np.isfinite(opposite) else np.sign(end) * max(mine.shape)

    def rows(part: slice) -> Floats:
        chosen = distances[:, part]
        return np.where(np.isfinite(chosen), chosen, ends[:, None, None]).astype(np.float32)

    return rows
