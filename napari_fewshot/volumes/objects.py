"""Objects across slices: those on too few of them, and those that are missing on some."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.ndimage import generate_binary_structure, label

from napari_fewshot.frames import Labels
from napari_fewshot.support import BACKGROUND

LabelStack = npt.NDArray[np.integer]
"""(slices, H, W) label values."""


def without_gaps(window: LabelStack, centre: int, most: int) -> Labels:
    """Fill in what is missing on a slice of a window, but there on both sides of it.

    A pixel of background becomes a class that lies above and below it with no more than ``most`` slices of background
    in between. Nothing else is changed.

    Parameters
    ----------
    window
        Labels of slices that follow each other; ``most`` of them on either side of the slice are enough.
    centre
        Place of the slice in the window.
    most
        Longest gap, in slices.

    Returns
    -------
    Labels
        (H, W) int32.
    """
    labels: Labels = window[centre].astype(np.int32)
    if most < 1:
        return labels
    (above, up), (below, down) = _first(window[:centre][::-1], most), _first(window[centre + 1 :], most)
    filled = (labels == BACKGROUND) & (above != BACKGROUND) & (above == below) & (up + down - 1 <= most)
    labels[filled] = above[filled]
    return labels


def _first(slices: LabelStack, most: int) -> tuple[Labels, npt.NDArray[np.int32]]:
    """The first class that is met on the way through slices (H, W), and after how many; background and none else."""
    met, after = np.zeros(slices.shape[1:], np.int32), np.zeros(slices.shape[1:], np.int32)
    for steps, each in enumerate(slices[:most], start=1):
        new = (met == BACKGROUND) & (each != BACKGROUND)
        met[new], after[new] = each[new], steps
    return met, after


def without_short(window: LabelStack, centre: int, least: int) -> Labels:
    """Leave out objects of a slice that are on fewer than ``least`` slices in a row.

    An object is what hangs together: in the plane also across corners, from slice to slice where pixels lie on each
    other. ``least - 1`` slices on either side decide it for the whole object, however long: one that leaves the window
    has crossed that many.

    Parameters
    ----------
    window
        Labels of slices that follow each other.
    centre
        Place of the slice in the window.
    least
        Slices that an object is on at least.

    Returns
    -------
    Labels
        (H, W) int32.
    """
    labels: Labels = window[centre].astype(np.int32)
    if least < 2:
        return labels
    together = generate_binary_structure(3, 1)
    together[1] = True
    for class_id in np.unique(labels[labels != BACKGROUND]):
        objects, count = label(window == class_id, together)
        here = objects[centre]
        extent = np.zeros(count + 1, int)
        for each in objects:
            extent[np.unique(each)] += 1
        labels[(here > 0) & (extent[here] < least)] = BACKGROUND
    return labels


def window_of(labels: Sequence[Labels | None], size: tuple[int, int]) -> LabelStack:
    """Stack labels; slices of which nothing is known, or of another size, are background."""
    empty = np.zeros(size, np.int32)
    stack: LabelStack = np.stack([each if each is not None and each.shape == size else empty for each in labels])
    return stack
