"""What the shots tell: the curve over their number, and which of them hurt, on data of which it is known."""

import numpy as np
import pytest

from napari_fewshot import Frame, Shot, SupportSet
from napari_fewshot.evaluation.learning_curve import learning_curve
from napari_fewshot.evaluation.shot_quality import judge, which_hurt
from napari_fewshot.evaluation.trials import Outcome, plan, try_out
from napari_fewshot.frames import Labels
from tests.fakes import BrightnessSegmenter


def shots_of(count: int) -> SupportSet:
    return SupportSet(shot(n) for n in range(count))


def shot(number: int, mask: Labels | None = None) -> Shot:
    """A bright square on dark ground, a little otherwise each time, and where it is."""
    truth = np.zeros((24, 24), np.int32)
    truth[4 : 14 + number % 5, 6:20] = 1
    noise = np.random.default_rng(number).normal(0, 20, truth.shape)
    image = (60 + 90 * truth + noise).clip(0, 255).astype(np.uint8)
    return Shot(Frame(("stack", number), image), truth if mask is None else mask)


def outcomes_of(count: int, a: float, b: float, c: float, seed: int, noise: float = 0.03) -> list[Outcome]:
    """What would come out if the error were a + b * size ** -c, on shots that are easier and harder."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(0, 0.08, count)
    outcomes = []
    for trial in plan(shots_of(count), seed):
        for key in trial.tested:
            true = 1 - a - b * len(trial.learnt) ** -c + difficulty[key[1]]
            iou = float(np.clip(true + rng.normal(0, noise), 0, 1))
            outcomes.append(Outcome(frozenset(trial.learnt), key, {1: iou}, iou))
    return outcomes


@pytest.mark.parametrize("count", [2, 3, 4, 7, 20])
def test_no_shot_is_tested_on_what_was_learnt_from_it(count: int) -> None:
    support = shots_of(count)
    trials = plan(support)
    assert all(trial.tested and not set(trial.learnt) & set(trial.tested) for trial in trials)
    alone = [trial.tested for trial in trials if len(trial.learnt) == count - 1]
    assert alone == [(key,) for key in support.keys]
    tests = [key for trial in trials for key in trial.tested]
    numbers = [tests.count(key) for key in support.keys]
    assert max(numbers) <= 2 * min(numbers), "about as often each"
    assert len({trial.learnt for trial in trials}) == len(trials), "nothing is tried twice"
    assert plan(support) == trials


def test_a_mask_in_the_wrong_place_is_found_to_hurt() -> None:
    wrong = np.zeros((24, 24), np.int32)
    wrong[19:] = 1
    support = SupportSet([shot(0), shot(1), shot(2, wrong), shot(3), shot(4)])
    outcomes = [o for found in try_out(BrightnessSegmenter(), support, plan(support)) for o in found]
    quality = judge(support, outcomes)
    assert [shot.key for shot in quality.hurting] == [("stack", 2)]
    assert quality.hurting[0].harm is not None and quality.hurting[0].harm > 0.01
    worst = quality.shots[2].iou
    assert worst is not None and worst < 0.1
    assert quality.class_iou.keys() == {1} and quality.iou == pytest.approx(quality.class_iou[1])


def test_good_shots_are_not_said_to_hurt() -> None:
    support = shots_of(6)
    outcomes = [o for found in try_out(BrightnessSegmenter(), support, plan(support)) for o in found]
    quality = judge(support, outcomes)
    assert quality.hurting == () and quality.iou is not None and quality.iou > 0.9
    assert quality.curve is not None and quality.curve.gain_high < 0.01


def test_a_difference_that_chance_explains_is_no_harm() -> None:
    rng = np.random.default_rng(0)
    names = [f"shot {n}" for n in range(8)]
    false_alarms = sum(
        bool(which_hurt({a: {b: float(rng.normal(-0.01, 0.03)) for b in names if b != a} for a in names}, {}))
        for _ in range(100)
    )
    assert false_alarms <= 15
    surely = {a: {b: 0.05 if a == "shot 1" else -0.01 for b in names if b != a} for a in names}
    assert which_hurt(surely, {}) == ["shot 1"]


@pytest.mark.parametrize(("count", "seed"), [(3, 0), (4, 1), (6, 2), (12, 3)])
def test_what_one_more_shot_brings_is_foretold_with_its_uncertainty(count: int, seed: int) -> None:
    curve = learning_curve(outcomes_of(count, a=0.1, b=0.4, c=0.7, seed=seed), count)
    assert curve is not None
    true = 0.4 * (count**-0.7 - (count + 1) ** -0.7)
    assert curve.gain_low <= curve.gain <= curve.gain_high
    assert curve.gain == pytest.approx(true, abs=0.02)
    assert list(curve.fitted) == sorted(curve.fitted) and curve.sizes[curve.shots] == count + 1
    assert all(low <= high for low, high in zip(curve.low, curve.high, strict=True))


def test_the_interval_holds_the_truth_most_of_the_time_and_shrinks() -> None:
    held, widths = 0, {}
    for count in (4, 10):
        true = 0.4 * (count**-0.7 - (count + 1) ** -0.7)
        curves = [learning_curve(outcomes_of(count, 0.1, 0.4, 0.7, seed), count) for seed in range(12)]
        held += sum(c is not None and c.gain_low <= true <= c.gain_high for c in curves)
        widths[count] = np.mean([c.gain_high - c.gain_low for c in curves if c is not None])
    assert held >= 18, "of 24, at 90 %"
    assert widths[10] < widths[4]


def test_where_nothing_grows_nothing_is_promised() -> None:
    curve = learning_curve(outcomes_of(6, a=0.2, b=0.0, c=1.0, seed=0, noise=0.01), 6)
    assert curve is not None and curve.gain < 0.003


def test_two_shots_are_too_few_for_a_curve_and_enough_for_a_number() -> None:
    support = shots_of(2)
    outcomes = [o for found in try_out(BrightnessSegmenter(), support, plan(support)) for o in found]
    quality = judge(support, outcomes)
    assert quality.curve is None and quality.iou is not None and quality.iou > 0.9
    assert judge(support, []).iou is None


def test_a_class_that_is_not_among_the_shots_learnt_from_is_not_found() -> None:
    second = np.where(shot(1).labels == 1, 2, 0).astype(np.int32)
    support = SupportSet([shot(0), shot(1, second), shot(2), shot(3, np.where(shot(3).labels == 1, 2, 0))])
    outcomes = [o for found in try_out(BrightnessSegmenter(), support, plan(support)) for o in found]
    from_the_other = [o for o in outcomes if o.learnt == {("stack", 1)} and o.tested == ("stack", 0)]
    assert [o.class_iou[1] for o in from_the_other] in ([], [0.0])
    assert any(o.class_iou.get(1) == 0.0 for o in outcomes if not o.learnt & {("stack", 0), ("stack", 2)})
