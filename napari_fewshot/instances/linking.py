"""Ids that stay: the same object keeps its number when a frame is proposed for anew, and from slice to slice.

Objects of two label maps are paired so that all pairs together overlap most (the assignment problem, which SciPy solves
after Jonker & Volgenant, 1987). An object that has no partner gets a number that nobody had.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from napari_fewshot.frames import Instances

_FAR: Final = 1e6


def matched(ids: Instances, before: Instances, *, least: float = 0.1, reach: float = 0.0, free: int = 1) -> Instances:
    """Give objects the numbers that they had before.

    Parameters
    ----------
    ids
        (H, W) objects as they are now.
    before
        (H, W) objects as they were: earlier proposals of the frame, or the slice before.
    least
        IoU from which on two can be the same.
    reach
        How far the centre of an object may have moved, in radii of the smaller one, for two that overlap less; 0 where
        only overlap counts.
    free
        Who has no partner gets no smaller number than this: where slices are linked, others have numbers as well.

    Returns
    -------
    Instances
        (H, W) int32; who has no partner gets a number behind all that were there.

    Raises
    ------
    ValueError
        If both are of different sizes.

    Examples
    --------
    >>> matched(np.array([[1, 1, 0, 2, 2]]), np.array([[0, 8, 8, 0, 0]]))
    array([[8, 8, 0, 9, 9]], dtype=int32)
    """
    return _renumbered(ids, before, max(free, int(before.max(initial=0)) + 1), least, reach)[0]


def linked(
    frames: Iterable[Instances], *, least: float = 0.1, reach: float = 0.0, free: int = 1
) -> Iterator[Instances]:
    """Link objects along z or t, lazily: each keeps its number from one frame to the next.

    Parameters
    ----------
    frames
        (H, W) ids of consecutive slices or times.
    least, reach
        See `matched`.
    free
        The smallest number that is given.

    Yields
    ------
    Instances
        (H, W) int32, one for each; a number that was given is never given to another object.
    """
    before: Instances | None = None
    for ids in frames:
        base = np.zeros_like(ids) if before is None else before
        before, free = _renumbered(ids, base, free, least, reach)
        yield before


def _renumbered(ids: Instances, before: Instances, free: int, least: float, reach: float) -> tuple[Instances, int]:
    """The ids, and the next number that nobody had."""
    if ids.shape != before.shape:
        raise ValueError(f"objects are {ids.shape}, but before they were {before.shape}; compare frames of one size")
    now, position = np.unique(ids[ids > 0], return_inverse=True)
    then, earlier = np.unique(before[before > 0], return_inverse=True)
    number = np.zeros(len(now), np.int64)
    for i, j in _pairs(ids, before, (now, position), (then, earlier), least, reach):
        number[i] = then[j]
    fresh = number == 0
    number[fresh] = free + np.arange(int(fresh.sum()))
    made = np.zeros(ids.shape, np.int32)
    made[ids > 0] = number[position]
    return made, max(free + int(fresh.sum()), int(then.max(initial=0)) + 1)


_Known = tuple[npt.NDArray[np.int32], npt.NDArray[np.intp]]


def _pairs(
    ids: Instances, before: Instances, now: _Known, then: _Known, least: float, reach: float
) -> Iterator[tuple[int, int]]:
    """Indices of objects that are the same."""
    if not len(now[0]) or not len(then[0]):
        return
    at, at_before = np.full(ids.shape, -1), np.full(ids.shape, -1)
    at[ids > 0], at_before[before > 0] = now[1], then[1]
    both = (ids > 0) & (before > 0)
    keys, shared = np.unique(at[both] * len(then[0]) + at_before[both], return_counts=True)
    rows, columns = keys // len(then[0]), keys % len(then[0])
    areas, areas_before = np.bincount(now[1]), np.bincount(then[1])
    worth = shared / (areas[rows] + areas_before[columns] - shared)
    rows, columns, worth = rows[worth >= least], columns[worth >= least], worth[worth >= least]
    if reach > 0:
        rows, columns, worth = _with_neighbours((rows, columns, worth), (at, areas), (at_before, areas_before), reach)
    yield from _assigned(rows, columns, worth, len(areas), len(areas_before))


def _with_neighbours(
    overlaps: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]],
    now: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    then: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    reach: float,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Add pairs that are near each other, worth less than any that overlap enough."""
    (at, areas), (at_before, areas_before) = now, then
    centres, centres_before = (
        np.array(ndi.center_of_mass(np.ones(where.shape), where, np.arange(len(size))))
        for where, size in ((at, areas), (at_before, areas_before))
    )
    radii, radii_before = np.sqrt(areas / np.pi), np.sqrt(areas_before / np.pi)
    known = set(zip(overlaps[0].tolist(), overlaps[1].tolist(), strict=True))
    found = []
    for i, near in enumerate(cKDTree(centres_before).query_ball_point(centres, reach * radii)):
        for j in sorted(near):
            distance = float(np.linalg.norm(centres[i] - centres_before[j]))
            allowed = reach * min(radii[i], radii_before[j])
            if distance <= allowed and (i, j) not in known:
                found.append((i, j, 1e-3 * (1 - distance / (2 * allowed))))
    if not found:
        return overlaps
    more = np.array(found)
    return (
        np.concatenate([overlaps[0], more[:, 0].astype(np.int64)]),
        np.concatenate([overlaps[1], more[:, 1].astype(np.int64)]),
        np.concatenate([overlaps[2], more[:, 2]]),
    )


def _assigned(
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    worth: npt.NDArray[np.float64],
    height: int,
    width: int,
) -> Iterator[tuple[int, int]]:
    """Pairs that are worth most together; each group of objects that can be confused is solved alone."""
    links = coo_array((np.ones(len(rows)), (rows, height + columns)), (height + width, height + width))
    _, group = connected_components(links, directed=False)
    order = np.argsort(group[rows], kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(group[rows][order])) + 1):
        if not len(part):
            continue
        own, other = np.unique(rows[part]), np.unique(columns[part])
        cost = np.full((len(own), len(other)), _FAR)
        cost[np.searchsorted(own, rows[part]), np.searchsorted(other, columns[part])] = -worth[part]
        for i, j in zip(*linear_sum_assignment(cost), strict=True):
            if cost[i, j] < 0:
                yield int(own[i]), int(other[j])
