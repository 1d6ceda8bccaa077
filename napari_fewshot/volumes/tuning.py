"""How much neighbouring slices count is learnt from what was painted: leave out a slice, and see what proposes it best.

Each slice that was taught is left out once: everything else is learnt from the others, and the slice is proposed for
with all weights there are to choose from. Those win that agree best with what was painted; a weight of 0, each slice by
itself, is among them and wins where nothing is better. Of a single slice one half is left out after the other.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import FewShotError
from napari_fewshot.frames import Frame, FrameKey, Labels
from napari_fewshot.segmenter import Concept, FewShotSegmenter, TileProgress
from napari_fewshot.support import BACKGROUND, UNLABELLED, Shot, SupportSet
from napari_fewshot.volumes.concept import Consistency, Place, Surroundings, VolumeConcept
from napari_fewshot.volumes.consistency import Weights, counts, fading, log, reach_of
from napari_fewshot.volumes.series import Series, SeriesId, place_along, series_along
from napari_fewshot.volumes.settings import VolumeSettings
from napari_fewshot.volumes.slices import Floats

STRENGTHS: Final = (0.0, 0.25, 0.5, 1.0, 2.0)
TOLERANCES: Final = (0.1, 0.2, 0.4)
SHARES: Final = (0.0, 0.3)
SHAPES: Final = (0.5, 1.0, 2.0)

_MOST_LEFT_OUT: Final = 3  # slices: each costs some proposals
_SIDE: Final = 512  # of a slice that is judged, in pixels; of larger ones every second, third, ... is
_LEAST_GAIN: Final = 1e-3  # of the mean IoU, below which nothing is gained


@dataclass(frozen=True, eq=False)
class _Trial:
    """A slice that is left out: what is painted there, and what there is to propose it from.

    Every array has only those pixels that are judged.
    """

    painted: npt.NDArray[np.int32]  # (N,)
    own: Floats  # (1 + C, N) logarithms
    beside: tuple[tuple[Floats, Floats, float], ...]  # (1 + C, N) logarithms, (N,) difference, and fading of neighbours
    between: Floats | None  # (1 + C, N)

    def counts(self, weights: Weights, channels: int) -> npt.NDArray[np.int64]:
        """Count (3, 1 + C): pixels that are proposed and true, proposed, and true."""
        total = self.own.copy()
        for says, difference, fades in self.beside:
            total += counts(difference, fades, weights) * says
        if self.between is not None:
            total += np.float32(weights.between) * self.between
        proposed = total.argmax(axis=0)
        both = np.bincount(self.painted[proposed == self.painted], minlength=channels)
        return np.stack(
            [both, np.bincount(proposed, minlength=channels), np.bincount(self.painted, minlength=channels)]
        )


_REMEMBERED: Final = 8
_remembered: "OrderedDict[object, Weights]" = OrderedDict()


def learn_consistency(
    segmenter: FewShotSegmenter,
    concept: Concept,
    frames: Iterable[Frame],
    settings: VolumeSettings,
    *,
    progress: TileProgress | None = None,
) -> Consistency:
    """Learn how much neighbouring slices count; the same again for the same shots costs nothing.

    Parameters
    ----------
    segmenter
        What the concept was learnt by.
    concept
        Learnt from all shots.
    frames
        The slices around those that were taught.
    settings
        What is wanted.
    progress
        Told before each tile, and may raise to give up.

    Returns
    -------
    Consistency
        With the best weights; with those of `Weights` where nothing can be left out.
    """
    support, frames = concept.support, tuple(frames)
    here = {frame.key: frame for frame in frames}
    shots = [_as_in(here, shot) for shot in support]
    series = series_along((*(shot.frame for shot in shots), *frames), settings.along)
    placed = [shot for shot in shots if _lies_in(series, shot, settings.along)]
    question = _question(segmenter, support, placed, series, settings)
    if question not in _remembered:
        _remembered[question] = best_weights(segmenter, support, placed, frames, settings, progress)
        while len(_remembered) > _REMEMBERED:
            _remembered.popitem(last=False)
    weights, alone = _remembered[question], {}
    if weights.near:
        alone = {shot.key: segmenter.learn(SupportSet([shot]), progress=progress) for shot in placed if shot.class_ids}
    return Consistency(concept, settings, weights, alone)


def _as_in(here: Mapping[FrameKey, Frame], shot: Shot) -> Shot:
    """Take a shot to lie where its frame does now: somebody may have said since what the axes of its image are."""
    stack = here[shot.key].stack if shot.key in here else shot.frame.stack
    return shot if stack is shot.frame.stack else replace(shot, frame=replace(shot.frame, stack=stack))


def _lies_in(series: Mapping[SeriesId, Series], shot: Shot, along: str) -> bool:
    """Whether a shot has a neighbour."""
    place = place_along(shot.frame, along)
    return place is not None and len(series[place[0]].frames) > 1


def _question(
    segmenter: FewShotSegmenter,
    support: SupportSet,
    placed: Sequence[Shot],
    series: Mapping[SeriesId, Series],
    settings: VolumeSettings,
) -> object:
    """Return all that the best weights depend on."""
    looked_at = set()
    for shot in placed:
        name, z = place_along(shot.frame, settings.along) or ((), 0)
        reach = reach_of(series[name].step)
        for place in range(z - reach, z + reach + 1):
            if place in series[name].frames:
                looked_at.add((name, place, series[name].step, _content(series[name].frames[place])))
    weights = getattr(segmenter, "weights", {})
    return (
        segmenter.name,
        tuple(sorted(weights.items())),
        (settings.along, settings.first, settings.last, settings.interpolate),
        tuple(sorted((shot.digest, repr(shot.key)) for shot in support)),
        tuple(sorted(looked_at, key=repr)),
    )


def _content(frame: Frame) -> str:
    try:
        return frame.open().digest()
    except FewShotError:
        return ""


def best_weights(
    segmenter: FewShotSegmenter,
    support: SupportSet,
    shots: Sequence[Shot],
    frames: Sequence[Frame],
    settings: VolumeSettings,
    progress: TileProgress | None = None,
) -> Weights:
    """Return the weights that propose best for slices that are left out.

    Parameters
    ----------
    segmenter
        What learns.
    support
        All that was taught.
    shots
        Those of it that lie in a stack.
    frames
        The slices of the stack.
    settings
        What is wanted.
    progress
        See `TileProgress`.
    """
    usual = Weights()
    channels = 1 + len(support.class_ids)
    scores: dict[Weights, npt.NDArray[np.int64]] = {}
    choices = list(_choices(settings))
    near = (0.0, *(SHARES[1:] if sum(bool(shot.class_ids) for shot in shots) > 2 else ()))
    for others, left_out in _left_out(support, shots):
        try:
            concept = segmenter.learn(others, progress=progress)
        except FewShotError:
            continue
        alone = {}
        if len(near) > 1:
            singles = [shot for shot in others if shot in shots and shot.class_ids]
            alone = {shot.key: segmenter.learn(SupportSet([shot]), progress=progress) for shot in singles}
        for share in near:
            looked = Consistency(concept, settings, Weights(near=share), alone).around(Surroundings(tuple(frames)))
            trial = _trial(looked, left_out, support.class_ids, progress)
            if trial is None:
                continue
            for chosen in choices:
                weights = replace(chosen, near=share)
                found = trial.counts(weights, channels)
                scores[weights] = scores[weights] + found if weights in scores else found
    if not scores:
        return usual
    return _best(scores)


def _best(scores: Mapping[Weights, npt.NDArray[np.int64]]) -> Weights:
    """Choose weights that are better than none by at least half of what the best are.

    Of those the ones that lean on neighbours most: a slice that is left out has no painted neighbours, as many that are
    proposed for later have, and proposals flicker the less.
    """
    found = {weights: _mean_iou(counts) for weights, counts in scores.items()}
    off = max(iou for weights, iou in found.items() if not weights.strength)
    most = max(found.values())
    if most < off + _LEAST_GAIN:
        return max(found, key=lambda weights: (weights.strength == 0, found[weights], -weights.near))
    enough = [weights for weights, iou in found.items() if weights.strength and iou >= (off + most) / 2]
    return max(enough, key=lambda w: (w.strength, w.tolerance, -w.near, -abs(w.between - 1)))


def _mean_iou(counts: npt.NDArray[np.int64]) -> float:
    """Mean over the classes that are proposed or painted; 1 where none is."""
    both, proposed, true = counts[:, 1:]
    union = proposed + true - both
    judged = union > 0
    return float((both[judged] / union[judged]).mean()) if judged.any() else 1.0


def _choices(settings: VolumeSettings) -> Iterator[Weights]:
    shapes = SHAPES if settings.interpolate else (Weights().between,)
    for between in shapes:
        yield Weights(strength=0.0, between=between)
        for strength, tolerance in product(STRENGTHS[1:], TOLERANCES):
            yield Weights(strength, tolerance, between=between)


def _left_out(support: SupportSet, shots: Sequence[Shot]) -> Iterator[tuple[SupportSet, Shot]]:
    """Leave out a slice after the other, of many some that are spread evenly; of a single shot one half of it."""
    if len(support) == 1 and len(shots) == 1:
        yield from _halves(shots[0])
        return
    chosen = sorted(shots, key=lambda shot: repr(shot.key))
    if len(chosen) > _MOST_LEFT_OUT:
        chosen = [chosen[round(i * (len(chosen) - 1) / (_MOST_LEFT_OUT - 1))] for i in range(_MOST_LEFT_OUT)]
    for shot in chosen:
        others = support.without(shot.key)
        if set(shot.class_ids) <= set(others.class_ids) and others.class_ids:
            yield others, shot


def _halves(shot: Shot) -> Iterator[tuple[SupportSet, Shot]]:
    height, width = shot.labels.shape
    for half in (np.s_[:, : width // 2], np.s_[:, width // 2 :]):
        painted = np.full((height, width), UNLABELLED, np.int32)
        painted[half] = shot.labels[half]
        rest = shot.labels.copy()
        rest[half] = UNLABELLED
        learnt, judged = Shot(shot.frame, rest), Shot(shot.frame, painted)
        if learnt.class_ids == shot.class_ids and bool((painted != UNLABELLED).any()):
            yield SupportSet([learnt]), judged


def _trial(
    looked: VolumeConcept, left_out: Shot, class_ids: Sequence[int], progress: TileProgress | None
) -> _Trial | None:
    """Look at a slice that is left out, and at those around it."""
    place = looked.place_of(left_out.frame)
    with suppress(FewShotError), looked.telling(progress):
        return None if place is None else _looked_at(looked, place, left_out.said, class_ids)
    return None


def _looked_at(looked: VolumeConcept, place: Place, painted: Labels, class_ids: Sequence[int]) -> _Trial | None:
    centre = looked.slice_at(place)
    if centre is None or centre.size != painted.shape:
        return None
    by = max(1, -(-max(painted.shape) // _SIDE))
    at = np.zeros(painted.shape, bool)
    at[::by, ::by] = painted[::by, ::by] != UNLABELLED
    if not at.any():
        return None
    height, values = centre.size[0], (BACKGROUND, *class_ids)
    channels = [values.index(value) for value in (BACKGROUND, *centre.class_ids)]

    def judged(says: Floats) -> Floats:
        """Return logarithms of those pixels (1 + C, N), with a channel for every class."""
        found = np.full((len(values), int(at.sum())), log(np.zeros(1, np.float32))[0], np.float32)
        found[channels] = says[:, at]
        return found

    beside = tuple(
        (
            judged(neighbour.says(0, height)),
            neighbour.difference(0, height)[at],
            fading(neighbour.away, looked.step(place)),
        )
        for neighbour in looked.neighbours(place)
    )
    between = looked.between(place)
    channel = np.zeros(UNLABELLED + 1, np.int32)
    channel[list(values)] = range(len(values))
    own = judged(log(centre.rows(0, height)))
    return _Trial(channel[painted[at]], own, beside, None if between is None else judged(log(between)))
