"""What is kept of a shot is an even draw of it, however many tiles it comes in."""

import pytest
import torch

from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.blocks import labelled_pixels
from napari_fewshot.models.blocks.labelled_pixels import bounded, collect_pixels, one_against_rest, pooled_mean
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.resampling import upsample
from napari_fewshot.models.blocks.standardise import standardisation
from tests.models.toys import LEVEL, in_halves, noise, pictures, random_pyramid, stripes, whole

PLAIN = MatchingLevels((4,), standardised=False)
FINE = MatchingLevels((1,), standardised=False)


def test_features_and_their_mean_are_those_of_the_upsampled_map() -> None:
    pyramid, labels = random_pyramid(1), stripes(0, 1, 255, 2)
    up = upsample(pyramid.features[LEVEL], LEVEL, pyramid.size)
    kept = collect_pixels([(pyramid, labels)], PLAIN, is_dense=False, most=50)
    assert sorted(kept.labels) == [0, 1, 2]
    for value, pixels in kept.labels.items():
        tile, ys, xs = pixels.at.T
        assert len(pixels) == len(set(zip(ys.tolist(), xs.tolist(), strict=True))) == 50
        assert (labels[ys, xs] == value).all() and not tile.any()
        torch.testing.assert_close(pixels.features, up[:, ys, xs].T, atol=1e-6, rtol=0)
        torch.testing.assert_close(pixels.mean, up[:, labels == value].mean(1), atol=1e-6, rtol=0)
        assert pixels.area == int((labels == value).sum())


def test_a_draw_from_tiles_is_as_even_as_one_from_the_whole() -> None:
    """Of a label that lies in one tile for the most part, most pixels are drawn there."""
    pyramid, _ = pictures(1)
    labels = torch.zeros(48, 64, dtype=torch.long)
    labels[:, :32] = 1
    labels[:12, 32:] = 1
    shot = whole(pyramid, labels)
    tiled = collect_pixels(in_halves(shot).parts(), FINE, is_dense=True, most=500)
    at_once = collect_pixels(shot.parts(), FINE, is_dense=True, most=500)
    assert tiled.labels[1].area == at_once.labels[1].area == 48 * 32 + 12 * 32
    torch.testing.assert_close(tiled.labels[1].mean, at_once.labels[1].mean)
    assert (tiled.labels[1].at[:, 0] == 0).float().mean().item() == pytest.approx(0.8, abs=0.06)
    some = tiled.labels[1].first(100)
    assert (some.at[:, 0] == 0).float().mean().item() == pytest.approx(0.8, abs=0.12)
    assert (tiled.labels[1].order.diff() >= 0).all()


def test_half_precision_is_kept_as_such_and_more_is_not_lost() -> None:
    pyramid = random_pyramid(1)
    half = FeaturePyramid({LEVEL: pyramid.features[LEVEL].half()}, pyramid.size)
    for given, dtype in ((half, torch.float16), (pyramid, torch.float64)):
        assert collect_pixels([(given, stripes(0, 1))], PLAIN, is_dense=True).labels[1].features.dtype == dtype


def test_unlabelled_pixels_are_nowhere() -> None:
    pyramid, labels = random_pyramid(1), torch.full((32, 40), 255)
    assert collect_pixels([(pyramid, labels)], PLAIN, is_dense=False).labels == {}


def test_every_shot_keeps_the_same_share_of_what_can_be_worked_with() -> None:
    shots = [collect_pixels([(random_pyramid(seed), stripes(0, 1))], PLAIN, is_dense=True) for seed in range(4)]
    few = bounded(shots, labels=2, most=100)
    assert [len(shot.labels[1]) for shot in few] == [25] * 4
    assert torch.equal(few[2].labels[1].features, shots[2].labels[1].features[:25])
    many_classes = bounded(shots, labels=1000)
    assert [len(shot.labels[1]) for shot in many_classes] == [6] * 4


def test_seen_from_one_class_all_else_is_background_and_weights_are_areas() -> None:
    dense = collect_pixels([(random_pyramid(1), stripes(0, 1, 1, 2))], PLAIN, is_dense=True, most=50)
    strokes = collect_pixels([(random_pyramid(2), stripes(255, 0, 1, 1))], PLAIN, is_dense=False, most=50)
    view = one_against_rest([dense, strokes], 1)
    assert view.weight[view.positive & (view.shot == 0)].sum().item() == pytest.approx(32 * 20)
    assert view.weight[~view.positive & (view.shot == 0)].sum().item() == pytest.approx(32 * 20)
    on_strokes = [view.weight[(view.positive == p) & (view.shot == 1)].sum().item() for p in (True, False)]
    assert on_strokes == pytest.approx([32 * 15, 32 * 15]), "how much is painted of each says nothing"
    assert len(view.features) == len(view.at) == 5 * 50


def test_a_label_that_no_shot_shows_has_a_zero_mean() -> None:
    shots = [collect_pixels([(random_pyramid(s), stripes(1, 255))], PLAIN, is_dense=False) for s in (1, 2)]
    assert not pooled_mean(shots, 0).any()
    expected = (shots[0].labels[1].mean + shots[1].labels[1].mean) / 2
    torch.testing.assert_close(pooled_mean(shots, 1), expected)


def test_levels_are_standardised_over_the_image_and_joined_on_the_finest() -> None:
    pyramid = FeaturePyramid({Level(2): 5 + 3 * noise(2, 16, 20), Level(4): noise(3, 8, 10, seed=1)}, (32, 40))
    cells, level = MatchingLevels((2, 4)).cells(pyramid)
    assert cells.shape == (5, 16, 20) and level == Level(2)
    for i, (own, f) in enumerate(pyramid.features.items()):
        scale, shift = standardisation(pyramid, own)
        standard = scale[:, None, None] * f + shift[:, None, None]
        expected = standard if own.stride == 2 else upsample(standard, Level(2), (16, 20))
        torch.testing.assert_close(cells[2 * i : 2 + 3 * i], expected)
    raw, _ = MatchingLevels((2, 4), standardised=False).cells(pyramid)
    torch.testing.assert_close(raw[:2], pyramid.features[Level(2)])


def test_a_shot_with_many_classes_and_features_keeps_fewer_pixels_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled_pixels, "_VALUES", 1200)
    kept = collect_pixels([(random_pyramid(1), stripes(0, 1, 2, 3))], PLAIN, is_dense=True)
    assert [len(pixels) for pixels in kept.labels.values()] == [50] * 4
