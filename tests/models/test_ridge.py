"""Ridge by its definition, and the blend that is the default."""

import pytest
import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.blocks.levels import LiftedLevels
from napari_fewshot.models.blocks.random_features import RandomFeatures
from napari_fewshot.models.blocks.resampling import upsample
from napari_fewshot.models.blocks.standardise import standardisation
from napari_fewshot.models.methods.base import SupportFeatures
from napari_fewshot.models.methods.ridge import Ridge

SIZE = (32, 40)


def features(seed: int) -> FeaturePyramid:
    generator = torch.Generator().manual_seed(seed)
    return FeaturePyramid({Level(s): torch.randn(3, 32 // s, 40 // s, generator=generator) for s in (1, 4)}, SIZE)


def labels(seed: int, values: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(100 + seed)
    return torch.randint(values, (8, 10), generator=generator).repeat_interleave(4, 0).repeat_interleave(4, 1)


def shot(seed: int, painted: Tensor | None = None) -> SupportFeatures:
    return SupportFeatures.whole(features(seed), labels(seed) if painted is None else painted, f"{seed}")


def design(pyramid: FeaturePyramid, lift: RandomFeatures | None = None) -> Tensor:
    """(H W, D) float64 with everything at full resolution."""
    parts = []
    for level, f in pyramid.features.items():
        scale, shift = standardisation(pyramid, level)
        f = scale[:, None, None] * f + shift[:, None, None]
        lifted = f if lift is None else torch.cat([f, lift(f.flatten(1)).view(-1, *f.shape[1:])])
        parts.append(upsample(lifted, level, SIZE).flatten(1).T)
    return torch.cat([*parts, torch.ones(len(parts[0]), 1)], 1).double()


@pytest.mark.parametrize("lift", [None, RandomFeatures(16)])
def test_it_is_the_weighted_least_squares_solution(lift: RandomFeatures | None) -> None:
    method = Ridge(shrinkage=0.05, prior=0, levels=LiftedLevels(lift))
    state = method.fit([shot(1), shot(2)], (1, 2))
    x = torch.cat([design(features(1), lift), design(features(2), lift)])
    y = torch.cat([labels(1), labels(2)]).flatten()
    d = (1 / 3 / torch.bincount(y).double())[y]
    one_hot = torch.nn.functional.one_hot(y).double()
    penalty = 0.05 * torch.eye(x.shape[1], dtype=torch.float64)
    penalty[-1, -1] = 0
    expected = torch.linalg.solve(x.T @ (d[:, None] * x) + penalty, x.T @ (d[:, None] * one_hot))
    torch.testing.assert_close(state.solution.weights.double(), expected, atol=1e-4, rtol=1e-3)
    p = method.predict(state, features(9))
    by_hand = (8 * design(features(9), lift) @ expected).softmax(1).T.unflatten(1, SIZE)
    torch.testing.assert_close(p.double(), by_hand, atol=1e-3, rtol=0)


@pytest.mark.parametrize("lift", [None, RandomFeatures(16)])
def test_adding_and_removing_shots_equals_fitting_again_to_the_last_bit(lift: RandomFeatures | None) -> None:
    method = Ridge(levels=LiftedLevels(lift))
    at_once = method.fit([shot(1), shot(3)], (1, 2))
    stepwise = method.fit([shot(2), shot(3)], (1, 2))
    before = stepwise.solution.weights.clone()
    updated = method.update(stepwise, [shot(1)], ["2"], (1, 2))
    assert torch.equal(updated.solution.weights, at_once.solution.weights)
    assert torch.equal(stepwise.solution.weights, before)


def test_rare_labels_weigh_as_much_as_common_ones() -> None:
    rare = torch.zeros(SIZE, dtype=torch.long)
    rare[:2, :2] = 1
    state = Ridge(prior=0, shrinkage=10).fit([shot(1, rare)], (1,))
    constant = state.solution.weights[-1]
    assert constant.tolist() == pytest.approx([0.5, 0.5], abs=0.2)


def test_the_prior_favours_what_covers_much_and_only_where_areas_are_known() -> None:
    rare = torch.zeros(SIZE, dtype=torch.long)
    rare[:2, :2] = 1
    offset = Ridge(prior=1).fit([shot(1, rare)], (1,)).solution.offset
    assert offset.tolist() == pytest.approx([0, torch.tensor(4 / (32 * 40 - 4)).log().item()])
    strokes = rare.clone()
    strokes[10:] = 255
    assert Ridge(prior=1).fit([shot(1, strokes)], (1,)).solution.offset.tolist() == [0, 0]


def test_random_features_are_the_same_everywhere_and_never_negative() -> None:
    cells = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    a, b = RandomFeatures(8)(cells), RandomFeatures(8)(cells.clone())
    assert torch.equal(a, b)
    assert (a >= 0).all()
    assert a.shape == (8, 50)


def test_with_a_lift_it_solves_what_is_not_linear() -> None:
    """A ring in feature space: class 1 where a feature is near 0, background on both sides."""
    feature = torch.linspace(-3, 3, 40).expand(1, 32, 40)
    pyramid = FeaturePyramid({Level(1): feature}, SIZE)
    middle = (feature[0].abs() < 1).long()
    shots = [SupportFeatures.whole(pyramid, middle, "a")]

    def accuracy(method: Ridge) -> float:
        return (method.predict(method.fit(shots, (1,)), pyramid).argmax(0) == middle).float().mean().item()

    assert accuracy(Ridge(levels=LiftedLevels(RandomFeatures(64)))) > 0.9
    assert accuracy(Ridge(prior=0)) < 0.8
