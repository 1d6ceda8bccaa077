"""Watershed of a relief into hills, and which of them are one: a hierarchy that is cut at any height afterwards.

Each local maximum has a hill (Vincent & Soille, 1991). Two hills that meet belong together if it is less than h down
from the lower summit to the pass between them; how far down it is, is the *dynamics* of that summit (Grimaud, 1992).
Cutting at h tells apart as many objects as the h-maxima of the relief, for every h from one watershed.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi
from skimage.morphology import local_maxima
from skimage.segmentation import watershed

from napari_fewshot.frames import Instances
from napari_fewshot.instances.objects import EIGHT

_NEIGHBOURS: Final = ((0, 1), (1, 0), (1, 1), (1, -1))  # the other four are these, seen from there

Relief = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Hills:
    """Hills of a relief, and at which height they become one.

    Attributes
    ----------
    ids
        (H, W) int32 one id per hill, 0 outside of the mask.
    merges
        (dynamics, hill, hill across) of every pass at which two ranges of hills meet, the highest pass first: the
        summit of the lower range, and the hill of the other one that it meets.
    """

    ids: Instances
    merges: tuple[tuple[float, int, int], ...]

    @classmethod
    def of(cls, relief: Relief, mask: npt.NDArray[np.bool_]) -> "Hills":
        """Find them within a mask (H, W)."""
        summits, _ = ndi.label(local_maxima(relief) & mask, EIGHT)
        parts, count = ndi.label(mask, EIGHT)
        bare = np.setdiff1d(
            np.arange(1, count + 1), parts[summits > 0]
        )  # its maximum is a plateau that leaves the mask
        if len(bare):
            summits = np.where(np.isin(parts, bare), parts + summits.max(), summits)
        ids = watershed(-relief, summits.astype(np.int32), mask=mask, connectivity=2).astype(np.int32)
        return cls(ids, _merges(relief, ids))

    def roots(self, least: float) -> npt.NDArray[np.int64]:
        """Return the hill that each is part of, (1 + hills,), if summits of smaller dynamics count for nothing."""
        root = np.arange(int(self.ids.max()) + 1)
        for dynamics, hill, across in self.merges:
            if dynamics < least:
                root[hill] = across  # whatever that is part of is higher: its own pass is no lower than this one
        while not np.array_equal(root, up := root[root]):
            root = up
        return root

    def cut(self, least: float) -> Instances:
        """Return (H, W) int32 objects, when summits of smaller dynamics count for nothing."""
        return self.roots(least)[self.ids].astype(np.int32)


def _merges(relief: Relief, ids: Instances) -> tuple[tuple[float, int, int], ...]:
    hills = int(ids.max())
    if hills < 2:
        return ()
    summit = np.concatenate([[-np.inf], ndi.maximum(relief, ids, np.arange(1, hills + 1))])
    pairs, heights = _passes(relief, ids)
    parent = np.arange(hills + 1)
    merges = []
    for at in np.argsort(-heights, kind="stable"):
        here, there = divmod(int(pairs[at]), hills + 1)
        a, b = _top(parent, here), _top(parent, there)
        if a == b:
            continue
        if (summit[a], -a) > (summit[b], -b):
            a, b, there = b, a, here
        merges.append((float(summit[a] - heights[at]), a, there))
        parent[a] = b
    return tuple(merges)


def _top(parent: npt.NDArray[np.int64], hill: int) -> int:
    while parent[hill] != hill:
        parent[hill] = parent[parent[hill]]
        hill = int(parent[hill])
    return hill


def _passes(relief: Relief, ids: Instances) -> tuple[npt.NDArray[np.int64], Relief]:
    """Pairs of hills that meet, as one number each, and the highest place where they do."""
    keys, heights = [], []
    for here, there in map(_shifted, _NEIGHBOURS):
        a, b = ids[here], ids[there]
        meet = (a != b) & (a > 0) & (b > 0)
        low, high = np.minimum(a[meet], b[meet]).astype(np.int64), np.maximum(a[meet], b[meet])
        keys.append(low * (int(ids.max()) + 1) + high)
        heights.append(np.minimum(relief[here][meet], relief[there][meet]))
    pairs, at = np.unique(np.concatenate(keys), return_inverse=True)
    highest = np.full(len(pairs), -np.inf, np.float32)
    np.maximum.at(highest, at, np.concatenate(heights))
    return pairs, highest


def _shifted(step: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of pixels and of their neighbours."""
    down, right = step
    left = (slice(None, -1), slice(1, None))
    columns = (slice(None), slice(None)) if right == 0 else left if right > 0 else left[::-1]
    rows = (slice(None), slice(None)) if down == 0 else left
    return (rows[0], columns[0]), (rows[1], columns[1])
