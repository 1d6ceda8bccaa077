"""Logistic regression solves what it says it solves, and weighs labels as it says."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.blocks.levels import LiftedLevels
from napari_fewshot.models.blocks.random_features import RandomFeatures
from napari_fewshot.models.methods.base import SupportFeatures
from napari_fewshot.models.methods.logistic import Logistic

SIZE = (32, 40)


def features(seed: int) -> FeaturePyramid:
    generator = torch.Generator().manual_seed(seed)
    fine = torch.randn((3, *SIZE), generator=generator)
    coarse = torch.randn((4, 8, 10), generator=generator)
    return FeaturePyramid({Level(1): fine, Level(4): coarse}, SIZE)


def labels(seed: int) -> torch.Tensor:
    """Three labels that the finest features tell apart, but for some noise."""
    fine = next(iter(features(seed).features.values()))
    noise = torch.randn(SIZE, generator=torch.Generator().manual_seed(100 + seed))
    return (fine[0] + 0.5 * noise > 0.5).long() + (fine[1] + 0.5 * noise > 1).long()


def shot(seed: int, mask: torch.Tensor | None = None) -> SupportFeatures:
    return SupportFeatures.whole(features(seed), labels(seed) if mask is None else mask, str(seed))


@pytest.mark.parametrize("lift", [None, RandomFeatures(16)])
def test_it_finds_what_scikit_learn_finds(lift: RandomFeatures | None) -> None:
    """The same minimum as scikit-learn's solver on the same standardised pixels of two shots, with the same weights."""
    levels = LiftedLevels(lift)
    method = Logistic(shrinkage=0.05, prior=0, levels=levels)
    state = method.fit([shot(1), shot(2)], (1, 2))
    ys, xs = (v.flatten() for v in torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij"))
    x = torch.cat([levels.sample(features(seed), ys, xs) for seed in (1, 2)])
    y = torch.cat([labels(1), labels(2)]).flatten()
    standard = (x - x.mean(0)) / (x.std(0, correction=0) + 0.1)
    weight = (1 / 3 / torch.bincount(y).double())[y].numpy()
    reference = LogisticRegression(C=2**0.5 / 0.05, tol=1e-8, max_iter=2000).fit(standard, y, sample_weight=weight)
    query = levels.sample(features(9), ys, xs)
    asked = (query - x.mean(0)) / (x.std(0, correction=0) + 0.1)
    found = method.predict(state, features(9)).flatten(1).T
    np.testing.assert_allclose(found, reference.predict_proba(asked), atol=0.01)


def test_adding_and_removing_shots_equals_fitting_again_to_the_last_bit() -> None:
    method = Logistic(levels=LiftedLevels(RandomFeatures(16)))
    at_once = method.fit([shot(1), shot(3)], (1, 2))
    stepwise = method.fit([shot(2), shot(3)], (1, 2))
    before = stepwise.solution.weights.clone()
    updated = method.update(stepwise, [shot(1)], ["2"], (1, 2))
    assert torch.equal(updated.solution.weights, at_once.solution.weights)
    assert torch.equal(stepwise.solution.weights, before)


def test_rare_labels_weigh_as_much_as_common_ones() -> None:
    """Without a prior and with hardly any slope, a label is as likely with 4 pixels as with 1276."""
    rare = torch.zeros(SIZE, dtype=torch.long)
    rare[:2, :2] = 1
    method = Logistic(prior=0, shrinkage=1e4)
    means = method.predict(method.fit([shot(1, rare)], (1,)), features(1)).mean((1, 2))
    assert means.tolist() == pytest.approx([0.5, 0.5], abs=0.02)


def test_the_prior_favours_what_covers_much_and_only_where_areas_are_known() -> None:
    rare = torch.zeros(SIZE, dtype=torch.long)
    rare[:2, :2] = 1
    neutral = Logistic(prior=0).fit([shot(1, rare)], (1,)).solution.offset
    offset = Logistic(prior=0.5).fit([shot(1, rare)], (1,)).solution.offset - neutral
    assert (offset[1] - offset[0]).item() == pytest.approx(0.5 * np.log(4 / (32 * 40 - 4)), abs=1e-4)
    strokes = rare.clone()
    strokes[10:] = 255
    states = [Logistic(prior=prior).fit([shot(1, strokes)], (1,)).solution.offset for prior in (0, 1)]
    assert torch.equal(*states)


def test_a_label_that_nobody_painted_is_never_proposed() -> None:
    strokes = torch.full(SIZE, 255)
    strokes[:5] = 1
    strokes[20:] = 2
    method = Logistic()
    assert method.predict(method.fit([shot(1, strokes)], (1, 2)), features(9))[0].max() < 1e-6


def test_with_a_lift_it_solves_what_is_not_linear() -> None:
    """A ring in feature space: class 1 where a feature is near 0, background on both sides."""
    feature = torch.linspace(-3, 3, 40).expand(1, 32, 40)
    pyramid = FeaturePyramid({Level(1): feature}, SIZE)
    middle = (feature[0].abs() < 1).long()
    shots = [SupportFeatures.whole(pyramid, middle, "a")]

    def accuracy(method: Logistic) -> float:
        return (method.predict(method.fit(shots, (1,)), pyramid).argmax(0) == middle).float().mean().item()

    assert accuracy(Logistic(0.01, 0, LiftedLevels(RandomFeatures(64)))) > 0.9
    assert accuracy(Logistic(0.01, 0)) < 0.8
