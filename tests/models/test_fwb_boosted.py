"""Boosting through two convolutions by algorithm 1 of FWB, and what its sheet promises."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from napari_fewshot.models.methods.base import SupportFeatures
from napari_fewshot.models.methods.fwb import FWB
from napari_fewshot.models.methods.fwb_boosted import Boosted, BoostedConfig, BoostedFWB, TwoLayers
from tests.models.toys import iou, pictures, toy_ious, whole

PAPER_LIKE = BoostedConfig(16, (1,), width=8, corrects=False)


def method_with(config: BoostedConfig = PAPER_LIKE) -> BoostedFWB:
    """One that looks at the similarity more than at anything else, so that it finds some of what it should."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = TwoLayers(config).double().eval()
        with torch.no_grad():
            for p in head.parameters():
                p.add_(0.1 * torch.randn_like(p))
            head.features.weight *= 0.3
            head.similarity.weight += 0.3
            head.classify.weight.abs_()
            method = BoostedFWB(config, head)
            cells, _ = method.levels.cells(pictures(1)[0])
            answers = head(torch.zeros(1, 48, 64, dtype=torch.float64), head.of_features(cells))
            head.classify.bias -= answers.median()
    return method


def shot(seed: int) -> SupportFeatures:
    """Of 32 x 40 pixels, which is few enough cells for maps to be kept as they are."""
    pyramid, labels = pictures(seed)
    ((level, features),) = pyramid.features.items()
    crop = features[:, 8:40, 8:48]
    return whole(type(pyramid)({level: crop}, (32, 40)), labels[8:40, 8:48], f"{seed}")


def of_one(method: BoostedFWB, *seeds: int) -> Boosted:
    (known,) = method.fit([shot(seed) for seed in seeds], (1,)).solution
    return known


def by_the_paper(head: nn.Module, cells: Tensor, f: Tensor, r: Tensor) -> Tensor:
    """Conv(sigma, F) on cells (D, h, w): logits (h, w)."""
    sigma = torch.cosine_similarity((f * r)[:, None, None].expand_as(cells), cells * r[:, None, None], dim=0)  # eq. 6
    weight = torch.cat([head.similarity.weight, head.features.weight], 1)
    hidden = F.conv2d(torch.cat([sigma[None], cells])[None], weight, head.features.bias, padding=1).relu()
    logits: Tensor = head.classify(hidden)[0, 0]
    return logits


def test_a_vote_is_that_of_algorithm_1() -> None:
    method, (query, _) = method_with(), pictures(9)
    known = of_one(method, 1)
    cells, _ = method.levels.cells(query)
    p = sum(
        rho * by_the_paper(method.head, cells, f, known.relevance).sigmoid()
        for f, rho in zip(known.vectors, known.confidence, strict=True)
    )
    expected = p / known.confidence.sum()
    torch.testing.assert_close(method.logits((known,), query)[0][0].sigmoid(), expected, atol=1e-5, rtol=0)


def loss_on(method: BoostedFWB, seed: int, f: Tensor, r: Tensor) -> Tensor:
    ((pyramid, labels),) = shot(seed).parts()
    logits = by_the_paper(method.head, method.levels.cells(pyramid)[0], f, r)
    inside = labels == 1
    return -0.5 * F.logsigmoid(logits[inside]).mean() - 0.5 * F.logsigmoid(-logits[~inside]).mean()


def test_gradients_come_back_through_both_convolutions() -> None:
    """The first step of Adam goes downhill by the rate in every direction; the slope is autograd's, over both shots."""
    method = method_with()
    known = of_one(method, 1, 2)
    f = known.vectors[0].clone().requires_grad_()
    loss = loss_on(method, 1, f, known.relevance) + loss_on(method, 2, f, known.relevance)  # eq. 11
    assert known.losses[0] == pytest.approx(loss.item(), rel=1e-6)
    (slope,) = torch.autograd.grad(loss, f)
    moved = known.vectors[1] - known.vectors[0]
    telling = slope.abs() > 1e-6
    assert telling.sum() >= 8
    torch.testing.assert_close(moved[telling], -0.01 * slope[telling].sign(), atol=2e-4, rtol=0)


def test_small_steps_never_raise_the_loss_on_the_shots() -> None:
    known = of_one(method_with(BoostedConfig(16, (1,), width=8, corrects=False, rate=1e-3, experts=20)), 1, 2)
    assert all(after <= before for before, after in pairwise(known.losses))
    assert known.losses[-1] < known.losses[0]


def test_experts_are_judged_by_the_shots_alone() -> None:
    method = method_with()
    known = of_one(method, 1)
    assert known.confidence.min() > 0.1
    ((pyramid, labels),) = shot(1).parts()
    cells, _ = method.levels.cells(pyramid)
    for f, rho in zip(known.vectors, known.confidence, strict=True):
        guess = (by_the_paper(method.head, cells, f, known.relevance) > 0).long()
        assert rho.item() == pytest.approx(iou(guess, labels), abs=1e-6)


def test_nothing_of_a_query_is_left_in_what_was_learnt() -> None:
    method = method_with()
    state = method.fit([shot(1)], (1,))
    first = method.predict(state, pictures(9)[0])
    method.predict(state, pictures(10)[0])
    assert torch.equal(method.predict(state, pictures(9)[0]), first)


def test_one_expert_is_the_average_and_ten_begin_with_it() -> None:
    one, ten = of_one(method_with(BoostedConfig(16, (1,), width=8, experts=1)), 1), of_one(method_with(), 1)
    assert len(one.vectors) == 1 and len(ten.vectors) == 10
    torch.testing.assert_close(ten.vectors[:1], one.vectors)


def test_while_the_convolutions_are_trained_nothing_is_boosted() -> None:
    method = method_with()
    method.head.train()
    assert len(of_one(method, 1).vectors) == 1


def test_experts_that_are_all_useless_vote_alike() -> None:
    method, (query, _) = method_with(), pictures(9)
    known = of_one(method, 1)
    useless, alike = (replace(known, confidence=make(10)) for make in (torch.zeros, torch.ones))
    torch.testing.assert_close(method.logits((useless,), query)[0], method.logits((alike,), query)[0])


def test_it_learns_in_inference_mode_as_well_and_the_same() -> None:
    method, (query, _) = method_with(), pictures(9)
    expected = method.predict(method.fit([shot(1)], (1,)), query)
    with torch.inference_mode():
        inside = method.predict(method.fit([shot(1)], (1,)), query)
    torch.testing.assert_close(inside, expected)


def test_it_learns_with_a_head_that_was_moved_in_inference_mode() -> None:
    """As to a graphics card, when the first features come from there."""
    expected = of_one(method_with(), 1)
    with torch.inference_mode():
        moved = of_one(method_with(), 1)
    torch.testing.assert_close(moved.vectors, expected.vectors)
    torch.testing.assert_close(moved.confidence, expected.confidence)


def test_untrained_it_finds_things_as_it_does_without_training() -> None:
    method = BoostedFWB(BoostedConfig(16, (1,), width=8))
    method.head.double().eval()
    assert min(toy_ious(method, shots=2)) > 0.95
    assert min(toy_ious(FWB(method.levels), shots=2)) > 0.95


def test_the_head_of_the_paper_is_two_convolutions() -> None:
    with torch.device("meta"):
        head = TwoLayers(BoostedConfig.paper())
    assert sum(p.numel() for p in head.parameters()) == (2049 * 9 + 1) * 128 + 128 + 1
