"""What heads are made of: losses, layers, and the maps that are kept of shots."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.blocks.layers import ASPP, Residual, classifier, group_norm, resized, tiled
from napari_fewshot.models.blocks.losses import balanced_bce, dice_loss
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.support_maps import SupportMap, collect_maps, maps_of_class
from tests.models.toys import noise

PLAIN = MatchingLevels((4,), standardised=False)


def pyramid(seed: int, size: tuple[int, int], half: bool = False) -> FeaturePyramid:
    cells = noise(3, -(-size[0] // 4) + 1, -(-size[1] // 4) + 2, seed=seed)  # with padding
    return FeaturePyramid({Level(4): cells.half() if half else cells}, size)


# ---------------------------------------------------------------------------- losses
def test_without_balance_it_is_cross_entropy() -> None:
    logits, wanted = noise(50), noise(50, seed=1) > 0
    expected = F.binary_cross_entropy_with_logits(logits, wanted.double())
    torch.testing.assert_close(balanced_bce(logits, wanted, evenness=0), expected)


def test_with_full_balance_both_answers_count_the_same() -> None:
    logits, wanted = noise(50), torch.arange(50) < 3
    losses = F.binary_cross_entropy_with_logits(logits, wanted.double(), reduction="none")
    expected = (losses[:3].mean() + losses[3:].mean()) / 2
    torch.testing.assert_close(balanced_bce(logits, wanted, evenness=1), expected)


def test_losses_of_nothing_are_finite() -> None:
    none = noise(0).requires_grad_()
    assert balanced_bce(none, torch.zeros(0, dtype=torch.bool)) == 0
    assert dice_loss(none, torch.zeros(0, dtype=torch.bool)).isfinite()


def test_dice_is_that_of_sets() -> None:
    wanted = torch.arange(1000) < 400
    assert dice_loss(wanted.double(), wanted).item() == pytest.approx(0, abs=1e-9)
    assert dice_loss((~wanted).double(), wanted).item() == pytest.approx(1, abs=2e-3)
    half = (torch.arange(1000) < 200).double()
    assert dice_loss(half, wanted).item() == pytest.approx(1 - 2 * 200 / 600, abs=1e-3)
    assert dice_loss(torch.zeros(10), torch.zeros(10, dtype=torch.bool)) == 0


# ---------------------------------------------------------------------------- layers
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (40, 3)], ids=str)
def test_layers_bear_maps_of_any_size(size: tuple[int, int]) -> None:
    x = torch.randn(2, 6, *size)
    pyramid_pooling = ASPP(6, 4, norm=True)
    assert pyramid_pooling(x).shape == (2, pyramid_pooling.width, *size) and pyramid_pooling.width == 20
    assert Residual(6, norm=True)(x).shape == x.shape
    assert classifier(6)(x).shape == (2, 1, *size)
    assert resized(x, (7, 3)).shape == (2, 6, 7, 3)


def test_what_corrects_begins_with_nothing() -> None:
    assert not classifier(6, zero=True)(torch.randn(1, 6, 5, 5)).any()


def test_any_number_of_channels_can_be_normalised() -> None:
    for channels in (1, 7, 12, 48, 50, 96):
        assert group_norm(channels)(torch.randn(1, channels, 3, 3)).isfinite().all()


def test_a_vector_is_put_on_every_cell() -> None:
    vectors = noise(2, 3)
    assert torch.equal(tiled(vectors, noise(2, 5, 4, 6))[1, :, 3, 5], vectors[1])


# ---------------------------------------------------------------------------- maps of shots
def test_a_map_tells_how_much_of_each_cell_is_painted() -> None:
    labels = torch.zeros(16, 24, dtype=torch.long)
    labels[:8, :8], labels[8:, 16:] = 1, 255
    (kept,) = collect_maps([(pyramid(1, (16, 24)), labels)], PLAIN)
    assert kept.features.shape == (3, 4, 6) and kept.stride == (4, 4)
    assert torch.equal(kept.features, pyramid(1, (16, 24)).features[Level(4)][:, :4, :6])
    for label, share in kept.shares.items():
        assert share.min() >= 0 and share.max() <= 1 + 1e-6
        assert float(share[0, 0]) == (label == 1)
    assert float(kept.known[3, 5]) == 0 and float(kept.known[0, 0]) == 1
    total = sum(kept.shares.values())
    assert isinstance(total, Tensor)
    torch.testing.assert_close(total, kept.known)


def test_a_large_map_is_averaged_down_and_keeps_its_shape_and_shares() -> None:
    labels = torch.zeros(160, 320, dtype=torch.long)
    labels[:, :160] = 1
    (kept,) = collect_maps([(pyramid(1, (160, 320), half=True), labels)], PLAIN, most_cells=800)
    assert kept.features.shape == (3, 20, 40) and kept.features.dtype == torch.float16
    assert kept.stride == (8, 8)
    assert float(kept.shares[1].mean()) == pytest.approx(0.5, abs=0.02)


def test_a_single_pixel_is_seen() -> None:
    labels = torch.zeros(160, 160, dtype=torch.long)
    labels[77, 80] = 1
    (kept,) = collect_maps([(pyramid(1, (160, 160)), labels)], PLAIN, most_cells=100)
    assert kept.area(1) > 0


def test_of_many_tiles_those_that_show_most_are_kept() -> None:
    tiles = []
    for number, side in enumerate((2, 9, 1, 12, 0)):
        labels = torch.zeros(16, 16, dtype=torch.long)
        labels[:side, :side] = 1
        if number == 2:
            labels[8:, 8:] = 2
        tiles.append((pyramid(number, (16, 16)), labels))
    kept = collect_maps(tiles, PLAIN)
    shown = [each.area(1) for each in kept if 1 in each.shares]
    assert sorted(shown)[-2:] == sorted(each.area(1) for each in collect_maps([tiles[1], tiles[3]], PLAIN))
    assert any(2 in each.shares for each in kept)
    assert len(kept) <= 6


def one(area: int) -> SupportMap:
    share = torch.zeros(4, 4)
    share.view(-1)[:area] = 1
    return SupportMap(torch.zeros(2, 4, 4), {1: share} if area else {0: share}, torch.ones(4, 4), (4, 4))


def test_every_shot_is_heard_before_any_is_heard_twice() -> None:
    shots = [(one(8), one(7)), (one(1),), (one(0),), (one(2),)]
    assert [m.area(1) for m in maps_of_class(shots, 1, 3)] == [8, 1, 2]
    assert [m.area(1) for m in maps_of_class(shots, 1, 9)] == [8, 7, 1, 2]
    assert [m.area(1) for m in maps_of_class(shots, 1, 2)] == [8, 2]
    assert maps_of_class(shots, 5, 2) == []
