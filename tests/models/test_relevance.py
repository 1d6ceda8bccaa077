"""The relevance of features solves what it says, and cosines heed it."""

import pytest
import torch

from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, collect_pixels
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.relevance import (
    feature_relevance,
    foreground_minus_background,
    mean_of_rest,
    shared_relevance,
    weighted,
)
from napari_fewshot.models.blocks.similarity import cosine_map
from tests.models.toys import noise, random_pyramid, stripes

PLAIN = MatchingLevels((4,), standardised=False)


def kept(seed: int, *values: int, dense: bool = True) -> ShotPixels:
    return collect_pixels([(random_pyramid(seed), stripes(*values))], PLAIN, dense)


def test_relevance_has_length_one_and_no_other_does_better() -> None:
    phi = noise(30)
    r = feature_relevance(phi)
    assert r.norm().item() == pytest.approx(1)
    assert (phi @ r).item() == pytest.approx(phi.norm().item())
    others = torch.nn.functional.normalize(noise(200, 30, seed=1), dim=1)
    assert (others @ phi).max() <= phi @ r


def test_without_any_difference_all_features_count_alike() -> None:
    r = feature_relevance(torch.zeros(16, dtype=torch.float64))
    assert r.tolist() == pytest.approx([0.25] * 16)
    cells, prototypes = noise(16, 5, 4), noise(3, 16, seed=1)
    torch.testing.assert_close(cosine_map(cells, prototypes, r), cosine_map(cells, prototypes))


def test_weighted_cosine_is_that_of_weighted_features_whatever_sign_and_length_of_the_weights() -> None:
    cells, prototypes, r = noise(6, 5, 4), noise(3, 6, seed=1), noise(3, 6, seed=2)
    for m in range(3):
        expected = torch.cosine_similarity(
            (r[m, :, None, None] * cells), (r[m] * prototypes[m])[:, None, None].expand(6, 5, 4), dim=0
        )
        for changed in (r, -r, 1e3 * r, 1e-3 * r):
            torch.testing.assert_close(cosine_map(cells, prototypes, changed)[m], expected)
        torch.testing.assert_close(cosine_map(cells, prototypes, r[m])[m], expected)


def test_a_feature_that_is_the_same_inside_and_outside_does_not_count() -> None:
    r = feature_relevance(torch.tensor([1.0, 0, -2, 0], dtype=torch.float64))
    cells, prototypes = noise(4, 5, 4), noise(2, 4, seed=1)
    changed = cells.clone()
    changed[[1, 3]] += 100
    torch.testing.assert_close(cosine_map(changed, prototypes, r), cosine_map(cells, prototypes, r))


def test_differences_are_added_up_over_the_shots_that_have_one() -> None:
    first, second = kept(1, 0, 1, 2), kept(2, 0, 0, 1)
    means = [
        shot.labels[1].mean
        - sum(p.area * p.mean for v, p in shot.labels.items() if v != 1) / (1280 - shot.labels[1].area)
        for shot in (first, second)
    ]
    found = foreground_minus_background([first, second, kept(3, 0), kept(4, 1, 255, dense=False)], 1)
    torch.testing.assert_close(found, means[0] + means[1])
    rest = mean_of_rest(kept(1, 0, 1, 2, 2, 255, dense=False), 1)
    strokes = kept(1, 0, 1, 2, 2, 255, dense=False).labels
    assert rest is not None
    torch.testing.assert_close(rest, (strokes[0].mean + strokes[2].mean) / 2)


def test_a_class_and_its_background_may_be_on_different_shots_or_there_is_none() -> None:
    only, nothing = kept(1, 1, 255, dense=False), kept(2, 0)
    found = foreground_minus_background([only, nothing], 1)
    torch.testing.assert_close(found, only.labels[1].mean - nothing.labels[0].mean)
    assert not foreground_minus_background([only], 1).any()


def test_several_classes_share_the_root_of_the_mean_square_of_theirs() -> None:
    shots = [kept(1, 0, 1, 2)]
    each = [feature_relevance(foreground_minus_background(shots, c)) for c in (1, 2)]
    shared = shared_relevance(shots, (1, 2))
    torch.testing.assert_close(shared, ((each[0] ** 2 + each[1] ** 2) / 2).sqrt())
    assert shared.norm().item() == pytest.approx(1)
    torch.testing.assert_close(shared_relevance(shots, (2,)), each[1].abs())
    cells = noise(6, 5, 4)
    torch.testing.assert_close(weighted(cells, shared), cells * shared[:, None, None])
    assert weighted(cells, None) is cells
