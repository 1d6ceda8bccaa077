"""The prior of PFENet by its equations, and what is proposed of it."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import napari_fewshot.models.blocks.nearest as nearest
from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.blocks.labelled_pixels import OneAgainstRest
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.prior import prior_map, raw_prior
from napari_fewshot.models.methods.pfenet import PFENet, _prior_on_shots
from tests.models.toys import (
    iou,
    noise,
    pictures,
    random_pyramid,
    random_shot,
    scaled,
    stripes,
    toy_ious,
    whole,
)

FINE = PFENet(MatchingLevels((1,)))
PLAIN = PFENet(MatchingLevels((4,), standardised=False))


def by_the_paper(query: Tensor, support: Tensor, mask: Tensor) -> Tensor:
    """Eqs. 1 to 5 on maps (D, h, w), pixel by pixel, the masked-out ones as zero vectors."""
    h, w = query.shape[1:]
    best = torch.zeros(h, w, dtype=torch.float64)
    masked = support * mask  # eq. 1
    for y in range(h):
        for x in range(w):
            cosines = []
            for v in range(h):
                for u in range(w):
                    a, b = query[:, y, x], masked[:, v, u]
                    cosines.append((a @ b / (a.norm() * b.norm()).clamp_min(1e-9)).item())  # eq. 2
            best[y, x] = max(cosines)  # eq. 3
    return (best - best.min()) / (best.max() - best.min() + 1e-7)  # eq. 5


def bank_of(support: Tensor, mask: Tensor) -> Tensor:
    return F.normalize(support[:, mask.bool()].T, dim=1)


def test_the_prior_equals_the_paper_pixel_by_pixel() -> None:
    query, masks = noise(5, 6, 7), [noise(6, 7, seed=s) > 0.3 for s in (1, 2)]
    supports = [noise(5, 6, 7, seed=s) for s in (3, 4)]
    expected = [by_the_paper(query, support, mask) for support, mask in zip(supports, masks, strict=True)]
    banks = [bank_of(support, mask) for support, mask in zip(supports, masks, strict=True)]
    for bank, one in zip(banks, expected, strict=True):
        torch.testing.assert_close(prior_map(query, [bank], (6, 7)), one)
    torch.testing.assert_close(prior_map(query, banks, (6, 7)), torch.stack(expected).mean(0))


def test_it_lies_between_zero_and_one_and_is_one_where_query_and_support_are_the_same() -> None:
    support, mask = noise(5, 6, 7), noise(6, 7, seed=1) > 0
    prior = prior_map(support, [bank_of(support, mask)], (6, 7))
    assert prior.min() >= 0 and prior.max() <= 1
    assert prior[mask].min() > 1 - 1e-6


def test_an_empty_mask_gives_nothing() -> None:
    assert not prior_map(noise(5, 6, 7), [torch.zeros(0, 5, dtype=torch.float64)], (6, 7)).any()


def test_length_of_features_and_order_of_pixels_are_irrelevant() -> None:
    query, bank = noise(5, 6, 7), bank_of(noise(5, 6, 7, seed=1), torch.ones(6, 7))
    expected = prior_map(query, [bank], (6, 7))
    torch.testing.assert_close(prior_map(10 * query, [bank.flip(0)], (6, 7)), expected)


def test_more_pixels_never_lower_the_raw_prior() -> None:
    query, bank = noise(5, 6, 7), bank_of(noise(5, 6, 7, seed=1), torch.ones(6, 7))
    before = raw_prior(query, [bank[:3]])
    for n in (4, 10, 42):
        after = raw_prior(query, [bank[:n]])
        assert (after >= before - 1e-12).all()
        before = after


def test_padding_does_not_stretch() -> None:
    query, bank = noise(5, 6, 7), bank_of(noise(5, 6, 7, seed=1), torch.ones(6, 7))
    padded = F.pad(query, (0, 2, 0, 1))
    padded[:, :6, 7:] = bank[0][:, None, None]  # a perfect match, in padding
    torch.testing.assert_close(prior_map(padded, [bank], (6, 7))[:6, :7], prior_map(query, [bank], (6, 7)))


def test_few_cosines_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    query, bank = noise(5, 6, 7), bank_of(noise(5, 6, 7, seed=1), torch.ones(6, 7))
    expected, sizes, real = prior_map(query, [bank], (6, 7)), [], F.normalize

    def counting(x: Tensor, **options: float) -> Tensor:
        sizes.append(x.shape[1])
        return real(x, **options)

    monkeypatch.setitem(nearest._HELD, "cpu", 5 * len(bank))
    monkeypatch.setattr(nearest.F, "normalize", counting)
    torch.testing.assert_close(prior_map(query, [bank], (6, 7)), expected)
    assert max(sizes) == 5 and sum(sizes) == 42


def test_the_method_gives_the_prior_of_every_class_at_the_size_of_the_cells() -> None:
    state = PLAIN.fit([random_shot(1, stripes(0, 1, 2))], (1, 2))
    prior, level = PLAIN.prior(state, random_pyramid(9, (30, 37)))
    assert prior.shape == (2, 8, 10) and level == Level(4)
    assert prior.amin((1, 2)).tolist() == [0, 0]
    assert prior.amax((1, 2)).tolist() == pytest.approx([1, 1], abs=1e-6)


def test_on_an_image_without_the_class_nothing_is_proposed_though_its_prior_reaches_one() -> None:
    shots = [whole(*pictures(seed), f"{seed}") for seed in (1, 2)]  # type: ignore[arg-type]
    state = FINE.fit(shots, (1,))
    empty, labels = pictures(3)
    (features,) = empty.features.values()
    ground = torch.where((labels == 0)[None], features, features[:, :1, :1])
    without = FeaturePyramid({Level(1): ground}, (48, 64), {Level(1): _statistics(features)})
    assert FINE.prior(state, without)[0].max() > 0.99
    assert (FINE.predict(state, without).argmax(0) == 1).double().mean() < 0.01


def _statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    return features.flatten(1).mean(1), features.flatten(1).std(1, correction=0)


def test_no_pixel_is_compared_with_itself_when_a_threshold_is_found() -> None:
    x = F.normalize(noise(40, 5), dim=1)
    positive = torch.arange(40) % 2 == 0
    at = torch.stack([torch.zeros(40, dtype=torch.long), torch.arange(40), torch.zeros(40, dtype=torch.long)], 1)
    weight = torch.ones(40, dtype=torch.float64)
    two = OneAgainstRest(x, positive, weight, (torch.arange(40) >= 20).long(), at)
    prior = _prior_on_shots(x, two, far=6)
    for i in range(40):
        others = [j for j in range(40) if positive[j] and (j >= 20) != (i >= 20)]
        assert prior[i].item() == pytest.approx(max((x[i] @ x[j]).item() for j in others))
    one = OneAgainstRest(x, positive, weight, torch.zeros(40, dtype=torch.long), at)
    prior = _prior_on_shots(x, one, far=15)
    for i in range(40):
        far = min(15, max(i, 38 - i) / 2) if positive[i] else -1  # at least half as far as the farthest of the class
        others = [j for j in range(0, 40, 2) if abs(i - j) >= far]
        assert prior[i].item() == pytest.approx(max((x[i] @ x[j]).item() for j in others)), i


def test_what_lies_in_another_tile_is_far() -> None:
    x = F.normalize(noise(3, 5), dim=1)
    at = torch.tensor([[0, 5, 5], [0, 5, 6], [1, 5, 5]])
    view = OneAgainstRest(x, torch.ones(3, dtype=torch.bool), torch.ones(3), torch.zeros(3, dtype=torch.long), at)
    prior = _prior_on_shots(x, view, far=100)
    assert prior[2].item() == pytest.approx(max((x[2] @ x[0]).item(), (x[2] @ x[1]).item()))


@pytest.mark.parametrize("relevance", [False, True])
def test_things_are_found_with_masks_and_with_strokes(relevance: bool) -> None:
    method = PFENet(MatchingLevels((1,)), relevance)
    assert min(toy_ious(method)) > 0.95
    assert min(toy_ious(method, shots=5, classes=2)) > 0.95
    assert min(toy_ious(method, strokes=True)) > 0.95


def test_proposals_do_not_know_how_long_features_are() -> None:
    state, query = PLAIN.fit([random_shot(1, stripes(0, 1))], (1,)), random_pyramid(9)
    torch.testing.assert_close(PLAIN.predict(state, scaled(query, 10)), PLAIN.predict(state, query))


def test_a_single_painted_pixel_is_found_again() -> None:
    pyramid, labels = pictures(1)
    dot = torch.zeros_like(labels)
    dot[tuple((labels == 1).nonzero()[100])] = 1
    guess = FINE.predict(FINE.fit([whole(pyramid, dot)], (1,)), pyramid).argmax(0)
    assert iou(guess, dot) > 0
