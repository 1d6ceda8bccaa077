"""The hierarchy of hills, against flooding from h-maxima and against a relief with known passes."""

import numpy as np
import pytest
import scipy.ndimage as ndi
from skimage.morphology import h_maxima

from napari_fewshot.instances.hills import Hills


def ridge() -> np.ndarray:
    """Summits of 10, 6 and 8, with passes at 5 and 1 between them."""
    profile = np.array([9, 10, 7, 5, 5.5, 6, 3, 1, 4, 8, 7], np.float32)
    return np.repeat(profile[None], 3, axis=0)


@pytest.mark.parametrize(
    ("least", "objects"),
    [(0.5, [1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3]), (2, [1] * 7 + [3] * 4), (7.5, [1] * 11)],
)
def test_hills_grow_together_where_the_valley_is_shallow(least: float, objects: list[int]) -> None:
    hills = Hills.of(ridge(), np.ones((3, 11), bool))
    found = hills.cut(least)[1]
    same = found[:, None] == found[None]
    wanted = np.array(objects)
    valley = [3, 7]  # a pass may belong to either side
    keep = np.setdiff1d(np.arange(11), valley)
    assert np.array_equal(same[np.ix_(keep, keep)], (wanted[:, None] == wanted[None])[np.ix_(keep, keep)])


def test_a_low_hill_joins_the_one_that_it_touches_and_not_the_highest() -> None:
    profile = np.array([10, 4, 9, 7, 7.5], np.float32)  # the last one leans on the second
    found = Hills.of(np.repeat(profile[None], 3, axis=0), np.ones((3, 5), bool)).cut(3)[1]
    assert found[4] == found[2] != found[0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("least", [0.05, 0.15, 0.4])
def test_as_many_objects_as_h_maxima(seed: int, least: float) -> None:
    noise = np.random.default_rng(seed).random((40, 50))
    relief = ndi.gaussian_filter(noise, 2).astype(np.float32)
    relief = np.round((relief - relief.min()) / np.ptp(relief), 3).astype(np.float32)
    hills = Hills.of(relief, np.ones(relief.shape, bool))
    step = np.float32(least + 0.0005)  # between two heights that occur
    _, wanted = ndi.label(h_maxima(relief.astype(np.float64), float(step)), np.ones((3, 3)))
    assert len(np.unique(hills.cut(float(step)))) == wanted


def test_every_pixel_of_the_mask_is_on_a_hill_and_no_other() -> None:
    mask = np.zeros((12, 30), bool)
    mask[2:5, 2:9], mask[7:11, 4:28], mask[1, 20] = True, True, True
    relief = np.arange(360, dtype=np.float32).reshape(mask.shape)  # its summits lie outside of the mask
    ids = Hills.of(relief, mask).cut(1e9)
    assert np.array_equal(ids > 0, mask)
    assert len(np.unique(ids[mask])) == 3


def test_nothing_has_no_hills() -> None:
    hills = Hills.of(np.zeros((5, 5), np.float32), np.zeros((5, 5), bool))
    assert hills.merges == () and not hills.cut(0.5).any()
