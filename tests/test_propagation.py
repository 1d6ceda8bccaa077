from collections.abc import Iterator
from itertools import count, islice

import numpy as np
import pytest

from napari_fewshot import Frame, PropagationSettings, Shot, SupportSet, propagate
from napari_fewshot.errors import ImageError, SupportError
from napari_fewshot.propagation import FrameFailure, keep_human
from tests.fakes import BrightnessSegmenter


def square(key: str, corner: int = 4, side: int = 6) -> Frame:
    """(16, 16) dark image with a bright square."""
    image = np.full((16, 16), 20, np.uint8)
    image[corner : corner + side, corner : corner + side] = 200
    return Frame(key, image)


def truth(frame: Frame) -> np.ndarray:
    return (frame.read() > 100).astype(np.int32)


TAUGHT = square("taught")
SUPPORT = SupportSet([Shot(TAUGHT, truth(TAUGHT))])


def test_what_was_taught_on_one_frame_is_found_on_another() -> None:
    other = square("other", corner=9, side=3)
    (proposal,) = propagate(BrightnessSegmenter(), SUPPORT, [other])
    assert proposal.key == "other"
    np.testing.assert_array_equal(proposal.labels, truth(other))


def test_proposals_come_in_the_order_of_the_frames_and_learning_happens_once() -> None:
    segmenter = BrightnessSegmenter()
    keys = [p.key for p in propagate(segmenter, SUPPORT, [square(k) for k in "cab"])]
    assert keys == ["c", "a", "b"]
    assert segmenter.learnt == [SUPPORT]


def test_frames_are_taken_one_at_a_time_even_from_an_endless_iterator() -> None:
    made = []

    def endless() -> Iterator[Frame]:
        for number in count():
            made.append(number)
            yield square(str(number))

    proposals = propagate(BrightnessSegmenter(), SUPPORT, endless())
    assert made == []  # nothing happens before somebody asks
    assert [p.key for p in islice(proposals, 3)] == ["0", "1", "2"]
    assert made == [0, 1, 2]


def test_with_nothing_taught_the_first_item_raises() -> None:
    proposals = propagate(BrightnessSegmenter(), SupportSet(), [square("a")])
    with pytest.raises(SupportError, match="nothing has been taught yet"):
        next(proposals)


def test_a_frame_on_which_every_pixel_was_labelled_is_left_out_unless_asked_for() -> None:
    frames = [TAUGHT, square("other")]
    everywhere = PropagationSettings(skip_taught=False)
    assert [p.key for p in propagate(BrightnessSegmenter(), SUPPORT, frames)] == ["other"]
    assert [p.key for p in propagate(BrightnessSegmenter(), SUPPORT, frames, everywhere)] == ["taught", "other"]


def test_pixels_that_a_person_labelled_on_a_partly_labelled_frame_keep_their_label() -> None:
    strokes = np.full((16, 16), 255)
    strokes[5, 5] = 0  # bright, yet the person says background
    strokes[0, 0] = 1  # dark, yet the person says class 1
    partly = square("partly")
    (proposal,) = propagate(BrightnessSegmenter(), SUPPORT.with_shot(Shot(partly, strokes)), [partly])
    expected = truth(partly)
    expected[5, 5], expected[0, 0] = 0, 1
    np.testing.assert_array_equal(proposal.labels, expected)


def test_small_objects_are_dropped_but_not_those_a_person_painted() -> None:
    image = np.full((16, 16), 20, np.uint8)
    image[2, 2] = image[8:12, 8:12] = 200
    strokes = np.full((16, 16), 255)
    strokes[14, 14] = 1
    frame = Frame("partly", image)
    support = SUPPORT.with_shot(Shot(frame, strokes))
    (proposal,) = propagate(BrightnessSegmenter(), support, [frame], PropagationSettings(min_area=4))
    expected = np.zeros((16, 16), np.int32)
    expected[8:12, 8:12] = expected[14, 14] = 1
    np.testing.assert_array_equal(proposal.labels, expected)


def test_a_frame_that_cannot_be_used_stops_the_run() -> None:
    proposals = propagate(BrightnessSegmenter(), SUPPORT, [square("a"), Frame("tiny", np.zeros((3, 3))), square("b")])
    assert next(proposals).key == "a"
    with pytest.raises(ImageError, match="'tiny' is 3 x 3 pixels"):
        next(proposals)


def test_with_a_listener_for_failures_the_run_goes_on() -> None:
    failures: list[FrameFailure] = []
    frames = [square("a"), Frame("tiny", np.zeros((3, 3))), square("b")]
    keys = [p.key for p in propagate(BrightnessSegmenter(), SUPPORT, frames, on_failure=failures.append)]
    assert keys == ["a", "b"]
    assert [f.key for f in failures] == ["tiny"]
    assert "at least 16 x 16 are needed" in failures[0].message


def test_a_defect_is_not_mistaken_for_a_frame_that_cannot_be_used() -> None:
    def broken() -> np.ndarray:
        raise ZeroDivisionError

    proposals = propagate(BrightnessSegmenter(), SUPPORT, [Frame("a", broken)], on_failure=lambda failure: None)
    with pytest.raises(ZeroDivisionError):
        next(proposals)


def test_progress_is_told_before_each_tile_of_what_is_at_work() -> None:
    told: list[tuple[object, int, int]] = []
    frames = [square("a"), square("b")]
    list(propagate(BrightnessSegmenter(tiles=2), SUPPORT, frames, progress=lambda *at: told.append(at)))
    assert told == [(key, done, 2) for key in (None, "a", "b") for done in (0, 1)]


@pytest.mark.parametrize("at", [(None, 1), ("a", 0), ("b", 1)])
def test_what_progress_raises_ends_the_propagation_there(at: tuple[str | None, int]) -> None:
    class EnoughError(Exception):
        pass

    def give_up(key: object, done: int, total: int) -> None:
        if (key, done) == at:
            raise EnoughError

    segmenter, keys, failures = BrightnessSegmenter(tiles=2), [], []
    frames = [square("a"), square("b"), square("c")]
    with pytest.raises(EnoughError):
        keys.extend(p.key for p in propagate(segmenter, SUPPORT, frames, on_failure=failures.append, progress=give_up))
    expected = {None: [], "a": [], "b": ["a"]}
    assert keys == expected[at[0]] and failures == []
    assert segmenter.tiles_seen.count(at[0] or "taught") == at[1]


def test_a_negative_area_is_refused() -> None:
    with pytest.raises(ValueError, match="min_area is -1 pixels; use 0 or more"):
        PropagationSettings(min_area=-1)


def test_human_pixels_go_over_proposed_ones_in_a_new_array() -> None:
    proposed = np.array([[1, 1, 0]], np.int32)
    kept = keep_human(proposed, np.array([[255, 0, 2]], np.int32))
    assert kept.tolist() == [[1, 0, 2]]
    assert proposed.tolist() == [[1, 1, 0]]
