"""How quality grows with the number of shots, and what one more would bring."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from napari_fewshot.evaluation.trials import Outcome
from napari_fewshot.frames import FrameKey

_EXPONENTS: Final = np.geomspace(0.2, 2.5, 16)
"""How fast the error may fall; those that fit the measurements are drawn from."""
_REPLICATES: Final = 1000
_SWEEPS: Final = 30
_BAND: Final = (0.05, 0.5, 0.95)

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LearningCurve:
    """Quality against the number of shots.

    Attributes
    ----------
    measured
        Number of shots -> mean IoU over the shots that were left out.
    sizes
        Numbers of shots from 1 to a few more than there are, and the fitted IoU at each: the median, and an interval of
        90 %.
    fitted, low, high
        IoU in [0, 1] at ``sizes``.
    shots
        How many there are.
    gain, gain_low, gain_high
        What one more shot would bring in IoU: the median, and an interval of 90 %.
    """

    measured: Mapping[int, float]
    sizes: tuple[int, ...]
    fitted: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    shots: int
    gain: float
    gain_low: float
    gain_high: float


def learning_curve(outcomes: Sequence[Outcome], shots: int, seed: int = 0) -> LearningCurve | None:
    """Fit an inverse power law, error = a + b * size ** -c with a, b >= 0, to what trials came to.

    The model is that of Figueroa et al. 2012 (doi:10.1186/1472-6947-12-8). How uncertain it is comes from drawing the
    shots that were tested on anew (bootstrap), and from drawing the exponent among all that fit: two sizes say nothing
    of it. Shots are easy or hard; that is taken out of the measurements before, since not every shot is tested at
    every size. That more shots never make it worse is assumed, not found out.

    Parameters
    ----------
    outcomes
        Of `trials.try_out`.
    shots
        How many there are in all.
    seed
        The same seed gives the same curve.

    Returns
    -------
    LearningCurve or None
        None as long as fewer than two sizes were tried, or fewer than two shots tested on.
    """
    keys = list(dict.fromkeys(outcome.tested for outcome in outcomes))
    sizes = sorted({len(outcome.learnt) for outcome in outcomes})
    if len(sizes) < 2 or len(keys) < 2:
        return None
    sums, counts = _table(outcomes, keys, sizes)
    adjusted = _without_difficulty(sums, counts)  # (keys, sizes), summed over trials
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(keys), np.full(len(keys), 1 / len(keys)), size=_REPLICATES)  # (R, keys)
    weights = drawn @ counts  # (R, sizes)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(weights > 0, (drawn @ adjusted) / weights, np.nan)
    told = np.isfinite(means).sum(axis=1) > 1
    a, b, c = _fit(np.array(sizes, np.float64), 1 - means[told], counts.sum(axis=0), rng)
    ahead = np.arange(1, shots + 2 + max(2, shots // 2), dtype=np.float64)
    curves = 1 - np.clip(a[:, None] + b[:, None] * ahead ** -c[:, None], 0, 1)  # (R, ahead)
    low, fitted, high = np.quantile(curves, _BAND, axis=0)
    gains = np.quantile(curves[:, shots] - curves[:, shots - 1], _BAND)
    plain = sums.sum(axis=0) / counts.sum(axis=0)
    return LearningCurve(
        measured={size: float(value) for size, value in zip(sizes, plain, strict=True)},
        sizes=tuple(int(size) for size in ahead),
        fitted=tuple(map(float, fitted)),
        low=tuple(map(float, low)),
        high=tuple(map(float, high)),
        shots=shots,
        gain=float(gains[1]),
        gain_low=float(gains[0]),
        gain_high=float(gains[2]),
    )


def _table(outcomes: Sequence[Outcome], keys: Sequence[FrameKey], sizes: Sequence[int]) -> tuple[Reals, Reals]:
    """Sums of IoU, and how many they are of: both (keys, sizes)."""
    rows = {key: row for row, key in enumerate(keys)}
    columns = {size: column for column, size in enumerate(sizes)}
    sums, counts = np.zeros((len(keys), len(sizes))), np.zeros((len(keys), len(sizes)))
    for outcome in outcomes:
        at = rows[outcome.tested], columns[len(outcome.learnt)]
        sums[at] += outcome.iou
        counts[at] += 1
    return sums, counts


def _without_difficulty(sums: Reals, counts: Reals) -> Reals:
    """Take out how much easier or harder each shot is: the additive model shot + size, by least squares."""
    of_shot, of_size = np.zeros(len(sums)), np.zeros(sums.shape[1])
    for _ in range(_SWEEPS):
        of_size = (sums - counts * of_shot[:, None]).sum(axis=0) / counts.sum(axis=0)
        of_shot = (sums - counts * of_size).sum(axis=1) / counts.sum(axis=1)
        of_shot -= of_shot.mean()
    adjusted: Reals = sums - counts * of_shot[:, None]
    return adjusted


def _fit(sizes: Reals, errors: Reals, tests: Reals, rng: np.random.Generator) -> tuple[Reals, Reals, Reals]:
    """Fit a, b and c to each row of errors (R, sizes), which may hold NaN; how much a size counts is (sizes,)."""
    weights = np.where(np.isfinite(errors), tests, 0.0)  # (R, sizes)
    known = np.nan_to_num(errors)
    fits = [_line(sizes**-c, known, weights) for c in _EXPONENTS]
    misfit = np.stack([m for _, _, m in fits], axis=1)  # (R, exponents)
    spread = np.nanvar(errors, axis=0)
    noise = float((spread * tests).sum() / len(sizes))  # of a weighted square, as the misfit
    likely = np.exp(-0.5 * (misfit - misfit.min(axis=1, keepdims=True)) / max(noise, 1e-12))
    cumulated = np.cumsum(likely, axis=1) / likely.sum(axis=1, keepdims=True)
    chosen = (rng.random(len(errors))[:, None] > cumulated).sum(axis=1).clip(0, len(_EXPONENTS) - 1)
    rows = np.arange(len(errors))
    a = np.stack([a for a, _, _ in fits], axis=1)[rows, chosen]
    b = np.stack([b for _, b, _ in fits], axis=1)[rows, chosen]
    return a, b, _EXPONENTS[chosen]


def _line(x: Reals, y: Reals, w: Reals) -> tuple[Reals, Reals, Reals]:
    """Weighted least squares of y (R, n) = a + b * x (n,) with a, b >= 0; a, b and the weighted squares left (R,)."""
    sw, sx, sy = w.sum(axis=1), (w * x).sum(axis=1), (w * y).sum(axis=1)
    sxx, sxy = (w * x * x).sum(axis=1), (w * x * y).sum(axis=1)
    b = np.maximum((sw * sxy - sx * sy) / np.maximum(sw * sxx - sx**2, 1e-12), 0)
    a = (sy - b * sx) / sw
    through_zero = a < 0
    b = np.where(through_zero, np.maximum(sxy / sxx, 0), b)
    a = np.where(through_zero, 0.0, a)
    left: Any = (w * (y - a[:, None] - b[:, None] * x) ** 2).sum(axis=1)
    return a, b, left
