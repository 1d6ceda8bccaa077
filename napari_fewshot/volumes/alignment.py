"""Where the structures of one slice lie on another one: they run obliquely, and cells move.

A dense optical flow between the pictures of two slices (Le Besnerais and Champagnat, ICIP 2005: iterative Lucas-Kanade,
from coarse to fine) tells for each pixel where it is on the other. It is found once for two slices that follow each
other, at half of the size of their pictures. The way back is its inverse, and the way to a slice further away goes
through those in between.
"""

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates

from napari_fewshot.volumes.slices import Floats, Slice, enlarged, reduced

_NOISE: Final = 1.0  # pixels of the flow, over which noise is averaged before slices are compared
_RADIUS: Final = 4  # of what moves together, in pixels of the flow
_WARPS: Final = 3
_TURNS: Final = 4  # on the way to the inverse of a flow
_SMALL: Final = 64  # pixels of a side, up to which pictures are not made smaller
_KEPT_BYTES: Final = 64 << 20


@dataclass(frozen=True, eq=False)
class Flow:
    """How a slice lies on another one.

    Attributes
    ----------
    shifts
        (2, h, w) float32: for each pixel of the flow where it is on the other slice, along y and x, in its own pixels.
    reduction
        Pixels of the slice for one of the flow.
    """

    shifts: Floats
    reduction: int

    def then(self, onwards: "Flow") -> "Flow":
        """Go on to a slice that lies beyond the other one."""
        return Flow(self.shifts + _sampled(onwards.shifts, self.shifts), self.reduction)

    def rows_of(self, other: Slice, top: int, bottom: int) -> tuple[Floats, Floats]:
        """Return what the other slice says of these rows, (1 + C, rows, W), and looks like there, (rows, W)."""
        height, width = other.size
        shifts = enlarged(self.shifts, self.reduction, top, bottom, width) * self.reduction
        y = np.clip(np.arange(top, bottom, dtype=np.float32)[:, None] + shifts[0], 0, height - 1)
        x = np.clip(np.arange(width, dtype=np.float32)[None, :] + shifts[1], 0, width - 1)
        first, end = int(y.min()), min(int(y.max()) + 2, height)
        theirs, at = other.rows(first, end), np.stack([y - first, x])
        says = np.stack([map_coordinates(each, at, order=1, mode="nearest") for each in theirs])
        place = (np.stack([y, x]) + 0.5) / other.reduction - 0.5
        return says, map_coordinates(other.picture, place, order=1, mode="nearest")


Both: TypeAlias = tuple[Flow, Flow]
"""The way to the other slice, and the way back."""

_known: "OrderedDict[tuple[bytes, bytes], Both]" = OrderedDict()
_lock = Lock()


def flows_between(lower: Slice, upper: Slice) -> Both:
    """Align two slices of one size; those that were aligned lately, for whatever shots, cost nothing."""
    question = (lower.digest, upper.digest)
    with _lock:
        if question in _known:
            _known.move_to_end(question)
            return _known[question]
    found = _found(lower, upper)
    with _lock:
        _known[question] = found
        while sum(2 * up.shifts.nbytes for up, _ in _known.values()) > _KEPT_BYTES:
            _known.popitem(last=False)
    return found


def _found(lower: Slice, upper: Slice) -> Both:
    by = 1 if max(lower.picture.shape) <= _SMALL else 2
    here, there = (
        gaussian_filter(reduced(each.picture, by), _NOISE, mode="nearest") for each in (lower, upper)
    )  # (h, w)
    if np.array_equal(here, there) or not here.std() or not there.std():
        shifts = np.zeros((2, *here.shape), np.float32)
    else:
        from skimage.registration import optical_flow_ilk  # slow to import, and mostly not needed

        found = optical_flow_ilk(here, there, radius=_RADIUS, num_warp=_WARPS, gaussian=True, dtype=np.float32)
        shifts = np.nan_to_num(np.asarray(found, np.float32))
    back = -shifts
    for _ in range(_TURNS):  # x + back(x) is where x comes from: back(x) = -shifts(x + back(x))
        back = -_sampled(shifts, back)
    reduction = by * lower.reduction
    return Flow(shifts, reduction), Flow(back, reduction)


def _sampled(values: Floats, shifts: Floats) -> Floats:
    """Values (2, h, w) at places that are shifted."""
    at: npt.NDArray[np.float32] = np.indices(shifts.shape[1:], np.float32) + shifts
    return np.stack([map_coordinates(each, at, order=1, mode="nearest") for each in values])
