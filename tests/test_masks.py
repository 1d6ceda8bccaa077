import numpy as np
import pytest

from napari_fewshot.imaging.masks import drop_small

LABELS = np.array(
    [
        [1, 1, 0, 0, 2],
        [0, 0, 1, 0, 2],
        [0, 0, 0, 0, 2],
        [3, 0, 0, 0, 0],
        [2, 2, 0, 0, 1],
    ],
    np.int32,
)


@pytest.mark.parametrize("min_area", [0, 1])
def test_every_object_has_a_pixel_so_nothing_is_dropped_up_to_one(min_area: int) -> None:
    assert drop_small(LABELS, min_area) is LABELS


def test_objects_below_the_area_are_dropped_and_diagonal_neighbours_are_one_object() -> None:
    expected = LABELS.copy()
    expected[3, 0] = expected[4, 4] = 0
    expected[4, :2] = 0
    dropped = drop_small(LABELS, 3)
    np.testing.assert_array_equal(dropped, expected)
    assert dropped.dtype == np.int32


def test_touching_objects_of_two_classes_are_measured_apart() -> None:
    labels = np.array([[1, 1, 1, 2], [1, 1, 1, 0]], np.int32)
    np.testing.assert_array_equal(drop_small(labels, 2), [[1, 1, 1, 0], [1, 1, 1, 0]])


def test_what_was_given_is_not_changed() -> None:
    before = LABELS.copy()
    drop_small(LABELS, 100)
    np.testing.assert_array_equal(LABELS, before)


def test_an_empty_map_stays_empty() -> None:
    assert not drop_small(np.zeros((4, 4), np.int32), 5).any()
