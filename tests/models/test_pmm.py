"""Prototype mixtures: the mixture does what its equations say, and so do both methods made of it."""

import pytest
import torch
from torch import Tensor

from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.resampling import upsample
from napari_fewshot.models.blocks.spherical_em import (
    em_round,
    log_likelihood,
    responsibilities,
    spherical_em,
    spread_start,
)
from napari_fewshot.models.methods.pmm import PMM
from napari_fewshot.models.methods.rpmm import RPMM
from tests.models.toys import LEVEL, noise, random_pyramid, random_shot, scaled, stripes, toy_ious

PLAIN_LEVELS = MatchingLevels((4,), standardised=False)
FINE = MatchingLevels((1,))


def directions(number: int, width: int = 8, seed: int = 0) -> Tensor:
    return torch.nn.functional.normalize(noise(number, width, seed=seed), dim=1)


def weights_of(number: int, seed: int = 5) -> Tensor:
    weights = noise(number, seed=seed).abs() + 0.1
    return weights / weights.mean()


def test_a_round_equals_loops() -> None:
    samples, weights, start = directions(30), weights_of(30), directions(3, seed=9)
    expected = torch.zeros(3, 8, dtype=torch.float64)
    for i in range(30):
        parts = torch.tensor([torch.exp(20 * start[k] @ samples[i]) for k in range(3)], dtype=torch.float64)
        share = parts / parts.sum()  # eq. 4
        for k in range(3):
            expected[k] += weights[i] * share[k] * samples[i]
    expected /= expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(em_round(samples, weights, start), expected)
    torch.testing.assert_close(responsibilities(samples, start).sum(1), torch.ones(30, dtype=torch.float64))


@pytest.mark.parametrize("seed", range(4))
def test_no_round_lowers_the_likelihood(seed: int) -> None:
    samples, weights = directions(200, seed=seed), weights_of(200, seed)
    prototypes = directions(5, seed=seed + 50)
    before = log_likelihood(samples, weights, prototypes)
    for _ in range(30):
        prototypes = em_round(samples, weights, prototypes)
        torch.testing.assert_close(prototypes.norm(dim=1), torch.ones(5, dtype=torch.float64))
        after = log_likelihood(samples, weights, prototypes)
        assert after >= before - 1e-9
        before = after


def test_a_single_component_is_the_direction_of_the_mean() -> None:
    samples, weights = directions(50), weights_of(50)
    mean = torch.nn.functional.normalize(weights @ samples, dim=0)
    torch.testing.assert_close(em_round(samples, weights, directions(1, seed=3))[0], mean)
    torch.testing.assert_close(spherical_em(samples, weights, 1)[0], mean)


def test_samples_of_length_zero_change_nothing() -> None:
    samples, weights, start = directions(40), weights_of(40), directions(3, seed=9)
    more = torch.cat([samples, torch.zeros(10, 8, dtype=torch.float64)])
    torch.testing.assert_close(
        em_round(more, torch.cat([weights, weights[:10]]), start), em_round(samples, weights, start)
    )


def test_the_order_of_samples_is_irrelevant_and_each_run_gives_the_same() -> None:
    samples, weights = directions(100), weights_of(100)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    found = spherical_em(samples, weights, 4)
    torch.testing.assert_close(spherical_em(samples[order], weights[order], 4), found)
    assert torch.equal(spherical_em(samples.clone(), weights.clone(), 4), found)


def test_clusters_are_found_and_one_stray_sample_is_none() -> None:
    centres = torch.eye(8, dtype=torch.float64)[:3]
    samples = torch.nn.functional.normalize(centres.repeat(40, 1) + 0.1 * noise(120, 8), dim=1)
    stray = torch.cat([samples, -torch.ones(1, 8, dtype=torch.float64) / 8**0.5])
    found = spherical_em(stray, torch.ones(121, dtype=torch.float64), 3)
    assert (found @ centres.T).amax(0).min() > 0.99


def test_more_components_than_samples_leave_one_for_each() -> None:
    samples = directions(2)
    assert len(spherical_em(samples, torch.ones(2, dtype=torch.float64), 6, concentration=500)) == 2
    alike = samples[:1].expand(5, 8)
    found = spherical_em(alike, torch.ones(5, dtype=torch.float64), 3)
    torch.testing.assert_close(found, alike[: len(found)])
    one = spherical_em(samples[:1], torch.ones(1, dtype=torch.float64), 3)
    torch.testing.assert_close(one, samples[:1])
    assert len(spread_start(directions(3000), torch.ones(3000, dtype=torch.float64), 4)) == 4


def test_p_conv_is_the_softmax_over_prototypes_summed_over_those_of_a_label() -> None:
    method = PMM(PLAIN_LEVELS)
    state, query = method.fit([random_shot(1, stripes(0, 1, 2))], (1, 2)), random_pyramid(9)
    cells = query.features[LEVEL]
    maps = torch.zeros(3, 8, 10, dtype=torch.float64)
    for y in range(8):
        for x in range(10):
            q = cells[:, y, x] / cells[:, y, x].norm()
            parts = [[torch.exp(20 * mu @ q) for mu in several] for several in state.solution.prototypes]
            total = sum(sum(several) for several in parts)
            for label, several in enumerate(parts):
                maps[label, y, x] = sum(several) / total
    torch.testing.assert_close(state.solution.p_conv(cells).softmax(0), maps)
    torch.testing.assert_close(maps.sum(0), torch.ones(8, 10, dtype=torch.float64))
    predicted = method.predict(state, query)
    torch.testing.assert_close(predicted, upsample(maps.log(), LEVEL, query.size).softmax(0), atol=1e-9, rtol=0)


def test_with_one_component_it_compares_with_the_mean_direction() -> None:
    method = PMM(PLAIN_LEVELS, components=1)
    shot = random_shot(1, stripes(0, 1))
    kept = method.summarise(shot).labels[1].features
    mean = torch.nn.functional.normalize(torch.nn.functional.normalize(kept, dim=1).mean(0), dim=0)
    torch.testing.assert_close(method.fit([shot], (1,)).solution.prototypes[1][0], mean)


def test_the_stack_answers_with_the_mean_of_its_passes() -> None:
    shots, query = [random_shot(1, stripes(0, 1, 2))], random_pyramid(9)
    answers = []
    for components in (1, 3, 6):
        method = PMM(PLAIN_LEVELS, components)
        answers.append(method.predict(method.fit(shots, (1, 2)), query))
    stack = RPMM(PLAIN_LEVELS)
    found = stack.predict(stack.fit(shots, (1, 2)), query)
    torch.testing.assert_close(found, torch.stack(answers).mean(0))
    torch.testing.assert_close(found.sum(0), torch.ones(query.size, dtype=torch.float64))


@pytest.mark.parametrize("method", [PMM(PLAIN_LEVELS), RPMM(PLAIN_LEVELS)], ids=["pmm", "rpmm"])
def test_the_length_of_features_is_irrelevant(method: PMM | RPMM) -> None:
    state, query = method.fit([random_shot(1, stripes(0, 1))], (1,)), random_pyramid(9)
    torch.testing.assert_close(method.predict(state, scaled(query, 10)), method.predict(state, query))


@pytest.mark.parametrize("relevance", [False, True])
@pytest.mark.parametrize("kind", [PMM, RPMM])
def test_things_are_found_with_masks_and_with_strokes(kind: type[PMM] | type[RPMM], relevance: bool) -> None:
    method = kind(FINE, relevance=relevance)
    assert min(toy_ious(method)) > 0.95
    assert min(toy_ious(method, shots=5, classes=2)) > 0.95
    assert min(toy_ious(method, strokes=True)) > 0.95


def test_changing_the_shots_equals_learning_again_to_the_last_bit() -> None:
    method = RPMM(PLAIN_LEVELS)
    a, b, c = (random_shot(seed, stripes(0, 1, 2)) for seed in (1, 2, 3))
    stepwise = method.update(method.fit([a, b], (1, 2)), [c], ["2"], (1, 2))
    at_once = method.fit([a, c], (1, 2))
    for one, other in zip(stepwise.solution, at_once.solution, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(one.prototypes, other.prototypes, strict=True))
