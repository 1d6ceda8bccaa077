"""A frame at a glance: a small picture of it, and a few numbers that tell how alike two frames look."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from napari_fewshot.frames import Frame, Pixels

SIDE: Final = 40
"""Longest side of the small picture, in pixels."""

_POINTS: Final = 128
"""Rows, and columns, that are looked at."""
_QUANTILES: Final = np.linspace(0.02, 0.98, 17)
_MAX_COLOURS: Final = 3

_LEAST_FAR: Final = 0.15
"""Distance, in the unit of `likeness`, up to which nothing is called unlike."""
_FAR_FROM_ONE: Final = 0.25
"""The same where there is one shot: how far shots are from each other is not known then."""
_CLEARLY: Final = 1.5


@dataclass(frozen=True, eq=False)
class Glimpse:
    """What a frame looks like.

    Attributes
    ----------
    picture
        (h, w, 3) uint8, no side longer than 40 pixels.
    brightness
        (2 * 17,) float32: quantiles of the intensities, and of how much neighbouring points differ, in the unit of the
        image.
    """

    picture: npt.NDArray[np.uint8]
    brightness: npt.NDArray[np.float32]


def glimpse(frame: Frame) -> Glimpse:
    """Look at a frame: at no more than 128 x 128 of its pixels, evenly spread over it; slow where it lies on a disk.

    Raises
    ------
    ImageError
        If it cannot be read.
    """
    points = _spread(frame.open())  # (h, w, channels)
    return Glimpse(_picture(points), _brightness(points))


def _spread(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Read pixels on a regular grid (h, w, channels)."""
    height, width = pixels.size
    step = max(1, -(-max(height, width) // _POINTS))
    read = pixels[0:height:step, 0:width:step]
    return (read if read.ndim == 3 else read[..., None]).astype(np.float32)


def _picture(points: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Shrink to the size of a stamp, stretched from the darkest to the brightest; of many channels the first three."""
    step = max(1, -(-max(points.shape[:2]) // SIDE))
    small = points[::step, ::step, :_MAX_COLOURS]
    if small.shape[2] == 2:
        small = small[..., :1]
    low, high = (float(v) for v in np.quantile(small, (0.005, 0.995)))
    stretched = (small - low) / max(high - low, 1e-6)
    return np.broadcast_to((255 * stretched.clip(0, 1)).astype(np.uint8), (*small.shape[:2], 3)).copy()


def _brightness(points: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    gray = points.mean(axis=2)
    steps = np.concatenate([np.abs(np.diff(gray, axis=axis)).ravel() for axis in (0, 1)])
    return np.concatenate([np.quantile(gray, _QUANTILES), np.quantile(steps, _QUANTILES)]).astype(np.float32)


def likeness(
    frames: Sequence[npt.NDArray[np.float32]], shots: Sequence[npt.NDArray[np.float32]]
) -> npt.NDArray[np.float64]:
    """Tell how much each frame looks like the shot that it is most like.

    Two frames are as far apart as their distributions of intensity are, and those of the steps from point to
    neighbouring point: the mean distance of their quantiles, which is the 1-Wasserstein distance (Vallender 1974). The
    unit is the spread of the shots: the distance between their 2 % and their 98 % quantile. A distance d is a likeness
    of 1 / (1 + d).

    Parameters
    ----------
    frames
        N times `Glimpse.brightness`.
    shots
        S times the same; where S is 0 nothing can be told, and everything is alike.

    Returns
    -------
    array
        (N,) in (0, 1], 1 for a frame that looks just like a shot.
    """
    if not frames or not shots:
        return np.ones(len(frames))
    asked, taught = np.stack(frames).astype(np.float64), np.stack(shots).astype(np.float64)
    half = len(_QUANTILES)
    nearest = np.full(len(asked), np.inf)
    spreads = [_spread_of(taught[:, part]) for part in (slice(None, half), slice(half, None))]
    for shot in taught:
        distance = np.abs(asked - shot)  # (N, 2 * 17)
        apart = distance[:, :half].mean(axis=1) / spreads[0] + distance[:, half:].mean(axis=1) / spreads[1]
        nearest = np.minimum(nearest, apart / 2)
    alike: npt.NDArray[np.float64] = 1 / (1 + nearest)
    return alike


def unlike_every_shot(
    frames: Sequence[npt.NDArray[np.float32]], shots: Sequence[npt.NDArray[np.float32]]
) -> npt.NDArray[np.bool_]:
    """Tell which frames look like no shot: clearly farther from the nearest than shots are from each other.

    Parameters
    ----------
    frames, shots
        See `likeness`.

    Returns
    -------
    array
        (N,); nothing is unlike where there is no shot.
    """
    if not shots:
        return np.zeros(len(frames), bool)
    limit = _FAR_FROM_ONE
    if len(shots) > 1:
        nearest = [1 / likeness([shot], [*shots[:i], *shots[i + 1 :]])[0] - 1 for i, shot in enumerate(shots)]
        limit = max(_LEAST_FAR, _CLEARLY * max(nearest))
    unlike: npt.NDArray[np.bool_] = 1 / likeness(frames, shots) - 1 > limit
    return unlike


def _spread_of(quantiles: npt.NDArray[Any]) -> float:
    """Mean distance over shots between their lowest and their highest quantile; never 0."""
    spread = float((quantiles[:, -1] - quantiles[:, 0]).mean())
    return spread if spread > 0 else max(1e-6, float(np.abs(quantiles).mean()))
