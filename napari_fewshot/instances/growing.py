"""Objects grown from seeds in a space where pixels of one object are close (Fathi et al., arXiv 1703.10277).

The mask of a pixel is what is similar to it. Seeds are picked one after the other, where a mask is probably an object
and far from all that were picked before; of masks that are the same object the most probable one stays.
"""

from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
import numpy.typing as npt
import scipy.sparse
from skimage.segmentation import watershed

from napari_fewshot.frames import Instances
from napari_fewshot.instances.embedding import TAUS, Embedded, Numbers

_CANDIDATES: Final = (
    60_000  # seeds are looked for among so many pixels, evenly spread, so that a pick takes a millisecond
)
_REACH: Final = 5.0  # radii: an object does not go further from its seed
_MOST: Final = 6.0  # seeds for each usual object that would find room
_LEAST_SCORE: Final = 1e-12

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class GrowSettings:
    """How objects are grown. Areas are shares of that of a usual object."""

    threshold: Annotated[float, "Probability from which on there is an object, between 0 and 1."] = 0.5
    alpha: Annotated[float, "How much being far from other seeds counts beside being a good one; 0 for nothing."] = 0.2
    seediness: Annotated[float, "Least probability that what grows from a seed is an object."] = 0.1
    overlap: Annotated[float, "IoU from which on two masks are the same object."] = 0.5
    min_area: Annotated[float, "Objects smaller than this share of a usual one are left out."] = 0.1

    def __post_init__(self) -> None:
        if not (0 < self.threshold < 1 and 0 < self.overlap <= 1 and 0 <= self.seediness <= 1):
            raise ValueError("threshold must lie between 0 and 1, overlap in (0, 1], seediness in [0, 1]")
        if min(self.alpha, self.min_area) < 0:
            raise ValueError("alpha and min_area must be 0 or more")


def similarity(squared: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Return how similar pixels are whose vectors are so far apart: 2 / (1 + exp(d^2)), in [0, 1]; 1 for the same."""
    return np.asarray(2 / (1 + np.exp(np.minimum(squared, 80))))


def reach_of(tau: float) -> float:
    """Return the squared distance at which the similarity is ``tau``, in (0, 1]."""
    return float(np.log(2 / tau - 1))


class Seeds:
    """Picks seeds greedily: argmax of log S + alpha log D, D the least squared distance to those that were picked.

    Parameters
    ----------
    vectors
        (N, D) of the pixels to choose from.
    scores
        (N,) how good a seed each is, in [0, 1].
    alpha
        Weight of the distance.
    """

    def __init__(self, vectors: Numbers, scores: Numbers, alpha: float) -> None:
        self._vectors = vectors
        self._norms = np.einsum("nd,nd->n", vectors, vectors)
        self._scores = np.log(np.maximum(scores, _LEAST_SCORE)).astype(np.float64)
        self._alpha = alpha
        self.distances = np.full(len(vectors), np.inf)
        """(N,) squared distance to the nearest seed; infinite before the first."""

    def exclude(self, pixels: npt.NDArray[np.bool_] | Indices) -> None:
        """Let some be no seed from now on."""
        self._scores[pixels] = -np.inf

    def pick(self) -> int | None:
        """Pick the next; None where nothing is left."""
        if not len(self._scores):
            return None
        merit = self._scores
        if self._alpha and np.isfinite(self.distances[0]):
            merit = merit + self._alpha * np.log(np.maximum(self.distances, np.finfo(np.float64).tiny))
        best = int(merit.argmax())
        if self._scores[best] == -np.inf:
            return None
        self.exclude(np.array([best]))
        apart = self._norms + self._norms[best] - 2 * (self._vectors @ self._vectors[best])
        np.minimum(self.distances, np.maximum(apart, 0), out=self.distances)
        return best


def suppress(masks: list[Indices], scores: npt.NDArray[np.floating], overlap: float, pixels: int) -> list[int]:
    """Return which masks stay, the best first, when none may have a larger IoU with a better one (NMS).

    Parameters
    ----------
    masks
        Pixels of each.
    scores
        (M,) of each.
    overlap
        That IoU.
    pixels
        How many there are.
    """
    if not masks:
        return []
    sizes = np.array([len(mask) for mask in masks])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    ones = np.ones(starts[-1], np.int32)
    rows = scipy.sparse.csr_matrix((ones, np.concatenate(masks), starts), (len(masks), pixels))
    shared = (rows @ rows.T).tocsr()
    gone = np.zeros(len(masks), bool)
    kept = []
    for at in np.argsort(-np.asarray(scores), kind="stable"):
        if gone[at]:
            continue
        kept.append(int(at))
        span = slice(shared.indptr[at], shared.indptr[at + 1])
        others, common = shared.indices[span], shared.data[span]
        gone[others[common > overlap * (sizes[others] + sizes[at] - common)]] = True
    return kept


def grow(
    embedded: Embedded, foreground: Numbers, where: npt.NDArray[np.bool_], settings: GrowSettings, radius: float
) -> Instances:
    """Tell the objects of a frame apart.

    Parameters
    ----------
    embedded
        Of the N pixels of ``where``, row by row.
    foreground
        (N,) probability that there is an object.
    where
        (H, W) where there may be one; more than what is above the threshold does no harm.
    settings
        How; the smallest area is not looked at.
    radius
        Of a usual object, in pixels of ``where``.

    Returns
    -------
    Instances
        (H, W) int32, objects 1, 2, 3, ... Pixels above the threshold that no mask has are of the object that is next.
    """
    inside = foreground > settings.threshold
    index = np.full(where.shape, -1, np.intp)
    index[where] = np.where(inside, np.cumsum(inside) - 1, -1)
    at = np.argwhere(index >= 0)
    vectors, goodness = embedded.vectors[inside], embedded.goodness[inside]
    scores = goodness.max(1, initial=0) * foreground[inside]
    limits = np.array([reach_of(tau) for tau in TAUS])[goodness.argmax(1)] if len(at) else np.zeros(0)
    seeds, masks = _masks(vectors, scores, limits, index, at, settings, radius)
    owner = np.zeros(len(at), np.int32)
    for number, kept in reversed(list(enumerate(suppress(masks, scores[seeds], settings.overlap, len(at)), start=1))):
        owner[masks[kept]] = number  # the best last, over all others
    ids = np.zeros(where.shape, np.int32)
    ids[tuple(at.T)] = owner
    flat = np.zeros(where.shape, np.uint8)
    return np.asarray(watershed(flat, ids, mask=index >= 0, connectivity=2), np.int32) if ids.any() else ids


def _masks(
    vectors: Numbers,
    scores: Numbers,
    limits: npt.NDArray[np.float64],
    index: Indices,
    at: Indices,
    settings: GrowSettings,
    radius: float,
) -> tuple[list[int], list[Indices]]:
    """Seeds and the pixels of their masks, until what is left is no good seed."""
    spread = int(np.ceil(np.sqrt(len(at) / _CANDIDATES))) if len(at) else 1
    offered = np.flatnonzero((at % spread == 0).all(1)) if spread > 1 else np.arange(len(at))
    picker = Seeds(vectors[offered], scores[offered], settings.alpha)
    picker.exclude(scores[offered] < settings.seediness)
    place = np.full(len(at), -1, np.intp)
    place[offered] = np.arange(len(offered))
    most = int(np.ceil(_MOST * (1 + len(at) / (np.pi * radius**2))))
    reach = max(2, int(np.ceil(_REACH * radius)))
    seeds: list[int] = []
    masks: list[Indices] = []
    while len(seeds) < most and (picked := picker.pick()) is not None:
        seed = int(offered[picked])
        y, x = at[seed]
        window = index[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        near = window[window >= 0]
        own = near[np.square(vectors[near] - vectors[seed]).sum(1) <= limits[seed]]
        seeds.append(seed)
        masks.append(own)
        covered = place[own]
        picker.exclude(covered[covered >= 0])
    return seeds, masks
