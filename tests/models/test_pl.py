"""PL by its equations, pixel by pixel and class by class."""

from typing import Any

import pytest
import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels
from napari_fewshot.models.methods.base import AdditiveState, Transductive
from napari_fewshot.models.methods.pl import (
    PrototypeConfig,
    PrototypeLearning,
    Segmenter,
    above_the_others,
    nearness,
)
from napari_fewshot.models.methods.trained import Episode
from tests.models.toys import WIDTH, noise, random_pyramid, random_shot, stripes, toy_ious, whole


def made(**changes: Any) -> PrototypeLearning:
    """With weights that are all drawn, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        method = PrototypeLearning(PrototypeConfig(WIDTH, (4,), width=5, **changes))
        method.head.double().eval()
        for p in method.head.parameters():
            torch.nn.init.normal_(p, std=0.5)
    return method


def shots() -> list[ShotPixels]:
    method = made()
    return [method.summarise(random_shot(seed, stripes(0, 1, 2))) for seed in (1, 2)]


def nearest(vector: Tensor, prototypes: Tensor) -> Tensor:
    """P(n | x), one distance after the other."""
    odds = torch.stack([(-((vector - p) ** 2).sum() / len(vector) ** 0.5).exp() for p in prototypes])
    return odds / odds.sum()


def test_a_prototype_is_the_mean_over_shots_of_mean_embeddings() -> None:
    method, taught = made(), shots()
    means = []
    for shot in taught:
        lengths = shot.labels[1].features / shot.labels[1].features.norm(dim=1, keepdim=True)
        first, _, second = method.head.learner
        vectors = [second.weight @ (first.weight @ (x * WIDTH**0.5) + first.bias).relu() + second.bias for x in lengths]
        means.append(torch.stack(vectors).mean(0))
    found = method.prototype(taught, 1)
    assert found is not None
    torch.testing.assert_close(found, torch.stack(means).mean(0))


@pytest.mark.parametrize("paired", [False, True])
def test_weights_are_probabilities_by_distance(paired: bool) -> None:
    method = made(paired=paired)
    taught = method.combine(shots(), (1, 2))
    image = method.levels.draw([random_pyramid(9)], 50)
    cells = method.embedded(image.T)
    odds = []
    for p in taught.prototypes[1:]:
        likeness = torch.stack([(-((c - p) ** 2).sum() / 5**0.5).exp() for c in cells])
        seen = (likeness[:, None] * cells).sum(0) / likeness.sum() if paired else cells.mean(0)
        odds.append((-((seen - p) ** 2).sum() / 5**0.5).exp())
    expected = torch.stack(odds) / sum(odds)
    found = method.weights(taught, image)
    torch.testing.assert_close(found, expected)
    assert found.sum().item() == pytest.approx(1)


def scored(segmenter: Segmenter, x: Tensor, p: Tensor, cues: Tensor) -> Tensor:
    """s_n of one cell (D,): both sums, ReLU, 1 x 1 convolution."""
    reduced = segmenter.query[0]
    m = (reduced.weight[:, :, 0, 0] @ x + reduced.bias).relu() + p
    if segmenter.similarity is not None:
        m = m + segmenter.similarity.weight[:, :, 0, 0] @ cues + segmenter.similarity.bias
    return segmenter.score.weight[:, :, 0, 0] @ m.relu() + segmenter.score.bias


@pytest.mark.parametrize("slots", [0, 2])
def test_scores_are_fused_as_the_equation_says(slots: int) -> None:
    segmenter = made(slots=slots, depth=0).head.segmenter
    query, prototypes, weights = noise(WIDTH, 3, 4), noise(2, 5, seed=1), torch.tensor([0.3, 0.7]).double()
    cues = noise(2, 3, 3, 4, seed=2)
    found = segmenter(query, prototypes, weights, cues)
    for i in range(3):
        for j in range(4):
            each = [scored(segmenter, query[:, i, j], prototypes[n], cues[n, :, i, j]) for n in range(2)]
            if slots:
                expected = sum(w * s for w, s in zip(weights, each, strict=True))
            else:
                background = weights[0] * each[0][0] + weights[1] * each[1][0]
                expected = torch.stack([background, 2 * weights[0] * each[0][1], 2 * weights[1] * each[1][1]])
            torch.testing.assert_close(found[:, i, j], expected)


def test_the_closest_prototype_weighs_most() -> None:
    method, prototypes = made(paired=False), noise(3, 5, seed=4)
    image = method.levels.draw([random_pyramid(9)], 50)
    taught = method.combine(shots(), (1, 2))
    seen = method.embedded(image.T).mean(0)
    for closest in range(3):
        moved = prototypes.clone()
        moved[closest] = seen + 0.01
        known = type(taught)(torch.cat([torch.zeros(1, 5).double(), moved]), True, taught.averages)
        found = method.weights(known, image)
        torch.testing.assert_close(found, nearest(seen, moved))
        assert int(found.argmax()) == closest


def test_moving_everything_leaves_distances_as_they_are() -> None:
    a, b, shift = noise(4, 5), noise(3, 5, seed=1), noise(5, seed=2)
    torch.testing.assert_close(nearness(a + shift, b + shift), nearness(a, b))
    torch.testing.assert_close(nearness(a, a).diagonal(), torch.zeros(4).double(), atol=1e-12, rtol=0)


def asked(method: PrototypeLearning, class_ids: tuple[int, ...], query: FeaturePyramid) -> Tensor:
    return method.logits(method.combine(shots(), class_ids), query)[0]


def test_with_a_shared_scorer_the_order_of_classes_plays_no_part() -> None:
    method = made()
    torch.testing.assert_close(
        asked(method, (2, 1), random_pyramid(9))[[1, 0]], asked(method, (1, 2), random_pyramid(9))
    )


def test_permutation_training_puts_classes_into_any_slot() -> None:
    method, query = made(slots=2, depth=0, dropout=0.0, corrects=False), random_pyramid(9)
    assert torch.equal(asked(method, (1, 2), query), asked(method, (1, 2), query)), "not in use"
    orders = [asked(method, (1, 2), query), asked(method, (2, 1), query)[[1, 0]]]
    assert not torch.allclose(*orders)
    method.head.train()
    seen = set()
    for seed in range(20):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found = asked(method, (1, 2), query)
        matches = [i for i, order in enumerate(orders) if torch.allclose(found, order)]
        assert len(matches) == 1
        seen |= set(matches)
    assert seen == {0, 1}


def test_more_classes_than_slots_are_answered_for_in_groups() -> None:
    method = made(slots=2, corrects=False)
    labels = stripes(0, 1, 2, 3, 4, 5)
    taught = method.combine([method.summarise(random_shot(1, labels))], (1, 2, 3, 4, 5))
    assert method.logits(taught, random_pyramid(9))[0].shape[0] == 5


def test_odds_against_the_others_are_those_of_the_joint_softmax() -> None:
    logits = noise(3, 7)
    p = torch.cat([torch.zeros(1, 7).double(), logits]).softmax(0)[1:]
    torch.testing.assert_close(above_the_others(logits).sigmoid(), p)
    torch.testing.assert_close(above_the_others(logits[:1]), logits[:1])


def test_the_class_loss_is_small_where_classes_are_told_apart_and_left_out_where_there_is_one_label() -> None:
    method = made()
    labels = stripes(0, 1)
    pyramid = random_pyramid(1)
    features = next(iter(pyramid.features.values()))
    features[:] = 0.1 * features + torch.where(torch.arange(10) < 5, 3.0, -3.0)
    dense, alone = whole(pyramid, labels), whole(pyramid, torch.where(labels == 0, 255, 1))
    told = method.loss(Episode((dense,), pyramid, labels))["class"]
    confused = method.loss(Episode((dense,), pyramid, 1 - labels))["class"]
    assert told < 0.7 < confused
    assert "class" not in method.loss(Episode((alone,), pyramid, labels))


def test_untrained_it_answers_with_the_calibrated_cosine() -> None:
    method = PrototypeLearning(PrototypeConfig(16, (1,), width=8))
    method.head.eval()
    with torch.inference_mode():
        assert min(toy_ious(method, shots=2, classes=2)) > 0.95


def test_tiles_are_weighed_by_the_whole_image() -> None:
    method = made()
    state = AdditiveState({}, method.combine(shots(), (1, 2)))
    assert isinstance(method, Transductive)
    one, other = random_pyramid(8), random_pyramid(9)
    adapted = method.adapt(state, [one, other])
    assert adapted.solution.image is not None and state.solution.image is None
    assert not torch.equal(method.logits(adapted.solution, one)[0], method.logits(state.solution, one)[0])
    alone = method.adapt(state, [one]).solution
    torch.testing.assert_close(method.logits(alone, one)[0], method.logits(state.solution, one)[0])
    single = AdditiveState({}, method.combine(shots(), (1,)))
    assert method.adapt(single, [one]) is single, "a single class weighs 1"


def test_a_single_class_weighs_one() -> None:
    method = made()
    assert method.weights(method.combine(shots(), (2,)), noise(WIDTH, 30)).tolist() == [1.0]
