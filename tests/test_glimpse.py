"""What a frame looks like at a glance, and which frames look alike."""

import numpy as np
import pytest

from napari_fewshot.errors import ImageError
from napari_fewshot.frames import Frame
from napari_fewshot.imaging.glimpse import SIDE, glimpse, likeness, unlike_every_shot


def noisy(mean: float, deviation: float, seed: int = 0, shape: tuple[int, ...] = (64, 64)) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, deviation, shape)


@pytest.mark.parametrize("shape", [(16, 700), (300, 200), (64, 64, 3), (64, 64, 2), (64, 64, 7), (17, 19)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, bool])
def test_the_picture_is_small_coloured_and_in_proportion(shape: tuple[int, ...], kind: type) -> None:
    seen = glimpse(Frame("a", (100 * np.random.default_rng(0).random(shape)).astype(kind)))
    height, width, colours = seen.picture.shape
    assert colours == 3 and max(height, width) <= SIDE and seen.picture.dtype == np.uint8
    assert height / width == pytest.approx(shape[0] / shape[1], rel=0.5)
    assert np.isfinite(seen.brightness).all()


def test_the_picture_shows_what_is_where() -> None:
    image = np.zeros((80, 80), np.uint16)
    image[:40, 40:] = 3000
    picture = glimpse(Frame("a", image)).picture
    assert (picture[:20, 20:] == 255).all() and not picture[20:].any() and not picture[:, :20].any()


def test_no_more_is_read_of_a_large_image_than_is_looked_at() -> None:
    class Watched:
        shape, dtype, read = (4096, 2048), np.dtype(np.uint8), 0

        def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
            part = np.zeros([len(range(*r.indices(n))) for r, n in zip(region, self.shape, strict=True)], np.uint8)
            Watched.read += part.size
            return part

    glimpse(Frame("large", Watched()))
    assert 0 < Watched.read <= 128 * 128


def test_an_image_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ImageError, match="NaN"):
        glimpse(Frame("a", np.full((32, 32), np.nan)))


def test_a_frame_is_like_the_nearest_shot_and_the_less_like_it_the_more_it_differs() -> None:
    shots = [noisy(100, 10), noisy(200, 10)]
    asked = [noisy(100, 10), noisy(200, 10, 1), noisy(110, 10, 2), noisy(150, 10, 3), noisy(150, 40, 4)]
    looks = [[glimpse(Frame("a", image)).brightness for image in images] for images in (asked, shots)]
    same, noise, near, far, farther = likeness(looks[0], looks[1])
    assert same == 1 > noise > near > far > farther > 0


def test_likeness_is_of_no_unit() -> None:
    images, shots = [noisy(120, 20), noisy(100, 35)], [noisy(100, 10)]
    looks = [[glimpse(Frame("a", i)).brightness for i in group] for group in (images, shots)]
    scaled = [[glimpse(Frame("a", 1000 * i)).brightness for i in group] for group in (images, shots)]
    np.testing.assert_allclose(likeness(*looks), likeness(*scaled), rtol=1e-4)


def test_blurred_frames_are_told_from_sharp_ones_of_the_same_intensities() -> None:
    sharp = noisy(100, 10)
    ordered = np.sort(sharp.ravel()).reshape(sharp.shape)
    looks = [glimpse(Frame("a", image)).brightness for image in (sharp, noisy(100, 10, 1), ordered)]
    _, noise, blurred = likeness(looks, looks[:1])
    assert noise > 0.97 and blurred < 0.9


def test_what_is_farther_from_shots_than_they_are_from_each_other_is_unlike_them() -> None:
    shots = [glimpse(Frame("a", noisy(level, 10))).brightness for level in (100, 110)]
    kinds = ((105, 10), (240, 10), (100, 60))
    frames = [glimpse(Frame("a", noisy(level, spread))).brightness for level, spread in kinds]
    assert unlike_every_shot(frames, shots).tolist() == [False, True, True]
    assert unlike_every_shot(frames, shots[:1]).tolist()[1:] == [True, True]
    assert not unlike_every_shot(frames, []).any()


def test_flat_frames_and_no_shots_divide_by_nothing() -> None:
    flat, black = (glimpse(Frame("a", np.full((32, 32), v, np.uint8))).brightness for v in (90, 0))
    assert likeness([flat, black], [flat])[0] == 1 > likeness([flat, black], [flat])[1]
    np.testing.assert_array_equal(likeness([black, black], [black]), 1)
    np.testing.assert_array_equal(likeness([flat, black], []), 1)
    assert likeness([], [flat]).shape == (0,)
