"""How much neighbouring slices count is learnt from what was painted: leave out a slice, and see what proposes it best.

Each slice that was taught is left out once: everything else is learnt from the others, and the slice is proposed for
with all weights there are to choose from. Those win that agree best with what was painted; a weight of 0, each slice by
itself, is among them and wins where nothing is better. Of a single slice one half is left out after the other.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import FewShotError
from napari_fewshot.frames import Frame, FrameKey, Labels
from napari_fewshot.segmenter import Concept, FewShotSegmenter, TileProgress
from napari_fewshot.support import BACKGROUND, UNLABELLED, Shot, SupportSet
from napari_fewshot.volumes.concept import Consistency, Place, Surroundings, VolumeConcept
from napari_fewshot.volumes.consistency import Evidence, View, Weights, decided, reach_of
from napari_fewshot.volumes.series import Series, SeriesId, place_along, series_along
from napari_fewshot.volumes.settings import VolumeSettings
from napari_fewshot.volumes.slices import Floats

STRENGTHS: Final = (0.0, 0.25, 0.5, 1.0)  # a neighbour never counts more than the slice itself
TOLERANCES: Final = (0.05, 0.1, 0.2)
SHARES: Final = (0.0, 0.3)
SHAPES: Final = (0.5, 1.0, 2.0)

_MOST_LEFT_OUT: Final = 3  # slices: each costs some proposals
_JUDGED: Final = 512 * 512  # pixels of a slice, in rows around what was painted
_BLOCKS: Final = 4  # along each side of what is judged: where gains differ from block to block, they are not certain
_LEAST_GAIN: Final = 1e-3  # of the mean IoU, below which nothing is gained
_ENOUGH: Final = 0.75  # of the largest gain

Counts: TypeAlias = npt.NDArray[np.int64]
"""(blocks, 3, 1 + C) pixels that are proposed and true, proposed, and true."""

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
    scores: dict[Weights, list[Counts]] = {}
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
            for weights, counts in _trial(looked, left_out, support.class_ids, share, progress).items():
                scores.setdefault(weights, []).append(counts)
    if not scores:
        return usual
    return _best({weights: np.concatenate(counts) for weights, counts in scores.items()})


def _best(scores: Mapping[Weights, Counts]) -> Weights:
    """Choose weights that are clearly better than none, else none: a prior towards each slice by itself.

    The mean IoU has to rise, and it, or the share of pixels that are right, by more than the standard error of that: a
    class with a few pixels makes the one uncertain where the other leaves no doubt.

    Of those that gain nearly as much as the best, the ones that keep to edges most, and then lean on neighbours most: a
    slice that is left out has no painted neighbours, as many that are proposed for later have.
    """
    found = {weights: _mean_iou(counts.sum(axis=0)) for weights, counts in scores.items()}
    off = max((w for w in found if not w.strength), key=lambda w: (found[w], -w.near))
    gains = {w: found[w] - found[off] for w in found if w.strength}
    certain = [w for w, gain in gains.items() if gain > _LEAST_GAIN and _is_clear(gain, scores[w], scores[off])]
    if not certain:
        return off
    most = max(gains[w] for w in certain)
    enough = [w for w in certain if gains[w] >= _ENOUGH * most]
    return max(enough, key=lambda w: (-w.tolerance, w.strength, -w.near, -abs(w.between - 1)))


def _is_clear(gain: float, one: Counts, other: Counts) -> bool:
    """Whether a gain of the mean IoU, or else of the pixels that are right, is more than its standard error."""
    pixels = one[:, 2].sum(axis=1)
    one, other, pixels = one[pixels > 0], other[pixels > 0], pixels[pixels > 0]
    if len(pixels) < 2:
        return False
    without = ((one.sum(axis=0) - a, other.sum(axis=0) - b) for a, b in zip(one, other, strict=True))
    gains = np.array([_mean_iou(a) - _mean_iou(b) for a, b in without])
    right = (one[:, 0] - other[:, 0]).sum(axis=1) / pixels
    error = np.sqrt((len(pixels) - 1) * gains.var())  # by a jackknife: each block is left out once
    return bool(gain > error or right.mean() > right.std(ddof=1) / np.sqrt(len(right)))


def _mean_iou(counts: npt.NDArray[np.int64]) -> float:
    """Mean over the classes that are proposed or painted; 1 where none is."""
    both, proposed, true = counts[:, 1:]
    union = proposed + true - both
    judged = union > 0
    return float((both[judged] / union[judged]).mean()) if judged.any() else 1.0


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
    looked: VolumeConcept, left_out: Shot, class_ids: Sequence[int], near: float, progress: TileProgress | None
) -> dict[Weights, Counts]:
    """Propose for a slice that is left out in every way there is to choose from; nothing where that cannot be."""
    place = looked.place_of(left_out.frame)
    with suppress(FewShotError), looked.telling(progress):
        return {} if place is None else _tried(looked, place, left_out.said, class_ids, near)
    return {}


def _tried(
    looked: VolumeConcept, place: Place, painted: Labels, class_ids: Sequence[int], near: float
) -> dict[Weights, Counts]:
    centre = looked.slice_at(place)
    rows = _judged_rows(painted)
    if centre is None or centre.size != painted.shape or not rows:
        return {}
    top, bottom = rows
    neighbours, between, step = looked.neighbours(place), looked.between(place), looked.step(place)
    values = np.array((BACKGROUND, *centre.class_ids), np.int32)
    judged = _Judge(painted[top:bottom], class_ids)
    shapes = SHAPES if looked.interpolates else (Weights().between,)
    found: dict[Weights, Counts] = {}

    def judge(weights: Weights, decide: Callable[[Weights], Floats]) -> None:
        counts = None
        for share in shapes:
            chosen = replace(weights, between=share)
            if counts is None or between is not None:
                counts = judged.counts(values[decide(chosen).argmax(axis=0)])
            found[chosen] = counts

    judge(
        Weights(strength=0.0, near=near),
        lambda weights: decided(centre, neighbours, weights, step, top, bottom, between),
    )
    view = View(centre, neighbours, step, top, bottom)
    for tolerance in TOLERANCES:
        evidence = Evidence(view, tolerance)
        for strength in STRENGTHS[1:]:
            judge(Weights(strength, tolerance, near), partial(evidence.weighed, between=between))
    return found


def _judged_rows(painted: Labels) -> tuple[int, int] | None:
    """Rows that are judged: as many as are few enough, around the middle of what was painted; None where nothing is."""
    there = np.flatnonzero((painted != UNLABELLED).any(axis=1))
    if not len(there):
        return None
    height, width = painted.shape
    count = min(height, max(1, _JUDGED // width))
    top = int(np.clip((there[0] + there[-1] + 1 - count) // 2, 0, height - count))
    return top, top + count


class _Judge:
    """Counts pixels in blocks of what was painted."""

    def __init__(self, painted: Labels, class_ids: Sequence[int]) -> None:
        (y, x), (height, width) = np.nonzero(painted != UNLABELLED), painted.shape
        self._at, self._channels = (y, x), 1 + len(class_ids)
        self._channel = np.zeros(UNLABELLED + 1, np.int32)
        self._channel[[BACKGROUND, *class_ids]] = range(self._channels)
        self._block = (y * _BLOCKS // height * _BLOCKS + x * _BLOCKS // width) * self._channels
        self._true = self._channel[painted[self._at]]

    def counts(self, labels: Labels) -> Counts:
        """Count what is proposed and true, proposed, and true."""
        proposed = self._channel[labels[self._at]]
        right = proposed == self._true
        places = (self._block[right] + proposed[right], self._block + proposed, self._block + self._true)
        size = _BLOCKS * _BLOCKS * self._channels
        return np.stack(
            [np.bincount(at, minlength=size).reshape(-1, self._channels) for at in places], axis=1
        )  # (blocks, 3, 1 + C)
