"""The filter: what a slice and its neighbours say together.

The logarithms of probabilities are averaged, so that who is sure counts more: over the slices around, which are laid
over each other first (see `alignment`), and over a small window in each of them. A pixel counts the less the further
away it is, and the less it looks like the one that is decided about: a joint bilateral filter (Petschnigg et al., ACM
TOG 2004; Eisemann and Durand, ACM TOG 2004) in three dimensions, guided by the image,

    log p(x, z) ~ sum over n, d of w(n) g(d) exp(-((I(x, z) - I(x + d, z + n)) / tolerance)^2) log p(x + d, z + n)

with w(0) = 1, w(n) = strength * exp(-(|n| - 1) step / 8 px), and g a Gaussian. What comes out is filtered once more
within the slice, over a window twice as wide. Both have a finite support, `reach_of` slices to either side and few
pixels: what comes out for a slice depends on these alone, to the last bit, however many slices there are and in
whatever order they are worked on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np

from napari_fewshot.support import BACKGROUND
from napari_fewshot.volumes.alignment import Flow
from napari_fewshot.volumes.slices import ROWS, Floats, Slice

_FLOOR: Final = 1e-3  # no probability is lower: one slice cannot rule out what all others see
_DECAY: Final = 8.0  # pixels over which a neighbour comes to count a third
_LEAST_REACH: Final = 2
_MOST_REACH: Final = 4
_WINDOW: Final = 2  # places to each side of a pixel
_FIRST, _SECOND = 1, 2  # pixels of the picture from one place to the next, of the first and of the second window
_WIDTH: Final = 2.0  # places, of the Gaussian in a window


@dataclass(frozen=True)
class Weights:
    """How much neighbouring slices count.

    Attributes
    ----------
    strength
        Of the next slice, where the slice itself counts 1; 0 is off.
    tolerance
        How unlike two pixels may be, where the difference between black and white is 1.
    near
        Share of what the nearest shots say by themselves, in [0, 1].
    between
        What the shapes in between two painted slices count, where the slice itself counts 1.
    """

    strength: float = 0.5
    tolerance: float = 0.1
    near: float = 0.0
    between: float = 1.0


@dataclass(frozen=True, eq=False)
class Neighbour:
    """A slice beside another one.

    Attributes
    ----------
    slice
        It.
    away
        How many places, at least 1.
    flow
        How the other lies on it.
    """

    slice: Slice
    away: int
    flow: Flow


def reach_of(step: float) -> int:
    """Tell how many slices to either side count, if they lie ``step`` pixels apart: 2 to 4."""
    return int(np.clip(math.ceil(_DECAY / max(step, _DECAY / _MOST_REACH)), _LEAST_REACH, _MOST_REACH))


def fading(away: int, step: float) -> float:
    """Tell how much less a slice counts than the next one, being so many slices of ``step`` pixels away."""
    return math.exp(-(away - 1) * step / _DECAY)


def log(probabilities: Floats) -> Floats:
    """Logarithm of probabilities, none of which is taken to be 0."""
    return np.asarray(np.log(probabilities + np.float32(_FLOOR)), np.float32)


@dataclass(frozen=True)
class _Band:
    """Rows of a slice, and a margin around them: beyond the sides of the slice, its outermost pixels go on."""

    top: int
    bottom: int
    margin: int
    height: int

    @property
    def first(self) -> int:
        return max(0, self.top - self.margin)

    @property
    def end(self) -> int:
        return min(self.height, self.bottom + self.margin)

    def padded(self, rows: Floats) -> Floats:
        """Give rows from ``first`` to ``end`` (..., n, W) the margin that they lack."""
        missing = (self.margin - (self.top - self.first), self.margin - (self.end - self.bottom))
        return np.pad(rows, [(0, 0)] * (rows.ndim - 2) + [missing, (self.margin, self.margin)], mode="edge")


class _Sum:
    """What pixels in windows say, weighted (1 + C, rows, W), and their weights (rows, W)."""

    def __init__(self, guide: Floats, channels: int) -> None:
        self.says = np.zeros((channels, *guide.shape), np.float32)
        self.weight = np.zeros(guide.shape, np.float32)
        self._guide = guide

    def add(self, band: _Band, logs: Floats, picture: Floats, tolerance: float, spacing: int) -> "_Sum":
        """Look at windows of a slice, of which rows from ``band.first`` to ``band.end`` are given."""
        (rows, columns), margin = self._guide.shape, band.margin
        logs, picture = band.padded(logs), band.padded(picture)
        weight, part = np.empty_like(self._guide), np.empty_like(self._guide)
        for dy, dx in product(range(-_WINDOW, _WINDOW + 1), repeat=2):
            y, x = margin + dy * spacing, margin + dx * spacing
            there = np.s_[y : y + rows, x : x + columns]
            np.subtract(self._guide, picture[there], out=weight)
            np.square(weight, out=weight)
            weight *= np.float32(-1 / tolerance**2)
            weight -= np.float32((dy * dy + dx * dx) / (2 * _WIDTH**2))
            np.exp(weight, out=weight)
            self.weight += weight
            for says, log_of in zip(self.says, logs, strict=True):
                np.multiply(weight, log_of[there], out=part)
                says += part
        return self


class View:
    """A slice and its neighbours at some rows, laid over each other.

    Parameters
    ----------
    centre
        The slice.
    neighbours
        Those around it; the order in which they are given decides about the last bits.
    step
        Distance of two slices in pixels.
    top, bottom
        The rows.
    """

    def __init__(self, centre: Slice, neighbours: Sequence[Neighbour], step: float, top: int, bottom: int) -> None:
        self.spacing, self.channels, height = centre.reduction, 1 + len(centre.class_ids), centre.size[0]
        self.band = _Band(top, bottom, _WINDOW * _SECOND * self.spacing, height)
        self.wide = _Band(self.band.first, self.band.end, _WINDOW * _FIRST * self.spacing, height)
        ends = self.wide.first, self.wide.end
        self.guide = centre.brightness(self.band.first, self.band.end)
        self.own = log(centre.rows(*ends)), centre.brightness(*ends)
        self.beside = []
        for neighbour in neighbours:
            says, picture = neighbour.flow.rows_of(neighbour.slice, *ends)
            self.beside.append((np.float32(fading(neighbour.away, step)), log(says), picture))


class Evidence:
    """What a slice and its neighbours say of some rows: gathered once, and weighed as often as one likes.

    Parameters
    ----------
    view
        They.
    tolerance
        See `Weights`.
    """

    def __init__(self, view: View, tolerance: float) -> None:
        self._view, self._tolerance = view, tolerance

        def gathered(logs: Floats, picture: Floats) -> _Sum:
            found = _Sum(view.guide, view.channels)
            return found.add(view.wide, logs, picture, tolerance, _FIRST * view.spacing)

        self._own = gathered(*view.own)
        self._beside = [(fades, gathered(logs, picture)) for fades, logs, picture in view.beside]

    def weighed(self, weights: Weights, between: Floats | None = None) -> Floats:
        """Decide about the rows.

        Parameters
        ----------
        weights
            Those of this tolerance.
        between
            (1 + C, H, W) what shapes in between painted slices say, or None.

        Returns
        -------
        Floats
            (1 + C, rows, W) probabilities.
        """
        view, band = self._view, self._view.band
        total, sum_of_weights = self._own.says.copy(), self._own.weight.copy()
        for fades, beside in self._beside:
            share = np.float32(weights.strength) * fades
            total += share * beside.says
            sum_of_weights += share * beside.weight
        if between is not None:
            shaped = np.float32(weights.between) * self._own.weight
            total += shaped * log(between[:, band.first : band.end])
            sum_of_weights += shaped
        total /= sum_of_weights
        first = log(_probable(total))
        inner = np.s_[band.top - band.first : band.bottom - band.first]
        second = _Sum(view.guide[inner], view.channels)
        second.add(band, first, view.guide, self._tolerance, _SECOND * view.spacing)
        second.says /= second.weight
        return _probable(second.says)


def smoothed(
    centre: Slice,
    neighbours: Sequence[Neighbour],
    weights: Weights,
    step: float,
    out: Floats,
    between: Floats | None = None,
) -> None:
    """Let a slice and its neighbours decide together; what a person says stands.

    Parameters
    ----------
    centre
        The slice.
    neighbours
        Those around it; the order in which they are given decides about the last bits.
    weights
        How much they count; with a strength of 0 the slice is not filtered either.
    step
        Distance of two slices in pixels.
    out
        (1 + C, H, W), filled with the new probabilities.
    between
        (1 + C, H, W) what shapes in between painted slices say, or None.
    """
    values = (BACKGROUND, *centre.class_ids)
    for top in range(0, centre.size[0], ROWS):
        bottom = min(top + ROWS, centre.size[0])
        out[:, top:bottom] = decided(centre, neighbours, weights, step, top, bottom, between)
        if centre.human is not None:
            said = centre.human[top:bottom]
            known = np.isin(said, values)
            for channel, value in enumerate(values):
                out[channel, top:bottom][known] = said[known] == value


def decided(
    centre: Slice,
    neighbours: Sequence[Neighbour],
    weights: Weights,
    step: float,
    top: int,
    bottom: int,
    between: Floats | None = None,
) -> Floats:
    """Decide about some rows (1 + C, rows, W); see `smoothed`."""
    if weights.strength:
        view = View(centre, neighbours, step, top, bottom)
        return Evidence(view, weights.tolerance).weighed(weights, between)
    total = log(centre.rows(top, bottom))
    if between is not None:
        total += np.float32(weights.between) * log(between[:, top:bottom])
        total /= np.float32(1 + weights.between)
    return _probable(total)


def _probable(logs: Floats) -> Floats:
    """From logarithms (1 + C, ...) to probabilities that sum to 1."""
    found = np.exp(logs - logs.max(axis=0))
    return np.asarray(found / found.sum(axis=0), np.float32)
