"""SG-One by its equations, on made-up features in float64."""

import pytest
import torch

from napari_fewshot.models.backbones.base import FeaturePyramid
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.methods.sgone import SGOne
from tests.models.toys import (
    LEVEL,
    SIZE,
    noise,
    pictures,
    random_pyramid,
    random_shot,
    scaled,
    stripes,
    toy_ious,
    whole,
)

PLAIN_LEVELS = MatchingLevels((4,), standardised=False)
PLAIN = SGOne(PLAIN_LEVELS)
FINE = MatchingLevels((1,))


def test_vector_and_map_equal_loops() -> None:
    labels = stripes(0, 1, 255)
    ((pyramid, _),) = (shot := random_shot(1, labels)).parts()
    up = torch.nn.functional.interpolate(pyramid.features[LEVEL][None], SIZE, mode="bilinear")[0]
    total, number = torch.zeros(6, dtype=torch.float64), 0
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            if labels[y, x] == 1:  # eq. 1
                total, number = total + up[:, y, x], number + 1
    state, query = PLAIN.fit([shot], (1,)), random_pyramid(9)
    torch.testing.assert_close(state.solution[0].vectors[0], total / number, atol=1e-6, rtol=0)
    ((similarity,), level) = PLAIN.guidance(state, query)
    assert level == LEVEL and similarity.shape == (1, 8, 10)
    for y in range(8):
        for x in range(10):
            f, v = query.features[LEVEL][:, y, x], total / number
            assert similarity[0, y, x].item() == pytest.approx((f @ v / f.norm() / v.norm()).item(), abs=1e-6)  # eq. 2


def test_similarity_lies_within_one_and_is_one_for_what_is_parallel() -> None:
    state = PLAIN.fit([random_shot(1, stripes(0, 1))], (1,))
    features = random_pyramid(9).features[LEVEL].clone()
    features[:, 2, 3] = 7 * state.solution[0].vectors[0]
    ((similarity,), _) = PLAIN.guidance(state, FeaturePyramid({LEVEL: features}, SIZE))
    assert similarity.abs().max() <= 1 + 1e-9
    assert similarity[0, 2, 3].item() == pytest.approx(1)


def test_similarity_does_not_know_how_long_features_are() -> None:
    state, query = PLAIN.fit([random_shot(1, stripes(0, 1))], (1,)), random_pyramid(9)
    torch.testing.assert_close(PLAIN.predict(state, scaled(query, 10)), PLAIN.predict(state, query))
    ((pyramid, labels),) = random_shot(1, stripes(0, 1)).parts()
    longer = PLAIN.fit([whole(scaled(pyramid, 10), labels)], (1,))
    torch.testing.assert_close(PLAIN.predict(longer, query), PLAIN.predict(state, query), atol=1e-6, rtol=0)


def test_a_constant_map_is_its_own_vector() -> None:
    constant = noise(6)[:, None, None].expand(6, 8, 10).contiguous()
    state = PLAIN.fit([whole(FeaturePyramid({LEVEL: constant}, SIZE), stripes(0, 1))], (1,))
    torch.testing.assert_close(state.solution[0].vectors[0], noise(6))


def test_vectors_of_several_shots_are_averaged() -> None:
    shots = [random_shot(seed, stripes(0, 1)) for seed in (1, 2, 3)]
    alone = [PLAIN.fit([shot], (1,)).solution[0].vectors[0] for shot in shots]
    together = PLAIN.fit(shots, (1,)).solution[0].vectors
    torch.testing.assert_close(together, torch.stack(alone).mean(0, keepdim=True))


def test_the_other_rule_finds_what_any_shot_alone_would_find() -> None:
    rule = SGOne(FINE, fusion="max")
    shots = [whole(*pictures(seed), f"{seed}") for seed in (1, 2, 3)]  # type: ignore[arg-type]
    query, _ = pictures(9)
    alone = torch.stack([rule.predict(rule.fit([shot], (1,)), query).argmax(0) for shot in shots])
    together = rule.predict(rule.fit(shots, (1,)), query).argmax(0)
    assert torch.equal(together, alone.amax(0))


def test_the_map_is_cut_where_it_fits_best_but_for_a_tenth_of_the_way_to_the_background() -> None:
    shot = random_shot(1, stripes(0, 1))
    ((pyramid, labels),) = shot.parts()
    state = PLAIN.fit([shot], (1,))
    up = torch.nn.functional.interpolate(pyramid.features[LEVEL][None], SIZE, mode="bilinear")[0]
    similarity = torch.cosine_similarity(up, state.solution[0].vectors[0][:, None, None], dim=0)
    truth = labels == 1

    def iou_above(threshold: float) -> float:
        guess = similarity > threshold
        return ((guess & truth).sum() / (guess | truth).sum()).item()

    background = similarity[~truth].mean().item()
    best = (state.solution[0].calibrations[0].threshold - 0.1 * background) / 0.9
    tried = max(iou_above(t.item()) for t in torch.linspace(-1, 1, 65))
    assert iou_above(best) >= tried - 1e-6


def test_each_class_is_answered_alone() -> None:
    shots = [random_shot(1, stripes(0, 1, 2))]
    query = random_pyramid(9)
    both = PLAIN.fit(shots, (1, 2))
    as_one = [random_shot(1, torch.where(stripes(0, 1, 2) == 1, 1, 0))]
    alone = PLAIN.fit(as_one, (1,))
    torch.testing.assert_close(PLAIN.guidance(both, query)[0][0], PLAIN.guidance(alone, query)[0][0])
    assert both.solution[0].calibrations == alone.solution[0].calibrations


@pytest.mark.parametrize("relevance", [False, True])
def test_things_are_found_with_masks_and_with_strokes(relevance: bool) -> None:
    method = SGOne(FINE, relevance=relevance)
    assert min(toy_ious(method)) > 0.95
    assert min(toy_ious(method, shots=5, classes=2)) > 0.95
    assert min(toy_ious(method, strokes=True)) > 0.95
    assert min(toy_ious(SGOne(FINE, "max", relevance), shots=3)) > 0.95


def test_relevance_helps_where_most_features_say_nothing() -> None:
    """Forty features are noise that differs from picture to picture, two tell the thing from the ground."""

    def picture(seed: int) -> tuple[FeaturePyramid, torch.Tensor]:
        labels = stripes(0, 1, 0) if seed % 2 else stripes(1, 0)
        grid = labels[::4, ::4].double()
        telling = torch.stack([3 * grid - 1, 1 - 2 * grid]) + 0.3 * noise(2, 8, 10, seed=seed)
        return FeaturePyramid({LEVEL: torch.cat([telling, 1.5 * noise(40, 8, 10, seed=seed + 50)])}, SIZE), labels

    def accuracy(method: SGOne) -> float:
        query, truth = picture(2)
        return (method.predict(method.fit([whole(*picture(1))], (1,)), query).argmax(0) == truth).double().mean().item()  # type: ignore[arg-type]

    assert accuracy(SGOne(PLAIN_LEVELS, relevance=True)) > 0.9 > accuracy(PLAIN) + 0.1
