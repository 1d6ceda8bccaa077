"""Objects across slices, on stacks whose answer is known."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import generate_binary_structure, label

from napari_fewshot.volumes.objects import window_of, without_gaps, without_short

STACKS = arrays(np.int32, st.tuples(st.integers(1, 7), st.just(3), st.just(4)), elements=st.integers(0, 2))


def _column(*values: int) -> np.ndarray:
    return np.array(values, np.int32)[:, None, None] * np.ones((1, 2, 2), np.int32)


def _filled(stack: np.ndarray, most: int) -> list[int]:
    return [int(without_gaps(stack, z, most)[0, 0]) for z in range(len(stack))]


def test_a_gap_is_filled_where_an_object_is_there_on_both_sides():
    assert _filled(_column(1, 0, 1, 0, 0, 1), 1) == [1, 1, 1, 0, 0, 1]
    assert _filled(_column(1, 0, 1, 0, 0, 1), 2) == [1, 1, 1, 1, 1, 1]


def test_no_gap_is_filled_at_the_end_of_a_stack_or_between_two_classes():
    assert _filled(_column(0, 1, 0, 2, 2, 0), 3) == [0, 1, 0, 2, 2, 0]


def test_an_object_on_one_slice_goes_and_one_on_two_stays():
    stack = np.zeros((4, 6, 6), np.int32)
    stack[1, :2, :2] = 1
    stack[1:3, 4:, 4:] = 1
    left = np.stack([without_short(stack, z, 2) for z in range(4)])
    assert not left[1, :2, :2].any()
    assert (left[1:3, 4:, 4:] == 1).all()
    assert left.sum() == 8


def test_classes_are_objects_of_their_own():
    stack = _column(1, 2, 1)
    assert not any(without_short(stack, z, 2).any() for z in range(3))


@settings(max_examples=60, deadline=None)
@given(STACKS, st.integers(2, 4))
def test_a_window_decides_about_short_objects_as_the_whole_stack_does(stack, least):
    together = generate_binary_structure(3, 1)
    together[1] = True
    expected = stack.copy()
    for class_id in (1, 2):
        objects, count = label(stack == class_id, together)
        for number in range(1, count + 1):
            if len(np.unique(np.nonzero(objects == number)[0])) < least:
                expected[objects == number] = 0
    for z in range(len(stack)):
        around = [stack[i] if 0 <= i < len(stack) else None for i in range(z - least + 1, z + least)]
        windowed = without_short(window_of(around, stack.shape[1:]), least - 1, least)
        np.testing.assert_array_equal(windowed, expected[z])


@settings(max_examples=60, deadline=None)
@given(STACKS, st.integers(1, 3))
def test_a_window_fills_gaps_as_the_whole_stack_does(stack, most):
    for z in range(len(stack)):
        around = [stack[i] if 0 <= i < len(stack) else None for i in range(z - most, z + most + 1)]
        windowed = without_gaps(window_of(around, stack.shape[1:]), most, most)
        np.testing.assert_array_equal(windowed, without_gaps(stack, z, most))
        assert (windowed[stack[z] > 0] == stack[z][stack[z] > 0]).all()
