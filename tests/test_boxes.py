"""What boxes say of the pixels in and around them."""

import numpy as np
import pytest

from napari_fewshot import Frame, Shot
from napari_fewshot.boxes import Box, box_labels
from napari_fewshot.errors import MaskError

SIZE = (40, 50)
FRAME = Frame("a", np.zeros(SIZE, np.uint8))


def by_hand(box: Box, all_boxed: bool) -> np.ndarray:
    """The rule for one box, pixel by pixel."""
    labels = np.full(SIZE, 0 if all_boxed else 255, np.int32)
    height, width = box.bottom - box.top, box.right - box.left
    for row, column in np.ndindex(SIZE):
        y, x = row + 0.5, column + 0.5
        near = box.top - 0.3 * height <= y < box.bottom + 0.3 * height
        if near and box.left - 0.3 * width <= x < box.right + 0.3 * width:
            labels[row, column] = 0
        if box.top <= y < box.bottom and box.left <= x < box.right:
            dy, dx = (y - (box.top + box.bottom) / 2) / (height / 2), (x - (box.left + box.right) / 2) / (width / 2)
            labels[row, column] = box.class_id if np.hypot(dy, dx) <= 0.9 else 255
    return labels


@pytest.mark.parametrize("all_boxed", [True, False])
@pytest.mark.parametrize(
    "box", [Box(10, 12, 30, 40), Box(9.7, 12.2, 30.4, 40.5, 7), Box(-5, 30, 12, 70), Box(0, 0, 40, 50, 254)], ids=str
)
def test_the_middle_is_the_thing_the_rest_of_the_box_unknown(box: Box, all_boxed: bool) -> None:
    np.testing.assert_array_equal(box_labels(SIZE, [box], all_boxed=all_boxed), by_hand(box, all_boxed))


def test_a_mask_lies_in_its_box_as_numpy_cuts_it_out() -> None:
    labels = box_labels(SIZE, [Box(10, 12, 30, 40)])
    assert (labels[10:30, 12:40] != 0).all() and (labels != 0).sum() == 20 * 28
    assert (labels == 1).sum() / (20 * 28) == pytest.approx(np.pi / 4 * 0.81, abs=0.02)
    np.testing.assert_array_equal(labels[10:30], labels[10:30][::-1])
    np.testing.assert_array_equal(labels[:, 12:40], labels[:, 12:40][:, ::-1])


@pytest.mark.parametrize(
    "box", [Box(3, 3, 4, 4), Box(3.4, 3.4, 3.5, 3.45), Box(39.9, 49.9, 60, 60), Box(3, 3, 4, 40), Box(-9, -9, 0.2, 0.2)]
)
def test_the_smallest_box_says_at_least_one_pixel(box: Box) -> None:
    assert (box_labels(SIZE, [box]) == 1).any()


def test_of_two_boxes_the_smaller_lies_on_top_whatever_their_order() -> None:
    cell, nucleus = Box(5, 5, 35, 45, 1), Box(15, 20, 25, 30, 2)
    labels = box_labels(SIZE, [nucleus, cell])
    np.testing.assert_array_equal(labels, box_labels(SIZE, [cell, nucleus]))
    assert labels[20, 25] == 2 and labels[15, 20] == 255 and labels[20, 12] == 1


def test_boxes_of_one_class_that_touch_make_nothing_unknown_that_another_knows() -> None:
    wide, beside = Box(5, 5, 35, 45), Box(15, 20, 25, 30)
    np.testing.assert_array_equal(box_labels(SIZE, [wide, beside]), box_labels(SIZE, [wide]))


def test_what_surrounds_a_box_hides_no_other_box() -> None:
    labels = box_labels(SIZE, [Box(5, 5, 15, 15), Box(5, 16, 15, 26)], all_boxed=False)
    assert (labels == 1).sum() == 2 * (box_labels(SIZE, [Box(5, 5, 15, 15)]) == 1).sum()
    assert (labels == 255).any() and (labels == 0).any()


@pytest.mark.parametrize("edges", [(3, 3, 3, 9), (3, 9, 8, 3), (0, 0, float("nan"), 4), (0, 0, float("inf"), 4)])
def test_a_box_without_area_is_refused(edges: tuple[float, float, float, float]) -> None:
    with pytest.raises(MaskError, match="has no area; give top, left, bottom and right"):
        Box(*edges)


@pytest.mark.parametrize("class_id", [0, 255, -1])
def test_a_box_of_no_class_is_refused(class_id: int) -> None:
    with pytest.raises(MaskError, match=f"class id {class_id} is out of range; use 1 to 254"):
        Box(0, 0, 5, 5, class_id)


def test_a_shot_is_made_of_boxes() -> None:
    shot = Shot.boxed(FRAME, [Box(5, 5, 15, 15, 3), Box(20, 20, 30, 40, 1)])
    assert shot.class_ids == (1, 3) and shot.is_partial and shot.has_background
    np.testing.assert_array_equal(shot.labels, box_labels(SIZE, [Box(5, 5, 15, 15, 3), Box(20, 20, 30, 40, 1)]))
    some = Shot.boxed(FRAME, [Box(5, 5, 15, 15, 3)], all_boxed=False)
    assert (some.labels == 255).mean() > 0.8


def test_the_size_of_an_image_that_is_read_by_a_function_is_found_out() -> None:
    lazy = Frame("lazy", lambda: np.zeros(SIZE, np.uint8))
    assert Shot.boxed(lazy, [Box(5, 5, 15, 15)]).labels.shape == SIZE


def test_boxes_that_cannot_be_meant_get_a_message() -> None:
    with pytest.raises(MaskError, match="there is no box on 'a'; draw one around each thing"):
        Shot.boxed(FRAME, [])
    with pytest.raises(MaskError, match=r"lies outside of 'a', which is \(40, 50\)"):
        Shot.boxed(FRAME, [Box(5, 5, 15, 15), Box(41, 5, 45, 10)])


def test_what_a_box_is_taken_to_say_is_kept_apart_from_what_was_said() -> None:
    shot = Shot.boxed(FRAME, [Box(5, 5, 15, 15)])
    assert shot.class_ids == (1,) and not (shot.said == 1).any()
    np.testing.assert_array_equal(shot.said == 0, shot.labels == 0)
    assert (Shot.boxed(FRAME, [Box(5, 5, 15, 15)], all_boxed=False).said == 255).all()
    plain = Shot(FRAME, shot.labels)
    assert plain.said is plain.labels and plain.digest == shot.digest
    with pytest.raises(MaskError, match=r"what is guessed on 'a' is \(3, 3\), its mask \(40, 50\)"):
        Shot(FRAME, shot.labels, np.zeros((3, 3), bool))
