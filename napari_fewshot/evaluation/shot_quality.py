"""What the shots tell of how well it goes: quality per class, what one more would bring, and which of them hurt."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import stdtrit

from napari_fewshot.evaluation.learning_curve import LearningCurve, learning_curve
from napari_fewshot.evaluation.metrics import mean
from napari_fewshot.evaluation.trials import Outcome
from napari_fewshot.frames import FrameKey
from napari_fewshot.support import SupportSet

_CONFIDENCE: Final = 0.9
_LEAST_HARM: Final = 0.01
"""Of IoU: less is not worth a word."""
_MOST: Final = 2 / 3


@dataclass(frozen=True)
class ShotQuality:
    """How one shot does.

    Attributes
    ----------
    key
        The frame.
    iou
        How well it is proposed from all others, in [0, 1]; None where that cannot be judged.
    class_iou
        The same of each class.
    harm
        By how much the IoU of the others rises without it, on average; negative where it helps. None as long as that
        was not tried.
    hurts
        Whether it does harm, see `which_hurt`.
    """

    key: FrameKey
    iou: float | None = None
    class_iou: Mapping[int, float] | None = None
    harm: float | None = None
    hurts: bool = False


@dataclass(frozen=True)
class SupportQuality:
    """How all shots do.

    Attributes
    ----------
    shots
        In their order.
    iou
        Mean over shots that could be judged, in [0, 1].
    class_iou
        Class id -> mean over the shots that it is painted on, or was proposed for.
    curve
        Quality against the number of shots; None as long as nothing can be told.
    """

    shots: tuple[ShotQuality, ...]
    iou: float | None
    class_iou: Mapping[int, float]
    curve: LearningCurve | None

    @property
    def hurting(self) -> tuple[ShotQuality, ...]:
        """Shots that hurt, the worst first."""
        return tuple(sorted((shot for shot in self.shots if shot.hurts), key=lambda shot: -(shot.harm or 0)))


def judge(support: SupportSet, outcomes: Sequence[Outcome]) -> SupportQuality:
    """Draw conclusions from trials, as far as there are any by now.

    Parameters
    ----------
    support
        All shots.
    outcomes
        Of `trials.try_out`.
    """
    all_but_one = {o.tested: o for o in outcomes if len(o.learnt) == len(support) - 1}
    harm = harm_done(outcomes, len(support))
    ious = {key: outcome.iou for key, outcome in all_but_one.items()}
    hurting = set(which_hurt(harm, ious))
    shots = []
    for key in support.keys:
        outcome, others = all_but_one.get(key), harm.get(key, {})
        shots.append(
            ShotQuality(
                key,
                None if outcome is None else outcome.iou,
                None if outcome is None else outcome.class_iou,
                mean(others.values()),
                key in hurting,
            )
        )
    ids = sorted({c for outcome in all_but_one.values() for c in outcome.class_iou})
    class_iou = {c: mean(o.class_iou.get(c) for o in all_but_one.values()) or 0.0 for c in ids}
    return SupportQuality(
        tuple(shots), mean(shot.iou for shot in shots), class_iou, learning_curve(outcomes, len(support))
    )


def harm_done(outcomes: Sequence[Outcome], shots: int) -> dict[FrameKey, dict[FrameKey, float]]:
    """Return by how much IoU rises without each shot: left out -> tested on -> difference.

    Compares a shot that is proposed from all others with the same proposed from all others but one.
    """
    with_it = {o.tested: o for o in outcomes if len(o.learnt) == shots - 1}
    harm: dict[FrameKey, dict[FrameKey, float]] = {}
    for outcome in outcomes:
        reference = with_it.get(outcome.tested)
        if len(outcome.learnt) != shots - 2 or reference is None:
            continue
        (left_out,) = reference.learnt - outcome.learnt
        harm.setdefault(left_out, {})[outcome.tested] = outcome.iou - reference.iou
    return harm


def which_hurt(harm: Mapping[FrameKey, Mapping[FrameKey, float]], ious: Mapping[FrameKey, float]) -> list[FrameKey]:
    """Return the shots without which others do better, by more than chance explains, the worst first.

    Without it the others rise by 0.01 on average, and either that is more than how much it varies from one to the other
    explains (a one-sided t-test at 90 %), or most of them rise and the shot is itself proposed for much worse than
    others are: two signs that its mask says something else than theirs.

    What is found to hurt is no longer believed as a test: a shot that is labelled wrongly is proposed for "better"
    without the right ones.

    Parameters
    ----------
    harm
        See `harm_done`.
    ious
        How well each shot is proposed from all others.
    """
    usual = float(np.median(list(ious.values()))) if ious else 0.0
    found: list[FrameKey] = []
    while True:
        worst, most = None, 0.0
        for key, others in harm.items():
            rises = [rise for tested, rise in others.items() if tested not in found]
            if key in found or len(rises) < 2 or np.mean(rises) < _LEAST_HARM:
                continue
            stands_out = ious[key] < usual / 2 and np.mean(np.array(rises) > 0) >= _MOST if key in ious else False
            if (stands_out or _surely_above_zero(rises)) and np.mean(rises) > most:
                worst, most = key, float(np.mean(rises))
        if worst is None:
            return found
        found.append(worst)


def _surely_above_zero(rises: Sequence[float]) -> bool:
    margin = float(stdtrit(len(rises) - 1, _CONFIDENCE)) * np.std(rises, ddof=1) / math.sqrt(len(rises))
    return bool(np.mean(rises) > margin)
