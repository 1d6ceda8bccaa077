"""Masks drawn over images, and sheets of them."""

import numpy as np
import pytest

from napari_fewshot.imaging.overlay import Panel, as_picture, beside, enlarged, outlines, overlay, sheet
from napari_fewshot.support import LabelClass

RED, BLUE = "#ff0000", "#0000ff"


def square(value: int = 1) -> np.ndarray:
    labels = np.zeros((20, 30), np.int32)
    labels[5:15, 8:22] = value
    return labels


def test_classes_are_tinted_and_outlined_in_their_colour() -> None:
    gray = np.full((20, 30, 3), 100, np.uint8)
    labels = square()
    labels[8:12, 12:18] = 2
    drawn = overlay(gray, labels, {1: RED, 2: BLUE}, opacity=0.5)
    assert drawn[5, 8].tolist() == [255, 0, 0]
    assert drawn[8, 12].tolist() == [0, 0, 255]
    assert drawn[6, 10].tolist() == [178, 50, 50]
    assert drawn[9, 14].tolist() == [50, 50, 178]
    assert (drawn[labels == 0] == 100).all()


def test_what_is_unknown_or_has_no_colour_is_not_drawn() -> None:
    gray = np.full((20, 30, 3), 100, np.uint8)
    np.testing.assert_array_equal(overlay(gray, square(255), {1: RED}), gray)
    np.testing.assert_array_equal(overlay(gray, square(7), {1: RED}), gray)


def test_drawing_changes_no_input() -> None:
    gray, labels = np.full((20, 30, 3), 100, np.uint8), square()
    overlay(gray, labels, {1: RED})
    assert (gray == 100).all()
    np.testing.assert_array_equal(labels, square())


@pytest.mark.parametrize("width", [1, 2])
def test_an_outline_has_its_width_and_runs_inside(width: int) -> None:
    found = outlines(square(), width)
    inner = np.zeros((20, 30), bool)
    inner[5 + width : 15 - width, 8 + width : 22 - width] = True
    np.testing.assert_array_equal(found, (square() > 0) & ~inner)


def test_two_classes_share_one_line_and_the_edge_of_the_image_is_none() -> None:
    labels = np.ones((10, 10), np.int32)
    labels[:, 5:] = 2
    found = outlines(labels)
    assert found[:, 5].all()
    assert found.sum() == 10


def test_unknown_pixels_have_no_outline_but_classes_have_one_against_them() -> None:
    labels = np.full((10, 10), 255, np.int32)
    assert not outlines(labels).any()
    labels[:, 5:] = 1
    assert outlines(labels)[:, 5].all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 5])
def test_images_of_any_kind_become_pictures_that_use_the_whole_range(dtype: str, channels: int | None) -> None:
    shape = (40, 50) if channels is None else (40, 50, channels)
    image = np.random.default_rng(0).integers(0, 120, shape).astype(dtype)
    picture = as_picture(image)
    assert picture.shape == (40, 50, 3)
    assert picture.dtype == np.uint8
    if channels in (None, 1):
        assert (picture[..., 0] == picture[..., 2]).all()
    if not (channels == 3 and dtype == "uint8"):
        assert picture[..., 0].min() == 0
        assert picture[..., 0].max() == 255


def test_colour_pictures_keep_their_colours_and_constant_images_are_shown_black() -> None:
    colour = np.random.default_rng(0).integers(60, 90, (40, 50, 3)).astype(np.uint8)
    np.testing.assert_array_equal(as_picture(colour), colour)
    assert not as_picture(np.full((40, 50), 7.0)).any()


def test_enlarging_keeps_labels_whole_and_in_place() -> None:
    labels = square(2)
    large = enlarged(labels, (40, 60))
    assert set(np.unique(large)) == {0, 2}
    np.testing.assert_array_equal(large[::2, ::2], labels)
    assert as_picture(labels.astype(np.uint8), (40, 60)).shape == (40, 60, 3)


def test_pictures_stand_beside_each_other() -> None:
    a, b = np.full((5, 4, 3), 10, np.uint8), np.full((5, 6, 3), 20, np.uint8)
    both = beside(a, b, gap=3)
    assert both.shape == (5, 13, 3)
    np.testing.assert_array_equal(both[:, :4], a)
    np.testing.assert_array_equal(both[:, 7:], b)


def test_a_sheet_holds_every_picture_unchanged_with_its_mark_around_it() -> None:
    pictures = [np.full((30, 40 + i, 3), 50 + i, np.uint8) for i in range(5)]
    made = sheet([Panel(p, f"panel {i}", "#eab308" if i == 2 else "") for i, p in enumerate(pictures)], 2)
    for i, picture in enumerate(pictures):
        rows, columns = np.nonzero((made == 50 + i).all(-1))
        top, left = rows.min(), columns.min()
        np.testing.assert_array_equal(made[top : top + 30, left : left + 40 + i], picture)
        framed = (made[top - 1, left] == (0xEA, 0xB3, 0x08)).all()
        assert framed == (i == 2)


def test_title_note_captions_and_legend_are_written() -> None:
    panel = Panel(np.zeros((30, 40, 3), np.uint8))
    bare = sheet([panel], 3)
    told = sheet(
        [Panel(panel.picture, "a caption that is wider than its picture")], 3,
        title="Title", note="Note", classes=[LabelClass(1, "cell", RED)], marks={BLUE: "taught"},
    )  # fmt: skip
    assert told.shape[0] > bare.shape[0] + 70
    assert told.shape[1] > bare.shape[1] + 100
    assert (told == (255, 0, 0)).all(-1).sum() >= 14 * 14  # the filled box of the class
    assert 0 < (told == (0, 0, 255)).all(-1).sum() < 14 * 14  # the empty box of the mark
    ink = (told.min(-1) > 200).sum()
    assert ink > 300


def test_a_sheet_without_panels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one panel"):
        sheet([], 2)
