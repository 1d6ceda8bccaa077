"""How well objects are found: each is right or wrong by its overlap with a true one; F1 and average precision.

As in the 2018 Data Science Bowl, in StarDist and in Cellpose, average precision at an IoU is TP / (TP + FP + FN):
objects of a label map have no score that a curve could be drawn over.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from napari_fewshot.frames import Instances

THRESHOLDS: Final = tuple(i / 20 for i in range(10, 19))
"""IoUs beyond which an object counts as found: 0.5, 0.55, ... 0.9. From 0.5 on no object can be matched twice."""


@dataclass(frozen=True)
class ObjectCounts:
    """Objects of an image, or of many added up.

    Attributes
    ----------
    right
        Proposed objects that overlap a true one by more than each of `THRESHOLDS`.
    proposed, true
        Objects in all.

    Examples
    --------
    >>> counts = ObjectCounts((3,) * 9, proposed=4, true=5) + ObjectCounts((1,) * 9, proposed=1, true=1)
    >>> round(counts.f1(), 3), round(counts.precision(), 3)
    (0.727, 0.571)
    """

    right: tuple[int, ...] = (0,) * len(THRESHOLDS)
    proposed: int = 0
    true: int = 0

    def __add__(self, other: "ObjectCounts") -> "ObjectCounts":
        right = tuple(a + b for a, b in zip(self.right, other.right, strict=True))
        return ObjectCounts(right, self.proposed + other.proposed, self.true + other.true)

    def f1(self, threshold: float = 0.5) -> float | None:
        """Return 2 TP / (2 TP + FP + FN), in [0, 1]; None where there is no object at all."""
        right, there = self._right(threshold), self.proposed + self.true
        return 2 * right / there if there else None

    def precision(self, threshold: float = 0.5) -> float | None:
        """Return the average precision TP / (TP + FP + FN), in [0, 1]; None where there is no object at all."""
        right = self._right(threshold)
        there = self.proposed + self.true - right
        return right / there if there else None

    def mean_precision(self) -> float | None:
        """Return the average precision, averaged over all `THRESHOLDS`; None where there is no object at all."""
        each = [found for t in THRESHOLDS if (found := self.precision(t)) is not None]
        return sum(each) / len(each) if each else None

    def _right(self, threshold: float) -> int:
        if threshold not in THRESHOLDS:
            raise ValueError(f"nothing is counted at an IoU of {threshold}; use one of {THRESHOLDS}")
        return self.right[THRESHOLDS.index(threshold)]


def count_objects(proposed: Instances, truth: Instances, known: npt.NDArray[np.bool_] | None = None) -> ObjectCounts:
    """Compare the objects of a proposal with true ones.

    Parameters
    ----------
    proposed, truth
        (H, W) ids, 0 for no object.
    known
        (H, W) False where nobody knows the truth: these pixels count for nothing, and a proposed object that lies there
        for the larger part is left out. None where all is known.

    Examples
    --------
    >>> true = np.array([[1, 1, 1, 1, 0, 2, 2]])
    >>> count_objects(np.array([[5, 5, 5, 0, 0, 9, 0]]), true).right[:6]
    (1, 1, 1, 1, 1, 0)
    """
    if known is not None:
        proposed, truth = _judgeable(proposed, known), np.where(known, truth, 0)
    proposed_ids, areas = np.unique(proposed[proposed > 0], return_counts=True)
    true_ids, true_areas = np.unique(truth[truth > 0], return_counts=True)
    both = (proposed > 0) & (truth > 0)
    pairs = np.searchsorted(proposed_ids, proposed[both]) * len(true_ids) + np.searchsorted(true_ids, truth[both])
    pairs, shared = np.unique(pairs, return_counts=True)
    iou = shared / (areas[pairs // max(len(true_ids), 1)] + true_areas[pairs % max(len(true_ids), 1)] - shared)
    return ObjectCounts(tuple(int((iou > t).sum()) for t in THRESHOLDS), len(proposed_ids), len(true_ids))


def total(counts: Iterable[ObjectCounts]) -> ObjectCounts:
    """Add up the objects of several images."""
    return sum(counts, ObjectCounts())


def _judgeable(proposed: Instances, known: npt.NDArray[np.bool_]) -> Instances:
    ids, inverse, areas = np.unique(proposed, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(proposed.shape)
    seen = np.bincount(inverse[known], minlength=len(ids))
    return np.where(known & (2 * seen >= areas)[inverse], proposed, 0).astype(np.int32)
