"""Learning from some of the shots and proposing for others of them: which combinations are tried, and what came out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from napari_fewshot.errors import SupportError
from napari_fewshot.evaluation.left_out import can_be_judged, class_ious, overall
from napari_fewshot.frames import FrameKey
from napari_fewshot.segmenter import FewShotSegmenter
from napari_fewshot.support import Shot, SupportSet

_SIZES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)
"""Numbers of shots that are learnt from, beside all but one and all but two."""
_SETS: Final = 6
"""Different sets of a size."""
_TESTED: Final = 6
"""Shots that each of these sets is tested on."""
_PARTNERS: Final = 6
"""Shots together with which each shot is left out."""


@dataclass(frozen=True)
class Trial:
    """Some shots to learn from, and others to propose for."""

    learnt: tuple[FrameKey, ...]
    tested: tuple[FrameKey, ...]


@dataclass(frozen=True)
class Outcome:
    """What came out for one shot.

    Attributes
    ----------
    learnt
        What was learnt from.
    tested
        What was proposed for.
    class_iou
        Class id -> IoU, of classes that are painted or proposed there and painted on some other shot. A class that is
        on none of the shots learnt from is not found: 0.
    iou
        Mean over these in [0, 1]; 1 where nothing is painted and nothing proposed.
    """

    learnt: frozenset[FrameKey]
    tested: FrameKey
    class_iou: Mapping[int, float]
    iou: float


def plan(support: SupportSet, seed: int = 0) -> list[Trial]:
    """Choose what to try: each shot left out alone, small numbers of shots, and shots left out in pairs.

    About eight proposals for each shot. Sets of a size are neighbours on a circle of all shots in random order, so that
    each shot is learnt from, and tested on, about as often as each other one.

    Parameters
    ----------
    support
        At least two shots.
    seed
        The same seed chooses the same.
    """
    keys = support.keys
    circle = [keys[i] for i in np.random.default_rng(seed).permutation(len(keys))]
    count = len(circle)
    trials = [Trial(tuple(k for k in keys if k != key), (key,)) for key in keys]
    for size in (s for s in _SIZES if s < count - 2):
        for start in _spread(count, _SETS):
            turned = circle[start:] + circle[:start]
            left = turned[size:]
            tested = tuple(left[i] for i in _spread(len(left), _TESTED))
            trials.append(Trial(tuple(turned[:size]), tested))
    if count > 2:
        steps = min(_PARTNERS // 2, count // 2)
        pairs = {
            frozenset((circle[i], circle[(i + step) % count])) for step in range(1, steps + 1) for i in range(count)
        }
        if count <= _PARTNERS + 1:
            pairs = {frozenset((a, b)) for a in keys for b in keys if a != b}
        place = {key: i for i, key in enumerate(keys)}
        for pair in sorted(pairs, key=lambda pair: sorted(place[k] for k in pair)):
            out = tuple(sorted(pair, key=place.__getitem__))
            trials.append(Trial(tuple(k for k in keys if k not in pair), out))
    return trials


def _spread(count: int, most: int) -> list[int]:
    """Up to so many of the numbers below a count, evenly spread."""
    return sorted({i * count // min(count, most) for i in range(min(count, most))})


def try_out(segmenter: FewShotSegmenter, support: SupportSet, trials: Sequence[Trial]) -> Iterator[list[Outcome]]:
    """Make the trials, one after the other. Features are computed once, as far as the segmenter keeps them.

    Parameters
    ----------
    segmenter
        What is measured.
    support
        All shots.
    trials
        See `plan`.

    Yields
    ------
    list of Outcome
        Of each trial; empty where nothing can be learnt from its shots, or nothing be judged.

    Raises
    ------
    ImageError
        If an image cannot be used.
    """
    shots = {shot.key: shot for shot in support}
    for trial in trials:
        learnt = SupportSet([shots[key] for key in trial.learnt], support.classes)
        yield list(_outcomes(segmenter, support, learnt, [shots[key] for key in trial.tested]))


def _outcomes(
    segmenter: FewShotSegmenter, support: SupportSet, learnt: SupportSet, tested: Sequence[Shot]
) -> Iterator[Outcome]:
    judged = [shot for shot in tested if can_be_judged(shot, support.without(shot.key))]
    if not judged:
        return
    try:
        concept = segmenter.learn(learnt) if learnt.class_ids else None
    except SupportError:  # this method cannot learn from so little
        return
    for shot in judged:
        class_ids = support.without(shot.key).class_ids
        found = dict.fromkeys(set(shot.class_ids).intersection(class_ids), 0.0)
        found |= {} if concept is None else class_ious(concept, shot, class_ids)
        yield Outcome(frozenset(learnt.keys), shot.key, dict(sorted(found.items())), overall(found))
