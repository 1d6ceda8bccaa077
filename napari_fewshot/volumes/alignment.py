"""Where the structures of one slice lie on another one: they run obliquely, and cells move.

A dense optical flow between the pictures of two slices (Le Besnerais and Champagnat, ICIP 2005: iterative Lucas-Kanade,
from coarse to fine) tells for each pixel where it comes from. Where the two do not look alike once they are aligned,
the other slice has nothing to say.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates

from napari_fewshot.volumes.slices import Floats, Slice

_NOISE: Final = 1.0  # pixels of the picture, over which noise is averaged before slices are compared
_RADIUS: Final = 7  # of what moves together, in pixels of the picture
_WARPS: Final = 3


@dataclass(frozen=True, eq=False)
class Link:
    """How a slice lies on a neighbour.

    Attributes
    ----------
    flow
        (2, h, w) float32: for each pixel of the picture where it is on the neighbour's, as a shift along y and x.
    difference
        (h, w) float32: how much the two differ once they are aligned, 1 as much as black and white.
    reduction
        Pixels of the slice for one of the picture.
    """

    flow: Floats
    difference: Floats
    reduction: int

    @classmethod
    def between(cls, one: Slice, other: Slice) -> "Link | None":
        """Align two slices; None where they are not of one size."""
        if one.size != other.size:
            return None
        from skimage.registration import optical_flow_ilk  # slow to import, and mostly not needed

        here, there = (gaussian_filter(each.picture, _NOISE, mode="nearest") for each in (one, other))
        if np.array_equal(here, there) or not here.std() or not there.std():
            flow = np.zeros((2, *here.shape), np.float32)
        else:
            found = optical_flow_ilk(here, there, radius=_RADIUS, num_warp=_WARPS, gaussian=True, dtype=np.float32)
            flow = np.nan_to_num(np.asarray(found, np.float32))
        grid = np.indices(here.shape, np.float32)
        difference = gaussian_filter(
            np.abs(one.picture - map_coordinates(other.picture, grid + flow, order=1, mode="nearest")), _NOISE
        )
        return cls(flow, np.asarray(difference, np.float32), one.reduction)

    def rows_of(self, other: Slice, top: int, bottom: int) -> Floats:
        """Return what the neighbour says of these rows, laid over them: (1 + C, rows, W)."""
        height, width = other.size
        flow = self.enlarged(self.flow, top, bottom, width) * self.reduction
        y = np.arange(top, bottom, dtype=np.float32)[:, None] + flow[0]
        x = np.arange(width, dtype=np.float32)[None, :] + flow[1]
        first = int(np.clip(np.floor(y.min()), 0, height - 1))
        end = int(np.clip(np.ceil(y.max()) + 1, first + 1, height))
        theirs = other.rows(first, end)
        at = np.stack([np.clip(y, 0, height - 1) - first, x])
        return np.stack([map_coordinates(each, at, order=1, mode="nearest") for each in theirs])

    def enlarged(self, picture: Floats, top: int, bottom: int, width: int) -> Floats:
        """Bring rows of something (..., h, w) at the scale of the picture to that of the slice: (..., rows, W)."""
        if self.reduction == 1:
            return picture[..., top:bottom, :]
        at = np.stack(
            np.meshgrid(self._place(np.arange(top, bottom)), self._place(np.arange(width)), indexing="ij")
        ).astype(np.float32)
        planes = picture.reshape(-1, *picture.shape[-2:])
        found = np.stack([map_coordinates(each, at, order=1, mode="nearest") for each in planes])
        return found.reshape(*picture.shape[:-2], bottom - top, width)

    def _place(self, pixels: npt.NDArray[np.integer]) -> npt.NDArray[np.floating]:
        return (pixels + 0.5) / self.reduction - 0.5
