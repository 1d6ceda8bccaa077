"""Crops show what their view says, and labels stay on the pixels that they are about."""

import numpy as np
import pytest
import torch

from napari_fewshot.support import UNLABELLED
from napari_fewshot.training.augmentation import Look, View, blend_mask, change, crop, draw_look, draw_view
from napari_fewshot.training.pictures import Picture

PLAIN = Look(False, False, None, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0)


def ramps(size: int = 200) -> Picture:
    """Every pixel tells where it lies: first channel y, second x."""
    y, x = np.mgrid[:size, :size]
    return Picture(np.stack([y, x, 0 * x]).astype(np.uint8))


def blocks(size: int = 240, cell: int = 40) -> Picture:
    """Large squares whose brightness is ten times their label."""
    y, x = np.mgrid[:size, :size] // cell
    labels = ((7 * y + 3 * x) % 5).astype(np.uint8)
    return Picture((10 * labels)[None], labels)


VIEWS = [
    View((0.5, 0.5), 1.0),
    View((0.4, 0.6), 1.0, angle=0.7),
    View((0.5, 0.5), 2.0, angle=-2.0, mirrored=True),
    View((0.5, 0.5), 0.5, stretch=1.2, angle=1.0),
    View((0.6, 0.4), 1.5, stretch=0.85, mirrored=True),
]


@pytest.mark.parametrize("view", VIEWS)
def test_a_crop_lies_where_its_view_says(view: View) -> None:
    size = 48
    image, _ = crop(ramps(), view, size)
    y, x = 255 * image[0], 255 * image[1]
    half = size / view.zoom / 2
    middle = [half + share * (200 - 2 * half) - 0.5 for share in view.centre]
    assert [float(c[23:25, 23:25].mean()) for c in (y, x)] == pytest.approx(middle, abs=1)
    down = [float((c[-5, 24] - c[4, 24]) / (size - 9)) for c in (y, x)]  # per pixel of the crop
    right = [float((c[24, -5] - c[24, 4]) / (size - 9)) for c in (y, x)]
    cos, sin = np.cos(view.angle) / view.zoom, np.sin(view.angle) / view.zoom
    along = view.stretch * (-1 if view.mirrored else 1)
    assert down == pytest.approx([cos, -sin], abs=0.03)
    assert right == pytest.approx([along * sin, along * cos], abs=0.03)


@pytest.mark.parametrize("seed", range(12))
def test_labels_follow_their_pixels_whatever_the_view(seed: int) -> None:
    view = draw_view(np.random.default_rng(seed))
    image, labels = crop(blocks(), view, 64)
    told = 255 * image[0] / 10
    inside = (told - told.round()).abs() < 0.02  # pixels at an edge are mixtures
    assert inside.float().mean() > 0.3
    assert (told.round() == labels)[inside].float().mean() > 0.97  # a mixture may look like a third label


def test_what_lies_outside_of_a_small_picture_is_mirrored_with_its_labels() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[:, 10:] = 1
    image, seen = crop(Picture((200 * labels)[None], labels), View((0.5, 0.5), 0.4), 60)
    assert set(seen.unique().tolist()) == {0, 1}
    assert ((image[0] > 0.4).long() == seen).float().mean() > 0.9


def test_without_labels_nothing_is_known() -> None:
    image, labels = crop(ramps(), VIEWS[1], 32)
    assert image.shape == (3, 32, 32) and image.dtype == torch.float32
    assert (labels == UNLABELLED).all() and labels.dtype == torch.int64


def test_unlabelled_pixels_stay_so() -> None:
    picture = blocks()
    labels = picture.labels.copy()
    labels[:120] = UNLABELLED
    _, seen = crop(Picture(picture.pixels, labels), View((0.5, 0.5), 0.5), 64)
    assert (seen[:28] == UNLABELLED).all() and (seen[36:] != UNLABELLED).all()


def test_the_same_seed_draws_the_same() -> None:
    for draw in (draw_view, draw_look, lambda rng: blend_mask(rng, 32).tolist()):
        first, again, other = (draw(np.random.default_rng(seed)) for seed in (5, 5, 6))
        assert first == again != other


def test_views_stay_within_the_zoom_and_the_turn_that_are_asked_for() -> None:
    rng = np.random.default_rng(0)
    views = [draw_view(rng, (0.5, 2.0), 0.3) for _ in range(200)]
    assert all(0.5 <= v.zoom <= 2 and abs(v.angle) <= 0.3 for v in views)
    assert min(v.zoom for v in views) < 0.6 and max(v.zoom for v in views) > 1.7
    assert 60 < sum(v.mirrored for v in views) < 140


# ---------------------------------------------------------------------------- intensities
@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(0))


def test_a_look_without_changes_changes_nothing(image: torch.Tensor) -> None:
    torch.testing.assert_close(change(image, PLAIN, np.random.default_rng(0)), image)


@pytest.mark.parametrize(
    ("different", "expected"),
    [
        ({"inverted": True}, lambda x: 1 - x),
        ({"gray": True}, lambda x: x.mean(0, keepdim=True).expand(3, -1, -1)),
        ({"gamma": 2.0}, lambda x: x.square()),
        ({"gain": 0.5, "offset": 0.1}, lambda x: 0.5 * x + 0.35),
        ({"mixing": ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))}, lambda x: x[[1, 0, 2]]),
    ],
)
def test_a_look_does_what_it_says(image: torch.Tensor, different: dict, expected) -> None:
    look = Look(**{**vars(PLAIN), **different})
    torch.testing.assert_close(change(image, look, np.random.default_rng(0)), expected(image))


def test_shading_blur_and_noise_leave_things_in_their_place(image: torch.Tensor) -> None:
    spot = torch.full((3, 33, 33), 0.2)
    spot[:, 15:18, 15:18] = 1
    for different in ({"shading": 0.3}, {"blur": 1.5}, {"noise": 0.02}):
        look = Look(**{**vars(PLAIN), **different})
        changed = change(spot, look, np.random.default_rng(0)).mean(0)
        y, x = divmod(int(changed.argmax()), 33)
        assert (changed - spot[0]).abs().max() > 0.01
        assert abs(y - 16) <= 1 and abs(x - 16) <= 1


def test_noise_on_a_gray_crop_is_gray() -> None:
    gray = torch.full((3, 16, 16), 0.5)
    changed = change(gray, Look(**{**vars(PLAIN), "noise": 0.1}), np.random.default_rng(0))
    assert changed.std() > 0.05
    assert (changed[0] == changed[2]).all()


def test_crops_stay_near_the_unit_range(image: torch.Tensor) -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        changed = change(image, draw_look(rng), rng)
        assert changed.shape == image.shape
        assert changed.min() >= -0.25 and changed.max() <= 1.25 and changed.std() > 0


def test_what_is_laid_over_another_crop_is_a_part_of_it_in_one_piece_or_few() -> None:
    shares = []
    for seed in range(40):
        mask = blend_mask(np.random.default_rng(seed), 48)
        assert mask.shape == (48, 48) and mask.dtype == torch.bool
        shares.append(float(mask.float().mean()))
        changes = (mask[1:] != mask[:-1]).float().mean()
        assert changes < 0.25
    assert 0.3 < np.mean(shares) < 0.7
