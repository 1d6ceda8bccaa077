"""ASGNet: superpixels and the allocation of their prototypes, by equations and loops."""

import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from napari_fewshot.models.blocks import superpixels
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.superpixels import association, spread_seeds, superpixel_centroids
from napari_fewshot.models.methods.asgnet import ASGNet
from tests.models.toys import LEVEL, noise, pictures, random_pyramid, random_shot, scaled, stripes, toy_ious, whole

PLAIN_LEVELS = MatchingLevels((4,), standardised=False)
PLAIN = ASGNet(PLAIN_LEVELS)
FINE = MatchingLevels((1,))


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_round_equals_loops(exclusive: bool) -> None:
    features, places, weights = noise(25, 4), 10 * noise(25, 2, seed=1), noise(25, seed=2).abs()
    seeds = torch.tensor([3, 7, 20])
    expected = torch.zeros(3, 4, dtype=torch.float64)
    totals = torch.zeros(3, dtype=torch.float64)
    for p in range(25):
        odds = []
        for s in seeds:
            d_f, d_s = (features[p] - features[s]).norm(), (places[p] - places[s]).norm()
            squared = d_f**2 + (d_s / 10) ** 2  # eq. 1
            odds.append(torch.exp(-10 * squared) if exclusive else torch.exp(-squared))  # eq. 2
        for i, q in enumerate(odds):
            q = q / sum(odds) if exclusive else q
            expected[i] += weights[p] * q * features[p]
            totals[i] += weights[p] * q
    found = superpixel_centroids(features, places, weights, seeds, rounds=1, exclusive=exclusive)
    torch.testing.assert_close(found, expected / totals[:, None])  # eq. 3


def test_what_belongs_to_superpixels_adds_up_to_one() -> None:
    q = association(noise(30, 5), noise(4, 5, seed=1))
    torch.testing.assert_close(q.sum(1), torch.ones(30, dtype=torch.float64))


def test_a_single_superpixel_is_masked_average_pooling() -> None:
    features, weights = noise(25, 4), noise(25, seed=2).abs()
    found = superpixel_centroids(features, noise(25, 2), weights, torch.tensor([5]))
    torch.testing.assert_close(found[0], weights @ features / weights.sum())
    one = ASGNet(PLAIN_LEVELS, most=1)
    shot = random_shot(1, stripes(0, 1))
    x = torch.nn.functional.normalize(one.summarise(shot).labels[1].features, dim=1)
    mean = torch.nn.functional.normalize(x.mean(0), dim=0)
    torch.testing.assert_close(one.fit([shot], (1,)).solution[0].prototypes[0], mean)


@pytest.mark.parametrize("exclusive", [True, False])
def test_centroids_lie_among_the_pixels(exclusive: bool) -> None:
    features = noise(60, 4)
    found = superpixel_centroids(features, noise(60, 2), torch.ones(60), torch.arange(5), exclusive=exclusive)
    directions = noise(100, 4, seed=9)
    assert ((directions @ found.T).amax(1) <= (directions @ features.T).amax(1)).all()


def test_alone_each_superpixel_ends_at_the_middle_and_together_they_stay_apart() -> None:
    """Why Q is made a softmax: where features differ little, the Q of the paper makes all centroids the same."""
    halves = torch.where(torch.arange(80)[:, None] < 40, 0.3, -0.3) * torch.ones(80, 4, dtype=torch.float64)
    places, seeds = torch.zeros(80, 2), torch.tensor([0, 79])
    apart = {
        exclusive: superpixel_centroids(halves, places, torch.ones(80), seeds, 30, exclusive).diff(dim=0).norm().item()
        for exclusive in (True, False)
    }
    assert apart[False] < 0.01 and apart[True] > 1


def test_the_first_seed_is_deepest_inside_and_the_next_is_farthest_from_it_and_the_border() -> None:
    mask = torch.zeros(30, 40, dtype=torch.bool)
    mask[3:14, 4:15] = True
    mask[18:27, 25:36] = True
    inside, outside = mask.nonzero(), (~mask).nonzero()
    chosen = spread_seeds(inside, outside, 3)
    depth = torch.from_numpy(distance_transform_edt(mask.numpy()))
    assert inside[chosen[0]].tolist() == (depth == depth.max()).nonzero()[0].tolist()
    seeded = mask.clone()
    for i in range(1, 3):  # as in MaskSLIC: what was chosen is outside from now on
        seeded[tuple(inside[chosen[i - 1]])] = False
        depth = torch.from_numpy(distance_transform_edt(seeded.numpy()))
        assert depth[tuple(inside[chosen[i]])] == depth.max()


def test_without_any_outside_seeds_begin_in_the_middle() -> None:
    places = torch.stack(torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij"), -1).view(-1, 2)
    chosen = spread_seeds(places, places[:0], 2)
    assert places[chosen[0]].tolist() == [4, 4]
    assert places[chosen[1]].tolist() in [[0, 0], [0, 8], [8, 0], [8, 8]]
    assert len(spread_seeds(places[:3], places[:0], 5)) == 3


@pytest.mark.parametrize(("cells", "number"), [(20, 1), (149, 1), (260, 3), (800, 5)])
def test_large_things_have_more_superpixels(cells: int, number: int) -> None:
    pyramid, _ = pictures(1)
    labels = torch.zeros(48, 64, dtype=torch.long)
    labels.view(-1)[:cells] = 1
    state = ASGNet(FINE).fit([whole(pyramid, labels)], (1,))
    assert len(state.solution[0].prototypes) == number  # eq. 7


def test_prototypes_of_all_shots_are_put_side_by_side() -> None:
    shots = [whole(*pictures(seed), f"{seed}") for seed in (1, 2)]  # type: ignore[arg-type]
    method = ASGNet(FINE)
    each = [method.fit([shot], (1,)).solution[0].prototypes for shot in shots]
    torch.testing.assert_close(method.fit(shots, (1,)).solution[0].prototypes, torch.cat(each))


def test_every_cell_is_allocated_the_most_similar_prototype() -> None:
    method = ASGNet(FINE)
    state, (query, _) = method.fit([whole(*pictures(1))], (1,)), pictures(2)  # type: ignore[arg-type]
    (((guide, feature, p),), _) = method.allocate(state, query)
    prototypes, cells = state.solution[0].prototypes, FINE.cells(query)[0]
    assert len(prototypes) > 2
    for y, x in [(0, 0), (10, 20), (30, 40), (47, 63), (24, 32)]:
        cosines = [float(s @ cells[:, y, x] / s.norm() / cells[:, y, x].norm()) for s in prototypes]  # eq. 4
        best = cosines.index(max(cosines))  # eq. 5
        assert guide[y, x] == best
        assert torch.equal(feature[:, y, x], prototypes[best])
        assert p[y, x].item() == pytest.approx(sum(cosines) / len(cosines))
    assert p.abs().max() <= 1


def test_parts_of_a_thing_get_prototypes_of_their_own() -> None:
    pyramid, labels = pictures(1)
    method = ASGNet(FINE)
    prototypes = method.fit([whole(pyramid, labels)], (1,)).solution[0].prototypes
    cells, _ = FINE.cells(pyramid)
    inside = labels == 1
    rows = inside.nonzero()[:, 0]
    middle = (rows.min() + rows.max() + 1) // 2
    halves: list[Tensor] = [
        cells[:, inside & side].mean(1)
        for side in (torch.arange(48)[:, None] < middle, torch.arange(48)[:, None] >= middle)
    ]
    for half in halves:
        assert (prototypes @ half / half.norm()).max() > 0.95


def test_the_length_of_features_is_irrelevant() -> None:
    state, query = PLAIN.fit([random_shot(1, stripes(0, 1))], (1,)), random_pyramid(9)
    torch.testing.assert_close(PLAIN.predict(state, scaled(query, 10)), PLAIN.predict(state, query))
    assert query.features[LEVEL].shape == (6, 8, 10)


@pytest.mark.parametrize("relevance", [False, True])
def test_things_are_found_with_masks_and_with_strokes(relevance: bool) -> None:
    method = ASGNet(FINE, relevance=relevance)
    assert min(toy_ious(method)) > 0.95
    assert min(toy_ious(method, shots=5, classes=2)) > 0.95
    assert min(toy_ious(method, strokes=True)) > 0.95


def test_compactness_is_that_of_the_paper() -> None:
    assert superpixels.COMPACTNESS == 10 and superpixels.ROUNDS == 5
