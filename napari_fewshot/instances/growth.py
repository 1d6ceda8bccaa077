"""Growing objects on whole frames, and the settings that find most objects of shots that were left out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from napari_fewshot.frames import Frame, Instances
from napari_fewshot.instances.embedding import Embedded, Embedder, Numbers
from napari_fewshot.instances.growing import GrowSettings, grow
from napari_fewshot.instances.hills import Hills
from napari_fewshot.instances.objects import without_small
from napari_fewshot.instances.scale import Scale
from napari_fewshot.instances.splitting import Clues, filled, in_one_piece
from napari_fewshot.instances.tuning import Chosen, Rehearsed, Table, best_area, best_in_rounds

_THRESHOLDS: Final = (0.5, 0.3, 0.4, 0.6, 0.7)
_SEEDINESS: Final = (0.1, 0.3, 0.5)
_CLEARLY: Final = 0.06  # of a merit of 3: 0.02 of each F1


@dataclass(frozen=True, eq=False)
class Sprouts:
    """What objects of a frame are grown from, where there may be any.

    Attributes
    ----------
    embedded
        Of the N blocks of pixels in ``where``, row by row.
    foreground
        (N,) probability that there is an object.
    where
        (h, w) at the scale that objects are told apart at.
    """

    embedded: Embedded
    foreground: Numbers
    where: npt.NDArray[np.bool_]


def sprouts(embedder: Embedder, frame: Frame, clues: Clues, radius: float, least: float) -> Sprouts:
    """Embed a frame where an object is more probable than ``least``; ``radius`` is in pixels."""
    scale = Scale.for_radius(radius)
    foreground = scale.reduced(clues.foreground)
    where = foreground > least
    at = (scale.step // 2 + scale.step * found for found in np.nonzero(where))
    ys, xs = (np.minimum(found, length - 1) for found, length in zip(at, clues.foreground.shape, strict=True))
    return Sprouts(embedder.at(frame, ys, xs), foreground[where], where)


def grown(embedder: Embedder, frame: Frame, clues: Clues, settings: GrowSettings, radius: float) -> Instances:
    """Tell the objects of a frame apart: (H, W) int32, 1, 2, 3, ...; ``radius`` of a usual one in pixels."""
    scale = Scale.for_radius(radius)
    ids = _grown(sprouts(embedder, frame, clues, radius, settings.threshold), settings, radius / scale.step)
    ids = scale.restored(ids, filled(clues, settings.threshold))
    return without_small(in_one_piece(ids), settings.min_area * np.pi * radius**2)


def choose_growth(shots: Sequence[tuple[Rehearsed, Sprouts]], radius: float) -> Chosen:
    """Choose settings: first the threshold, then the least seediness; the smallest area with each.

    Parameters
    ----------
    shots
        At least one with an object; else it stays with what is usual.
    radius
        Of a usual object, in pixels.
    """
    scale = Scale.for_radius(radius)
    reduced = [(shot.at(scale), of) for shot, of in shots]
    if not any(shot.truth.any() for shot, _ in reduced):
        return Chosen(GrowSettings(), radius)
    small = radius / scale.step

    def tried(settings: GrowSettings) -> tuple[float, float, GrowSettings]:
        tables = [Table(Hills(_grown(of, settings, small), ()), shot) for shot, of in reduced]
        merit, f1, least = best_area([table.cut(0) for table in tables], small)
        return merit, f1, replace(settings, min_area=least)

    return best_in_rounds(
        tried,
        radius,
        [GrowSettings(threshold=t) for t in _THRESHOLDS],
        lambda best: (replace(best, seediness=s) for s in _SEEDINESS if s != best.seediness),
    )


def better(usual: Chosen, other: Chosen) -> Chosen:
    """Return what found clearly more objects of shots that were left out; the usual one in case of doubt."""
    if usual.merit is None or other.merit is None:
        return usual
    return other if other.merit > usual.merit + _CLEARLY else usual


LEAST_FOREGROUND: Final = min(_THRESHOLDS)
"""Where it is less probable, nothing is tried."""


def _grown(of: Sprouts, settings: GrowSettings, radius: float) -> Instances:
    return in_one_piece(grow(of.embedded, of.foreground, of.where, settings, radius))
