"""What a pass over some images will cost in time, memory and disk: told before it starts. Plain arithmetic."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

WARM: Final = 0.15
"""Time for an image whose features are kept, as a share of the time for a new one, until it has been measured."""

_TILE_VALUES: Final = 3 << 20  # pixels times channels that are computed at once
_WORKING_BYTES: Final = 250  # of memory for each of them, measured
_LABEL_BYTES: Final = 3  # for each pixel: labels layer, proposal layer, open proposal
_PROBABILITY_BYTES: Final = 4  # for each pixel and class of the image at work
_RESULT_BYTES: Final = 8  # for each pixel of it: label and confidence
_RESULT_LIMIT: Final = 1 << 30  # of both together; what is larger lies in a file


@dataclass(frozen=True)
class Rates:
    """What a pixel costs.

    Attributes
    ----------
    fresh
        Seconds per megapixel of an image that is seen for the first time.
    known
        The same where its features are kept.
    feature_bytes
        Size of the features of one pixel.
    per_channel
        Whether time and size grow with the number of channels.
    fresh_measured, known_measured
        Whether the seconds come from a run on this computer; otherwise they are a guess for two CPU cores.
    """

    fresh: float
    known: float
    feature_bytes: float
    per_channel: bool = False
    fresh_measured: bool = False
    known_measured: bool = False


@dataclass(frozen=True)
class Estimate:
    """What a pass will cost.

    Attributes
    ----------
    frames
        How many images.
    size
        (H, W) of all of them; None where they differ.
    pixels
        Of all of them together.
    seconds
        How long it takes.
    memory_bytes
        Taken at the most, beside what the programs themselves take.
    disk_bytes
        Taken by features that are kept, of these images.
    feature_bytes
        What keeping the features of all images would take.
    is_rough
        Whether the seconds are a guess.
    """

    frames: int
    size: tuple[int, int] | None
    pixels: int
    seconds: float
    memory_bytes: int
    disk_bytes: int
    feature_bytes: int
    is_rough: bool


def estimate(
    fresh: Sequence[tuple[int, ...]],
    known: Sequence[tuple[int, ...]],
    rates: Rates,
    *,
    classes: int = 1,
    memory_limit: int,
    disk_limit: int,
) -> Estimate:
    """Tell what a pass over some images will cost.

    Parameters
    ----------
    fresh
        Shapes, (H, W) or (H, W, channels), of the images seen for the first time.
    known
        The same of those whose features are kept already.
    rates
        What a pixel costs.
    classes
        How many are looked for.
    memory_limit, disk_limit
        Bytes that features may take at most.

    Examples
    --------
    >>> cost = estimate([(1000, 1000)] * 40, [], Rates(0.5, 0.1, 40), memory_limit=1 << 30, disk_limit=10 << 30)
    >>> cost.seconds, cost.feature_bytes
    (20.0, 1600000000)
    """
    shapes = [*fresh, *known]
    values = [_values(shape, rates) for shape in shapes]
    features = round(sum(values) * rates.feature_bytes)
    pixels = [shape[0] * shape[1] for shape in shapes]
    tiles = [min(math.prod(shape), _TILE_VALUES) for shape in shapes]
    result = _RESULT_BYTES + _PROBABILITY_BYTES * (1 + classes)
    results = [min(_RESULT_LIMIT, result * n) for n in pixels]
    at_once = [_WORKING_BYTES * tile + arrays for tile, arrays in zip(tiles, results, strict=True)]
    sizes = {shape[:2] for shape in shapes}
    return Estimate(
        frames=len(shapes),
        size=(shapes[0][0], shapes[0][1]) if len(sizes) == 1 else None,
        pixels=sum(pixels),
        seconds=_megapixels(fresh, rates) * rates.fresh + _megapixels(known, rates) * rates.known,
        memory_bytes=min(memory_limit, features) + max(at_once, default=0) + _LABEL_BYTES * sum(pixels),
        disk_bytes=min(disk_limit, features),
        feature_bytes=features,
        is_rough=bool((fresh and not rates.fresh_measured) or (known and not rates.known_measured)),
    )


class Meter:
    """Measures what a megapixel costs while a run goes on.

    Parameters
    ----------
    guess
        What to begin with.
    """

    def __init__(self, guess: Rates) -> None:
        self.rates = guess
        self._last: float | None = None
        self._sums: dict[bool, tuple[float, float]] = {}

    def begin(self) -> None:
        """Start to measure a run; one that was measured before no longer counts as soon as there is something new."""
        self._last, self._sums = None, {}

    def saw(self, shape: tuple[int, ...], was_known: bool, now: float) -> None:
        """Take in that an image is done.

        Parameters
        ----------
        shape
            (H, W) or (H, W, channels).
        was_known
            Whether its features had been kept.
        now
            Seconds on a clock. The first image of a run only sets it: loading and learning came before.
        """
        if self._last is not None:
            seconds, megapixels = self._sums.get(was_known, (0.0, 0.0))
            seconds, megapixels = seconds + now - self._last, megapixels + _megapixels([shape], self.rates)
            self._sums[was_known] = seconds, megapixels
            self.rates = self._with(was_known, seconds / megapixels)
        self._last = now

    def _with(self, was_known: bool, rate: float) -> Rates:
        now = self.rates
        if was_known:
            fresh = now.fresh if now.fresh_measured else max(now.fresh, rate)
            return replace(now, fresh=fresh, known=rate, known_measured=True)
        known = now.known if now.known_measured else WARM * rate
        return replace(now, fresh=rate, known=known, fresh_measured=True)


def _values(shape: tuple[int, ...], rates: Rates) -> int:
    """Pixels, or pixels times channels, whichever the cost grows with."""
    return math.prod(shape) if rates.per_channel else shape[0] * shape[1]


def _megapixels(shapes: Sequence[tuple[int, ...]], rates: Rates) -> float:
    return sum(_values(shape, rates) for shape in shapes) / 1e6
