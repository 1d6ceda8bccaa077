"""The filter: what a slice and its neighbours say together.

The logarithms of their probabilities are averaged, so that who is sure counts more. A neighbour is laid over the slice
first, see `alignment`; it counts the less the further away it is, and nothing where the two do not look alike:

    log p(z) ~ sum over n of w(n) log p_n,    w(n) = strength * exp(-(|n| - 1) step / 8 px) * exp(-(difference / tolerance)^2)

with w(0) = 1. Its support is finite, `reach` slices to either side: what comes out for a slice depends on these alone,
to the last bit, however many slices there are and in whatever order they are worked on.
"""  # noqa: E501 - a formula

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from napari_fewshot.volumes.alignment import Link
from napari_fewshot.volumes.slices import ROWS, Floats, Slice

_FLOOR: Final = 1e-3  # no probability is lower: one slice cannot rule out what all others see
_DECAY: Final = 8.0  # pixels over which a neighbour comes to count a third
_LEAST_REACH: Final = 2
_MOST_REACH: Final = 4


@dataclass(frozen=True)
class Weights:
    """How much neighbouring slices count.

    Attributes
    ----------
    strength
        Of the next slice, where the slice itself counts 1; 0 is off.
    tolerance
        How much slices may differ, where the difference between black and white is 1.
    near
        Share of what the nearest shots say by themselves, in [0, 1].
    between
        What the shapes in between two painted slices count, where the slice itself counts 1.
    """

    strength: float = 0.5
    tolerance: float = 0.2
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
    link
        How the other lies on it.
    """

    slice: Slice
    away: int
    link: Link

    def says(self, top: int, bottom: int) -> Floats:
        """Return what it says of rows of the other, as logarithms (1 + C, rows, W)."""
        return log(self.link.rows_of(self.slice, top, bottom))

    def difference(self, top: int, bottom: int) -> Floats:
        """Return how unlike the other it is there (rows, W), 1 as much as black and white."""
        return self.link.enlarged(self.link.difference, top, bottom, self.slice.size[1])


def reach_of(step: float) -> int:
    """Tell how many slices to either side count, if they lie ``step`` pixels apart: 2 to 4."""
    return int(np.clip(math.ceil(_DECAY / max(step, _DECAY / _MOST_REACH)), _LEAST_REACH, _MOST_REACH))


def fading(away: int, step: float) -> float:
    """Tell how much less a slice counts than the next one, being so many slices of ``step`` pixels away."""
    return math.exp(-(away - 1) * step / _DECAY)


def counts(difference: Floats, fading: float, weights: Weights) -> Floats:
    """Tell how much a neighbour counts, for each pixel."""
    like = np.exp(-np.square(difference / np.float32(weights.tolerance)))
    return np.asarray(np.float32(weights.strength * fading) * like, np.float32)


def log(probabilities: Floats) -> Floats:
    """Logarithm of probabilities, none of which is taken to be 0."""
    return np.asarray(np.log(probabilities + np.float32(_FLOOR)), np.float32)


def smoothed(
    centre: Slice,
    neighbours: Sequence[Neighbour],
    weights: Weights,
    step: float,
    out: Floats,
    between: Floats | None = None,
) -> None:
    """Let a slice and its neighbours decide together.

    Parameters
    ----------
    centre
        The slice.
    neighbours
        Those around it; the order in which they are given decides about the last bits.
    weights
        How much they count.
    step
        Distance of two slices in pixels.
    out
        (1 + C, H, W), filled with the new probabilities.
    between
        (1 + C, H, W) what shapes in between painted slices say, or None.
    """
    height = centre.size[0]
    for top in range(0, height, ROWS):
        bottom = min(top + ROWS, height)
        total: Floats = log(centre.rows(top, bottom))  # (1 + C, rows, W)
        sum_of_weights = np.ones(total.shape[1:], np.float32)
        for neighbour in neighbours:
            share = counts(neighbour.difference(top, bottom), fading(neighbour.away, step), weights)
            total += share * neighbour.says(top, bottom)
            sum_of_weights += share
        if between is not None:
            total += np.float32(weights.between) * log(between[:, top:bottom])
            sum_of_weights += np.float32(weights.between)
        total /= sum_of_weights
        total -= total.max(axis=0)
        np.exp(total, out=total)
        out[:, top:bottom] = total / total.sum(axis=0)
