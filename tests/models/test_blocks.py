"""Shared parts against slow, obviously right twins."""

import math

import pytest
import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.blocks.pixels import choose_pixels
from napari_fewshot.models.blocks.pooling import masked_pool
from napari_fewshot.models.blocks.quality import Quality, most_probable
from napari_fewshot.models.blocks.resampling import merge_levels, sample, to_cells, upsample
from napari_fewshot.models.blocks.similarity import cosine_map
from napari_fewshot.models.blocks.standardise import feature_statistics, standardisation

LEVELS = [Level(1), Level(2), Level(8), Level(2, "corner"), Level(8, "corner")]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def interpolated(maps: Tensor, level: Level, y: int, x: int) -> Tensor:
    """Bilinear value at one pixel, by the definition."""

    def around(at: int, cells: int) -> tuple[int, int, float]:
        position = min(max((at - level.origin) / level.stride, 0), cells - 1)
        low = math.floor(position)
        return low, min(low + 1, cells - 1), position - low

    y0, y1, wy = around(y, maps.shape[1])
    x0, x1, wx = around(x, maps.shape[2])
    top = (1 - wx) * maps[:, y0, x0] + wx * maps[:, y0, x1]
    bottom = (1 - wx) * maps[:, y1, x0] + wx * maps[:, y1, x1]
    return (1 - wy) * top + wy * bottom


@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_upsampling_is_bilinear_between_cell_centres(level: Level) -> None:
    size = (27, 38)
    maps = noise(3, -(-size[0] // level.stride), -(-size[1] // level.stride))
    up = upsample(maps, level, size)
    assert up.shape == (3, *size)
    for y, x in [(0, 0), (1, 2), (13, 20), (26, 37), (26, 0)]:
        torch.testing.assert_close(up[:, y, x], interpolated(maps, level, y, x), atol=1e-9, rtol=0)


@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_sampling_some_pixels_equals_upsampling_all(level: Level) -> None:
    size = (27, 38)
    maps = noise(3, -(-size[0] // level.stride), -(-size[1] // level.stride)).float()
    ys, xs = torch.meshgrid(torch.arange(27), torch.arange(38), indexing="ij")
    sampled = sample(maps, level, ys.flatten(), xs.flatten())
    torch.testing.assert_close(sampled.T.unflatten(1, size), upsample(maps, level, size), atol=1e-5, rtol=0)


@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_distributing_to_cells_is_the_transpose_of_upsampling(level: Level) -> None:
    size, cells = (27, 38), (-(-27 // level.stride), -(-38 // level.stride))
    maps, pixels = noise(2, *cells), noise(2, *size, seed=1)
    weights = to_cells(pixels, level, cells)
    torch.testing.assert_close(
        (upsample(maps, level, size) * pixels).sum(), (maps * weights).sum(), atol=1e-6, rtol=1e-6
    )


def test_a_bright_dot_is_not_shifted_by_either_alignment() -> None:
    for level in (Level(8), Level(8, "corner")):
        maps = torch.zeros(1, 6, 6)
        maps[0, 3, 2] = 1
        up = upsample(maps, level, (41, 41))[0]
        ys, xs = torch.meshgrid(torch.arange(41.0), torch.arange(41.0), indexing="ij")
        centre = ((up * ys).sum() / up.sum()).item(), ((up * xs).sum() / up.sum()).item()
        assert centre == pytest.approx((3 * 8 + level.origin, 2 * 8 + level.origin), abs=0.01)


def test_merged_levels_equal_each_level_upsampled_to_the_finest() -> None:
    for alignment in ("centre", "corner"):
        fine, coarse = Level(4, alignment), Level(8, alignment)
        pyramid = FeaturePyramid({fine: noise(2, 8, 10), coarse: noise(3, 4, 5)}, (32, 40))
        merged, level = merge_levels(pyramid, (4, 8))
        assert level == fine and merged.shape == (5, 8, 10)
        torch.testing.assert_close(merged[:2], pyramid.features[fine])
        y, x = 3, 6  # a cell of the fine level lies at this pixel:
        at = (fine.origin + 4 * y, fine.origin + 4 * x)
        expected = [c.item() for c in interpolated(pyramid.features[coarse], coarse, *at)]  # type: ignore[arg-type]
        assert merged[2:, y, x].tolist() == pytest.approx(expected)


def test_pooling_equals_a_loop_over_the_pixels_of_the_upsampled_map() -> None:
    level = Level(4)
    features = noise(3, 5, 6)
    mask = noise(1, 20, 24, seed=2) > 1
    means, mass = masked_pool(features, level, mask)
    values = [interpolated(features, level, int(y), int(x)) for _, y, x in mask.nonzero()]
    torch.testing.assert_close(means[0], torch.stack(values).mean(0), atol=1e-6, rtol=0)
    assert mass.item() == pytest.approx(int(mask.sum()))


def test_pooling_knows_an_empty_mask_and_survives_one_pixel() -> None:
    features = noise(3, 5, 6)
    masks = torch.zeros(2, 20, 24)
    masks[1, 7, 11] = 1
    means, mass = masked_pool(features, Level(4), masks)
    assert mass.tolist() == pytest.approx([0, 1])
    assert means[0].tolist() == [0, 0, 0]
    torch.testing.assert_close(means[1], interpolated(features, Level(4), 7, 11), atol=1e-6, rtol=0)


def test_pooling_constant_features_gives_them_back() -> None:
    features = torch.tensor([2.0, -3.0])[:, None, None].expand(2, 4, 4)
    means, _ = masked_pool(features, Level(8), torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert means[0].tolist() == pytest.approx([2, -3])


def test_cosine_is_one_for_parallel_features_and_ignores_their_length() -> None:
    prototype = noise(1, 8)
    features = torch.stack([prototype[0] * scale for scale in (0.1, 1, 100)], 1)[:, :, None]
    torch.testing.assert_close(cosine_map(features, prototype), torch.ones(1, 3, 1, dtype=torch.float64))
    loop = torch.nn.functional.cosine_similarity(noise(8, 5, 4), prototype[0][:, None, None], dim=0)
    torch.testing.assert_close(cosine_map(noise(8, 5, 4), prototype)[0], loop)
    assert cosine_map(noise(8, 5, 4), torch.zeros(1, 8, dtype=torch.float64)).abs().max() == 0


def quality_of(probabilities: Tensor, parts: int = 1) -> Quality:
    quality = Quality(range(len(probabilities)))
    for part in probabilities.chunk(parts, 1):
        quality.add(part, *most_probable(part, range(len(part))))
    return quality


@pytest.mark.parametrize("classes", [1, 3])
def test_the_most_probable_labels_are_those_of_argmax_and_the_first_of_equals_wins(classes: int) -> None:
    p = torch.rand(1 + classes, 20, 30, generator=torch.Generator().manual_seed(0)).mul(4).round()  # many equals
    values = torch.tensor([0, 7, 3, 254][: 1 + classes], dtype=torch.int32)
    labels, surest = most_probable(p, values.tolist())
    expected = torch.from_numpy(p.numpy().argmax(0))  # numpy promises the first
    assert torch.equal(labels, values[expected])
    assert torch.equal(surest, p.amax(0))


def test_expected_iou_is_the_mean_of_simulated_ious() -> None:
    """If the sharpened probabilities are right; for two classes, each drawn for itself."""
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(3, 60, 60, generator=generator) ** 2
    p /= p.sum(0)
    sharp = p.square() / p.square().sum(0)
    found = p.argmax(0)
    ious = []
    for _ in range(200):
        truth = (torch.rand(60, 60, generator=generator) > sharp.cumsum(0)[:2]).sum(0)
        masks = [(found == c, truth == c) for c in (1, 2)]
        ious += [((mask & true).sum() / (mask | true).sum()).item() for mask, true in masks]
    assert quality_of(p).expected_iou == pytest.approx(sum(ious) / len(ious), abs=0.01)
    assert quality_of(p, parts=4).value == pytest.approx(quality_of(p).value)


def test_stability_is_what_is_surely_there_over_what_may_be() -> None:
    foreground = torch.tensor([0.1, 0.4, 0.6, 0.8, 0.9]).repeat_interleave(100).reshape(1, 20, 25)
    quality = quality_of(torch.cat([1 - foreground, foreground]))
    assert quality.stability == pytest.approx(2 / 4, abs=0.01)  # 0.4 may be one; 0.6 is one, but not surely


def test_sure_answers_score_high_whatever_they_are_and_doubtful_ones_low() -> None:
    nothing = torch.zeros(2, 8, 8)
    nothing[0] = 1
    something = nothing.clone()
    something[:, :4, :4] = torch.tensor([0.0, 1.0])[:, None, None]
    doubtful = 0.5 + 0.1 * (something - 0.5)
    assert quality_of(nothing).value == pytest.approx(quality_of(something).value)
    assert quality_of(nothing).value > 0.9
    assert quality_of(doubtful).value < 0.4


def test_chosen_pixels_are_labelled_spread_and_always_the_same() -> None:
    labels = torch.full((40, 50), 255)
    labels[:20] = 0
    labels[30:, 10:13] = 7
    chosen = choose_pixels(labels, 100)
    assert {v: len(ys) for v, (ys, _) in chosen.items()} == {0: 100, 7: 30}
    for value, (ys, xs) in chosen.items():
        assert (labels[ys, xs] == value).all()
    ys, xs = chosen[0]
    assert len(set(zip(ys.tolist(), xs.tolist(), strict=True))) == 100
    assert ys.float().mean().item() == pytest.approx(9.5, abs=2)
    again = choose_pixels(labels.clone(), 100)
    assert torch.equal(again[0][0], ys)


def test_standardising_reduces_gain_and_offset_and_ignores_padding() -> None:
    level = Level(4)
    features = noise(3, 8, 8)

    def standardised(f: Tensor) -> Tensor:
        scale, shift = standardisation(FeaturePyramid({level: f}, (32, 32)), level)
        return scale[:, None, None] * f + shift[:, None, None]

    wide = torch.cat([features, torch.full((3, 8, 2), 1e6, dtype=torch.float64)], 2)
    torch.testing.assert_close(standardised(wide)[..., :8], standardised(features))
    bright = standardised(16 * features + 100)  # a quarter of the offset stays, and 16^(1/4) of the gain
    assert bright.std().item() == pytest.approx(2 * standardised(features).std().item(), rel=0.1)
    assert bright.mean().item() == pytest.approx(25 / 16**0.75, rel=0.1)


def test_standardising_does_not_turn_a_flat_feature_into_noise() -> None:
    flat = 1 + 1e-5 * noise(1, 8, 8)
    scale, _ = standardisation(FeaturePyramid({Level(4): flat}, (32, 32)), Level(4))
    assert (scale * flat.std()).item() < 1e-4 / 0.08


@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 700, 800), (5, 1, 1)])
def test_statistics_are_mean_and_deviation_of_every_feature(shape: tuple[int, int, int]) -> None:
    features = (3 * noise(*shape) + 5).half()
    before = features.clone()
    mean, deviation = feature_statistics(features)
    torch.testing.assert_close(mean.double(), features.double().flatten(1).mean(1), atol=1e-5, rtol=1e-5)
    expected = features.double().flatten(1).std(1, correction=0)
    torch.testing.assert_close(deviation.double(), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(features, before)


@pytest.mark.parametrize("level", [Level(1), Level(4), Level(4, "corner")])
def test_what_is_done_to_cells_before_sampling_is_done_to_few_and_changes_nothing_else(level: Level) -> None:
    features, seen = noise(3, 32 // level.stride, 40 // level.stride).float(), []
    ys, xs = torch.tensor([0, 1, 30, 31, 1]), torch.tensor([0, 2, 39, 38, 2])

    def squared(cells: Tensor) -> Tensor:
        seen.append(cells.shape[1])
        return torch.cat([cells, cells.square()])

    expected = upsample(torch.cat([features, features.square()]), level, (32, 40))[:, ys, xs].T
    torch.testing.assert_close(sample(features, level, ys, xs, squared), expected, atol=1e-6, rtol=1e-6)
    assert sum(seen) <= 4 * len(ys)
