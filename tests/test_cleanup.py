"""Tidying label maps: each step on shapes of which the answer is known, and people's pixels whatever is done."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label as connected_components

from napari_fewshot.frames import Labels
from napari_fewshot.imaging.cleanup import (
    CleanUp,
    above_thresholds,
    clean_up,
    fill_holes,
    keep_largest,
    smooth_outlines,
    split_touching,
)
from napari_fewshot.propagation import tidied
from napari_fewshot.support import UNLABELLED

Y, X = np.mgrid[:60, :90]

label_maps = arrays(np.int32, (12, 14), elements=st.sampled_from([0, 0, 1, 1, 2]))
steps = st.builds(
    CleanUp,
    smooth=st.sampled_from([0.0, 0.7, 2.0]),
    max_hole=st.integers(0, 20),
    split_neck=st.sampled_from([0.0, 1.0, 3.0]),
    min_area=st.integers(0, 20),
    largest_only=st.booleans(),
)


def disk(y: int, x: int, radius: int) -> np.ndarray:
    return (Y - y) ** 2 + (X - x) ** 2 <= radius**2


def objects(labels: Labels) -> int:
    return int(connected_components(labels, connectivity=2).max())


def test_holes_up_to_a_size_are_filled_and_larger_ones_and_bays_are_not() -> None:
    ring = (disk(30, 30, 20) & ~disk(30, 30, 5)).astype(np.int32)
    ring[30, 45] = 0
    hole = int(disk(30, 30, 5).sum())
    few, all_ = fill_holes(ring, hole - 1), fill_holes(ring, hole)
    assert few[30, 45] == 1 and not few[30, 30]
    np.testing.assert_array_equal(all_, disk(30, 30, 20))
    bay = ring.copy()
    bay[30, :26] = 0  # a channel to the border of the image
    assert not fill_holes(bay, 10_000)[30, 30]


def test_a_hole_between_two_classes_is_nobodys() -> None:
    labels = np.array([[1, 1, 2, 2], [1, 0, 0, 2], [1, 1, 2, 2]], np.int32)
    np.testing.assert_array_equal(fill_holes(labels, 9), labels)
    inside = np.array([[2, 2, 2, 2], [2, 0, 2, 2], [2, 2, 2, 2]], np.int32)
    assert (fill_holes(inside, 1) == 2).all()
    at_border = np.array([[2, 0, 2], [2, 2, 2]], np.int32)
    np.testing.assert_array_equal(fill_holes(at_border, 9), at_border)


def test_touching_objects_are_cut_apart_at_their_neck_and_a_rod_is_not() -> None:
    both = (disk(30, 25, 16) | disk(30, 52, 16)).astype(np.int32)  # 32 wide, the neck between them about 17
    cut = split_touching(both, 4)
    assert (objects(both), int(connected_components(cut, connectivity=1).max())) == (1, 2)
    assert 0 < (cut != both).sum() < 30, "a line, no more"
    np.testing.assert_array_equal(split_touching(both, 20), both)
    rod = ((np.abs(Y - 30) < 6) & (np.abs(X - 45) < 40)).astype(np.int32)
    np.testing.assert_array_equal(split_touching(rod, 2), rod)
    thin = ((np.abs(Y - 30) < 1) & (np.abs(X - 45) < 40)).astype(np.int32)
    np.testing.assert_array_equal(split_touching(thin, 6), thin)


def test_neighbours_of_two_classes_are_cut_each_for_itself() -> None:
    labels = np.where(disk(30, 25, 16), 1, np.where(disk(30, 52, 16), 2, 0)).astype(np.int32)
    np.testing.assert_array_equal(split_touching(labels, 4), labels)


def test_smoothing_takes_specks_and_notches_and_leaves_large_outlines() -> None:
    clean = np.where(disk(30, 30, 18), 1, np.where(X > 60, 2, 0)).astype(np.int32)
    rough = clean.copy()
    rough[30, 30], rough[5, 5], rough[30, 75] = 0, 1, 0
    smooth = smooth_outlines(rough, 1.5)
    assert (smooth[30, 30], smooth[5, 5], smooth[30, 75]) == (1, 0, 2)
    assert (smooth != clean).mean() < 0.01
    assert smooth_outlines(np.zeros((4, 4), np.int32), 2).sum() == 0


def test_smoothing_a_high_image_in_parts_is_smoothing_it_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 3, (200, 20)).astype(np.int32)
    whole = smooth_outlines(noise, 2.0)
    monkeypatch.setattr("napari_fewshot.imaging.cleanup._ROWS", 33)
    np.testing.assert_array_equal(smooth_outlines(noise, 2.0), whole)


def test_the_largest_object_of_each_class_is_kept() -> None:
    labels = np.zeros((60, 90), np.int32)
    labels[disk(15, 15, 8)], labels[disk(15, 50, 9)] = 1, 1
    labels[disk(45, 15, 6)], labels[disk(45, 50, 5)] = 2, 2
    kept = keep_largest(labels)
    np.testing.assert_array_equal(kept, np.where(disk(15, 50, 9), 1, np.where(disk(45, 15, 6), 2, 0)))
    assert not keep_largest(np.zeros((3, 3), np.int32)).any()


@pytest.mark.parametrize("kind", [np.float32, np.uint8])
def test_a_threshold_of_a_class_leaves_the_others_as_they_were(kind: Any) -> None:
    first, second = np.array([[0.9, 0.6, 0.4, 0.0]]), np.array([[0.0, 0.1, 0.3, 0.8]])
    probabilities = np.stack([1 - first - second, first, second])
    scaled = np.rint(255 * probabilities).astype(np.uint8) if kind is np.uint8 else probabilities.astype(np.float32)
    labels = np.array([[1, 1, 1, 2]], np.int32)
    strict = above_thresholds(labels, scaled, (0, 1, 2), {1: 0.7})
    np.testing.assert_array_equal(strict, [[1, 0, 0, 2]])
    generous = above_thresholds(labels, scaled, (0, 1, 2), {2: 0.1})
    np.testing.assert_array_equal(generous, [[1, 1, 1, 2]])
    taken = above_thresholds(np.array([[1, 1, 0, 2]], np.int32), scaled, (0, 1, 2), {2: 0.25})
    np.testing.assert_array_equal(taken, [[1, 1, 2, 2]])
    assert above_thresholds(labels, scaled, (0, 1, 2), {7: 0.5}) is labels


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"min_area": -1}, "min_area is -1 pixels; use 0 or more"),
        ({"smooth": float("nan")}, "smooth is nan"),
        ({"thresholds": {1: 1.5}}, "threshold of class 1 is 1.5; use more than 0"),
        ({"thresholds": {0: 0.5}}, "names the class 0; use ids from 1 to 254"),
    ],
)
def test_steps_that_make_no_sense_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CleanUp(**wrong)


def test_by_default_nothing_is_done() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (20, 20)).astype(np.int32)
    assert CleanUp().does_nothing and clean_up(labels, CleanUp()) is labels
    assert not CleanUp(thresholds={1: 0.5}).does_nothing


@given(labels=label_maps, human=arrays(np.int32, (12, 14), elements=st.sampled_from([0, 1, 2, 255, 255])), todo=steps)
@settings(max_examples=60, deadline=None)
def test_no_pixel_of_a_person_is_ever_touched(labels: Labels, human: Labels, todo: CleanUp) -> None:
    before = labels.copy(), human.copy()
    tidy = tidied(labels, human, todo)
    said = human != UNLABELLED
    np.testing.assert_array_equal(tidy[said], human[said])
    np.testing.assert_array_equal(labels, before[0])
    np.testing.assert_array_equal(human, before[1])
    assert tidy.dtype == np.int32 and set(np.unique(tidy)) <= {0, 1, 2}


def test_a_speck_that_touches_what_a_person_painted_is_part_of_it() -> None:
    labels = np.zeros((10, 10), np.int32)
    labels[2, 2] = labels[7, 7] = 1
    human = np.full((10, 10), UNLABELLED, np.int32)
    human[3:6, 2:5] = 1
    tidy = tidied(labels, human, CleanUp(min_area=5))
    assert (tidy[2, 2], tidy[7, 7]) == (1, 0)
