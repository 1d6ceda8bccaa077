"""Made pictures show what their labels say."""

import numpy as np
import pytest

from napari_fewshot.training.made import Kind, World, draw_world

FLAT = (1.0, 4.0, 32.0, None)


def world(shape: str, radius: float, number: int = 4, **options: object) -> World:
    """Bright things of one kind, without texture, on a dark ground."""
    plain = {"gray": True, "blur": 0.0, "noise": 0.0, "outline": 0.0, **options}
    ground = Kind("blob", 10, 1, FLAT, (0.1, 0.1, 0.1), 0.0)
    return World(ground, (Kind(shape, radius, number, FLAT, (0.9, 0.9, 0.9), 0.0),), **plain)


@pytest.mark.parametrize(
    ("shape", "radius"), [("ellipse", 14), ("blob", 16), ("polygon", 18), ("ring", 16), ("fibre", 2)]
)
def test_what_is_bright_is_labelled_and_what_is_dark_is_ground(shape: str, radius: float) -> None:
    for seed in range(5):
        picture = world(shape, radius).picture(np.random.default_rng(seed), 128)
        assert picture.pixels.shape == (1, 128, 128) and picture.pixels.dtype == np.uint8
        bright = picture.pixels[0] > 128
        np.testing.assert_array_equal(bright, picture.labels == 1)
        assert 0.002 < bright.mean() < 0.9


def test_things_have_about_the_size_that_their_kind_says() -> None:
    one = world("ellipse", 20, number=1)
    areas = [(one.picture(np.random.default_rng(seed), 256).labels == 1).sum() for seed in range(40)]
    assert 0.4 < np.quantile(areas, 0.9) / (np.pi * 20**2) < 3


def test_fibres_are_thin_and_rings_are_hollow() -> None:
    from scipy import ndimage

    for seed in range(5):
        thread = world("fibre", 2, number=1).picture(np.random.default_rng(seed), 128).labels == 1
        assert thread.sum() > 50
        assert ndimage.distance_transform_edt(thread).max() < 6
        ring = world("ring", 24, number=1).picture(np.random.default_rng(seed), 256).labels == 1
        if not (ring[0].any() or ring[-1].any() or ring[:, 0].any() or ring[:, -1].any()):
            assert ndimage.label(~ring)[1] == 2


def test_drawn_worlds_show_all_their_kinds_and_their_ground() -> None:
    shown = there = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        drawn = draw_world(rng)
        picture = drawn.picture(rng, 128)
        found = set(np.unique(picture.labels).tolist())
        assert found <= set(range(len(drawn.kinds) + 1))
        assert picture.labels.shape == picture.pixels.shape[1:] == (128, 128)
        assert len(picture.pixels) == (1 if drawn.gray else 3)
        assert np.percentile(picture.pixels, 99.9) - np.percentile(picture.pixels, 0.1) > 200
        shown += len(found)
        there += len(drawn.kinds) + 1
    assert shown > 0.9 * there  # some things are wholly covered by others


def test_pictures_of_one_world_differ_but_look_alike() -> None:
    rng = np.random.default_rng(3)
    one = world("blob", 12)
    first, second = one.picture(rng, 96), one.picture(rng, 96)
    assert (first.labels != second.labels).any()
    levels = [p.pixels[0][p.labels == 1].mean() for p in (first, second)]
    assert levels[0] == pytest.approx(levels[1], abs=20)


def test_the_same_seed_makes_the_same_picture() -> None:
    def made(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return draw_world(rng).picture(rng, 64).pixels

    np.testing.assert_array_equal(made(4), made(4))
    assert made(4).tobytes() != made(5).tobytes()
