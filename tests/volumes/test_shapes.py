"""Shapes in between, and shots across."""

import numpy as np
import pytest

from napari_fewshot.errors import MaskError
from napari_fewshot.frames import Frame
from napari_fewshot.support import Shot, SupportSet
from napari_fewshot.volumes.shapes import in_between, signed_distances
from napari_fewshot.volumes.views import shots_across


def _disc(radius: float, centre: float = 32.0) -> np.ndarray:
    y, x = np.ogrid[:64, :64]
    return (np.hypot(y - 32, x - centre) <= radius).astype(np.int32)


def _half_way(one: np.ndarray, other: np.ndarray, ids: tuple[int, ...] = (1,)) -> np.ndarray:
    said = in_between(signed_distances(one, ids), signed_distances(other, ids), 0.5, 1)
    np.testing.assert_allclose(said.sum(axis=0), 1, atol=1e-5)
    return np.array((0, *ids))[said.argmax(axis=0)]


def test_half_way_between_a_small_and_a_large_disc_is_a_disc_of_their_mean_radius():
    area = _half_way(_disc(10), _disc(20)).sum()
    assert np.sqrt(area / np.pi) == pytest.approx(15, abs=0.5)


def test_a_shape_that_is_on_one_slice_only_ends_half_way():
    depths = signed_distances(_disc(20), (1,)), signed_distances(np.zeros((64, 64), np.int32), (1,))
    areas = [int((in_between(*depths, part, 1).argmax(axis=0) == 1).sum()) for part in (0.1, 0.3, 0.45, 0.6)]
    assert areas[0] > areas[1] > areas[2] > 0 == areas[3]


def test_classes_stay_apart():
    one = np.where(_disc(8, 16) > 0, 1, np.where(_disc(8, 48) > 0, 2, 0))
    labels = _half_way(one, one, (1, 2))
    np.testing.assert_array_equal(labels, one)


def test_slices_without_anything_have_nothing_in_between():
    empty = np.zeros((16, 16), np.int32)
    assert not _half_way(empty, empty).any()


FRAMES = Frame.of_stack("s", np.zeros((3, 16, 20), np.uint8))


def test_a_cut_becomes_a_row_on_every_slice_that_is_painted():
    cut = np.full((3, 20), 255)
    cut[0, 4:8], cut[2] = 2, 0
    first, last = shots_across(FRAMES, "y", 5, cut)
    assert (first.key, last.key) == (("s", 0), ("s", 2))
    assert (first.labels[5, 4:8] == 2).all() and (first.labels != 255).sum() == 4
    assert (last.labels[5] == 0).all() and (last.labels != 255).sum() == 20


def test_a_cut_along_y_becomes_a_column():
    cut = np.full((3, 16), 255)
    cut[1, :4] = 1
    (shot,) = shots_across(FRAMES, "x", 19, cut)
    assert (shot.labels[:4, 19] == 1).all() and (shot.labels != 255).sum() == 4


def test_what_was_taught_on_a_slice_before_stays():
    cut = np.ones((3, 20), int)
    partial = np.full((16, 20), 255)
    partial[0] = 3
    taught = SupportSet([Shot(FRAMES[0], partial), Shot(FRAMES[1], np.zeros((16, 20), int))])
    first, last = shots_across(FRAMES, "y", 5, cut, taught)
    assert (first.labels[0] == 3).all() and (first.labels[5] == 1).all()
    assert last.key == ("s", 2)


@pytest.mark.parametrize(
    ("across", "index", "cut", "message"),
    [
        ("y", 5, np.ones((2, 20)), "the stack has 3 slices"),
        ("y", 16, np.ones((3, 20)), "does not lie on"),
        ("x", 5, np.ones((3, 20)), "does not lie on"),
        ("y", 5, np.full((3, 20), 255), "nothing new is painted"),
    ],
)
def test_cuts_that_do_not_fit_are_refused(across, index, cut, message):
    with pytest.raises(MaskError, match=message):
        shots_across(FRAMES, across, index, cut.astype(int))
