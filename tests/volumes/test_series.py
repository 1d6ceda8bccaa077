"""Which frames follow each other."""

import numpy as np
import pytest

from napari_fewshot.errors import SettingsError
from napari_fewshot.frames import Frame, Stack
from napari_fewshot.volumes.consistency import reach_of
from napari_fewshot.volumes.series import USUAL_STEP, is_wanted, place_along, series_along
from napari_fewshot.volumes.settings import VolumeSettings

IMAGE = np.zeros((16, 16), np.uint8)


def _movie(axes: str = "TZ", steps: tuple[float | None, ...] = (10.0, 2.0)) -> list[Frame]:
    stack = Stack(lambda: [], axes, steps)
    return [Frame(("movie", t, z), IMAGE, (0.5, 0.5), stack) for t in range(3) for z in range(4)]


def test_a_movie_of_stacks_has_a_series_of_slices_for_each_time_point():
    along_z = series_along(_movie(), "Z")
    assert list(along_z) == [("movie", t, -1) for t in range(3)]
    assert [list(series.frames) for series in along_z.values()] == [[0, 1, 2, 3]] * 3
    assert {series.step for series in along_z.values()} == {4.0}


def test_a_movie_of_stacks_has_a_series_of_time_points_for_each_slice():
    along_t = series_along(_movie(), "T")
    assert list(along_t) == [("movie", -1, z) for z in range(4)]
    assert {series.step for series in along_t.values()} == {USUAL_STEP}  # seconds are not micrometres


@pytest.mark.parametrize(("along", "place"), [("Z", (("movie", 2, -1), 3)), ("T", (("movie", -1, 3), 2)), ("P", None)])
def test_where_nothing_is_known_of_axes_time_is_first_and_depth_last(along, place):
    assert place_along(Frame(("movie", 2, 3), IMAGE), along) == place


def test_the_only_axis_of_a_stack_is_the_one_that_is_asked_for_unless_it_is_known():
    assert place_along(Frame(("stack", 3), IMAGE), "T") == (("stack", -1), 3)
    assert place_along(Frame.of_stack("stack", [IMAGE] * 5)[3], "T") is None
    assert place_along(Frame.of_stack("stack", [IMAGE] * 5, axis="T")[3], "T") == (("stack", -1), 3)


def test_a_picture_is_in_no_series():
    assert series_along([Frame("picture", IMAGE), Frame(("a", "b"), IMAGE)], "Z") == {}


def test_the_step_is_counted_in_pixels_whatever_the_unit():
    micrometres = series_along(Frame.of_stack("s", [IMAGE] * 2, (0.5, 0.5), step=2.0), "Z")
    nanometres = series_along(Frame.of_stack("s", [IMAGE] * 2, (500.0, 500.0), step=2000.0), "Z")
    assert [s.step for s in micrometres.values()] == [s.step for s in nanometres.values()] == [4.0]


def test_more_slices_count_where_they_lie_close_together():
    assert [reach_of(step) for step in (0.1, 1, 2, 3, 4, 10)] == [4, 4, 4, 3, 2, 2]


def test_the_range_leaves_out_slices_but_no_pictures():
    settings = VolumeSettings("z", first=1, last=2)
    wanted = [frame.key for frame in Frame.of_stack("s", [IMAGE] * 4) if is_wanted(frame, settings)]
    assert wanted == [("s", 1), ("s", 2)]
    assert is_wanted(Frame("picture", IMAGE), settings)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"along": "zz"}, "along 'zz'; say z, t"),
        ({"along": "y"}, "say z, t"),
        ({"first": -1}, "count from 0"),
        ({"first": 5, "last": 3}, "ends at 3, before it begins at 5"),
        ({"min_extent": 0}, "at least 1 and 0"),
        ({"fill_gaps": -1}, "at least 1 and 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changed, message):
    with pytest.raises(SettingsError, match=message):
        VolumeSettings(**changed)


def test_without_an_axis_nothing_has_neighbours():
    stack = Frame.of_stack("stack", [IMAGE] * 5)
    assert place_along(stack[3], "") is None and place_along(Frame(("image",), IMAGE), "") is None
    assert is_wanted(Frame(("image",), IMAGE), VolumeSettings())
