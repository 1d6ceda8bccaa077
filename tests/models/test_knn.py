"""Nearest neighbours against loops, and within bounds."""

import pytest
import torch

import napari_fewshot.models.blocks.nearest as nearest
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.nearest import nearest_cosine
from napari_fewshot.models.blocks.resampling import upsample
from napari_fewshot.models.methods.knn import NearestNeighbours
from tests.models.toys import (
    LEVEL,
    noise,
    permuted,
    pictures,
    random_pyramid,
    random_shot,
    scaled,
    stripes,
    toy_ious,
    whole,
)

PLAIN = NearestNeighbours(MatchingLevels((4,), standardised=False))


def test_it_equals_loops_over_all_pixels() -> None:
    shots = [random_shot(1, stripes(0, 255, 1)), random_shot(2, stripes(2, 0, 1))]
    state = PLAIN.fit(shots, (1, 2))
    query = random_pyramid(9)
    banks: dict[int, list[torch.Tensor]] = {0: [], 1: [], 2: []}
    for shot in shots:
        ((pyramid, labels),) = shot.parts()
        up = upsample(pyramid.features[LEVEL], LEVEL, pyramid.size)
        for y in range(32):
            for x in range(40):
                if labels[y, x] != 255:
                    banks[int(labels[y, x])].append(up[:, y, x])
    logits = torch.zeros(3, 8, 10, dtype=torch.float64)
    for y in range(8):
        for x in range(10):
            cell = query.features[LEVEL][:, y, x]
            for value, bank in banks.items():
                cosines = torch.cosine_similarity(torch.stack(bank), cell[None], dim=1)
                logits[value, y, x] = 20 * cosines.sort(descending=True).values[:5].mean()
    expected = upsample(logits, LEVEL, query.size).softmax(0)
    torch.testing.assert_close(PLAIN.predict(state, query), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("k", [1, 3, 100])
def test_the_nearest_are_found_whatever_is_held_at_once(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cells, bank = noise(5, 7, 9), torch.nn.functional.normalize(noise(20, 5, seed=1), dim=1)
    expected = nearest_cosine(cells, bank, k)
    assert expected.shape == (7, 9) and expected.abs().max() <= 1 + 1e-12
    monkeypatch.setitem(nearest._HELD, "cpu", 64)
    torch.testing.assert_close(nearest_cosine(cells, bank, k), expected)
    assert not nearest_cosine(cells, bank[:0], k).any()


def test_no_more_is_held_than_was_planned() -> None:
    many = NearestNeighbours(MatchingLevels((1,)))
    pyramid, labels = pictures(1)
    shots = [whole(pyramid, labels.roll(i, 0), f"{i:02}") for i in range(20)]
    assert all(len(bank) <= 2000 for bank in many.fit(shots, (1,)).solution.pixels)


@pytest.mark.parametrize("relevance", [False, True])
def test_things_are_found_with_masks_and_with_strokes(relevance: bool) -> None:
    method = NearestNeighbours(MatchingLevels((1,)), relevance=relevance)
    assert min(toy_ious(method)) > 0.95
    assert min(toy_ious(method, shots=5, classes=2)) > 0.95
    assert min(toy_ious(method, strokes=True)) > 0.95


def test_the_order_of_features_and_their_scale_are_irrelevant() -> None:
    shots, query = [random_shot(1, stripes(0, 1))], random_pyramid(9)
    expected = PLAIN.predict(PLAIN.fit(shots, (1,)), query)
    columns = torch.tensor([3, 1, 5, 0, 2, 4])
    ((changed, _),) = permuted([whole(query, stripes(0))], columns)[0].parts()
    torch.testing.assert_close(PLAIN.predict(PLAIN.fit(permuted(shots, columns), (1,)), changed), expected)
    torch.testing.assert_close(PLAIN.predict(PLAIN.fit(shots, (1,)), scaled(query, 10)), expected)


def test_a_pixel_that_was_painted_is_its_own_nearest() -> None:
    pyramid, labels = pictures(1)
    only = NearestNeighbours(MatchingLevels((1,)), nearest=1)
    p = only.predict(only.fit([whole(pyramid, labels)], (1,)), pyramid)
    assert (p.argmax(0) == labels).double().mean() > 0.999


def test_changing_the_shots_equals_learning_again_to_the_last_bit() -> None:
    a, b, c = (random_shot(seed, stripes(0, 1, 2)) for seed in (1, 2, 3))
    stepwise = PLAIN.update(PLAIN.fit([a, b], (1, 2)), [c], ["2"], (1, 2))
    at_once = PLAIN.fit([a, c], (1, 2))
    assert all(torch.equal(x, y) for x, y in zip(stepwise.solution.pixels, at_once.solution.pixels, strict=True))
