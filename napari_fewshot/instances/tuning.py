"""How to tell objects apart, chosen on what was taught: whatever finds most objects of shots that were left out."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from napari_fewshot.frames import Instances
from napari_fewshot.instances.growing import GrowSettings
from napari_fewshot.instances.hills import Hills
from napari_fewshot.instances.objects import areas
from napari_fewshot.instances.scale import Scale
from napari_fewshot.instances.splitting import Clues, ReliefName, SplitSettings, hills

_RELIEFS: Final[tuple[ReliefName, ...]] = ("core", "both", "distance")
_SMOOTHINGS: Final = (0.08, 0.2, 0.35)
_THRESHOLDS: Final = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
_DEPTHS: Final = (0.02, 0.05, 0.1, 0.16, 0.25, 0.4, 1e9)
_LEAST: Final = (0.02, 0.05, 0.1, 0.2, 0.3, 0.45)
_PARTS: Final = 0.5  # an even say
_STRICT: Final = (0.5, 0.6, 0.7, 0.8)  # of the IoU: several, so that a few objects more or less do not decide

Settings = TypeVar("Settings", SplitSettings, GrowSettings)


@dataclass(frozen=True, eq=False)
class Rehearsed:
    """A shot that was proposed for as if it had not been taught.

    Attributes
    ----------
    clues
        What is proposed there, (H, W).
    truth
        (H, W) its objects, numbered 1, 2, 3, ...
    known
        (H, W) False where nobody said anything: what is found there is not judged.
    """

    clues: Clues
    truth: Instances
    known: npt.NDArray[np.bool_]

    def at(self, scale: Scale) -> "Rehearsed":
        """Return it at another scale."""
        known = scale.picked(self.known.astype(np.int32)) > 0
        return Rehearsed(self.clues.at(scale), scale.picked(self.truth), known)


@dataclass(frozen=True)
class Chosen:
    """What was chosen, and how good it was on the shots that were left out.

    Attributes
    ----------
    settings
        How objects are told apart.
    radius
        Of a usual object, in pixels.
    f1
        At an IoU of 0.5, in [0, 1]; None where nothing could be left out.
    merit
        What was chosen by, in [0, 3]: twice that F1, and the mean of those at an IoU of 0.6, 0.7 and 0.8.
    """

    settings: SplitSettings | GrowSettings
    radius: float
    f1: float | None = None
    merit: float | None = None


def usual_radius(objects: Iterable[Instances]) -> float:
    """Return the radius of a disk as large as the median object, in pixels, at least 1."""
    found = np.concatenate([np.zeros(0, np.int64), *(areas(ids) for ids in objects)])
    return max(1.0, float(np.sqrt(np.median(found) / np.pi))) if len(found) else 1.0


def choose(shots: Sequence[Rehearsed], radius: float) -> Chosen:
    """Choose settings: the relief, the threshold, then whether cores and rims have a say; depth and area with each.

    Parameters
    ----------
    shots
        At least one with an object; else it stays with what is usual.
    radius
        Of a usual object, in pixels.
    """
    scale = Scale.for_radius(radius)
    reduced = [shot.at(scale) for shot in shots]
    if not any(shot.truth.any() for shot in reduced):
        return Chosen(SplitSettings(), radius)
    return best_in_rounds(
        lambda settings: _tried(reduced, settings, radius / scale.step),
        radius,
        [SplitSettings(relief=r, smoothing=s) for r in _RELIEFS for s in _SMOOTHINGS],
        lambda best: (replace(best, threshold=t) for t in _THRESHOLDS if t != best.threshold),
        lambda best: (replace(best, parts=_PARTS, threshold=t) for t in _THRESHOLDS if abs(t - best.threshold) < 0.15),
    )


def best_in_rounds(
    tried: Callable[[Settings], tuple[float, float, Settings]],
    radius: float,
    first: Iterable[Settings],
    *others: Callable[[Settings], Iterable[Settings]],
) -> Chosen:
    """Choose what has the largest merit of some settings, then of what each round makes of the best.

    Parameters
    ----------
    tried
        Returns merit, F1 at 0.5, and the settings with what is found along with trying them.
    radius
        Of a usual object, in pixels.
    first
        To begin with.
    others
        Return what else to try, given the best so far.
    """
    best = max(map(tried, first), key=lambda found: found[0])
    for more in others:
        for settings in more(best[2]):
            found = tried(settings)
            best = found if found[0] > best[0] else best
    return Chosen(best[2], radius, best[1], best[0])


def _tried(shots: Sequence[Rehearsed], settings: SplitSettings, radius: float) -> tuple[float, float, SplitSettings]:
    """(merit, F1 at 0.5, settings with the best depth and smallest area)."""
    tables = [Table(hills(shot.clues, settings, radius), shot) for shot in shots]
    best: tuple[float, float, SplitSettings] | None = None
    for depth in _DEPTHS:
        merit, f1, least = best_area([table.cut(depth) for table in tables], radius)
        if best is None or merit > best[0]:
            best = merit, f1, replace(settings, depth=depth, min_area=least)
    assert best is not None
    return best


def best_area(cuts: Sequence["Cut"], radius: float) -> tuple[float, float, float]:
    """Return merit, F1 at 0.5, and the smallest area that is best, as a share of a usual one."""
    best: tuple[float, float, float] | None = None
    for least in _LEAST:
        counts = np.sum([cut.counts(least * np.pi * radius**2) for cut in cuts], axis=0)  # (IoUs, (found, ...))
        f1 = 2 * counts[:, 0] / np.maximum(counts[:, 1] + counts[:, 2], 1)
        merit = float(2 * f1[0] + f1[1:].mean())
        if best is None or merit > best[0]:
            best = merit, float(f1[0]), least
    assert best is not None
    return best


class Table:
    """How many pixels each hill shares with each true object, so that every cut is judged without an image."""

    def __init__(self, found: Hills, shot: Rehearsed) -> None:
        self._hills = found
        self._true = np.bincount(shot.truth.ravel())
        width = len(self._true)
        keys = found.ids[shot.known].astype(np.int64) * width + shot.truth[shot.known]
        pairs, self._shared = np.unique(keys, return_counts=True)
        self._hill, self._object = pairs // width, pairs % width

    def cut(self, depth: float) -> "Cut":
        """Put hills together between which there is a valley that is less deep."""
        root = self._hills.roots(depth)[self._hill]
        width = len(self._true)
        pairs, at = np.unique(root * width + self._object, return_inverse=True)
        shared = np.bincount(at, self._shared, len(pairs)).astype(np.float64)
        found = np.bincount(root, self._shared, int(self._hills.ids.max()) + 1).astype(np.float64)
        return Cut(pairs // width, pairs % width, shared, found, self._true)


@dataclass(frozen=True, eq=False)
class Cut:
    """Pixels that found objects share with true ones."""

    hill: npt.NDArray[np.int64]
    object: npt.NDArray[np.int64]
    shared: npt.NDArray[np.float64]
    found: npt.NDArray[np.float64]
    true: npt.NDArray[np.int64]

    def counts(self, least: float) -> npt.NDArray[np.float64]:
        """(IoUs, 3): objects that are right, found, and true."""
        large = self.found >= max(least, 1)
        large[0] = False
        pairs = large[self.hill] & (self.object > 0)
        hill, true, shared = self.hill[pairs], self.object[pairs], self.shared[pairs]
        iou = shared / (self.found[hill] + self.true[true] - shared)
        proposed, there = int(large.sum()), int((self.true[1:] > 0).sum())
        return np.array([[int((iou > strict).sum()), proposed, there] for strict in _STRICT], np.float64)
