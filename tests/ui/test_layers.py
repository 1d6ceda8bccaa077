"""Image layers of every kind in a real viewer: which frame is on screen, and where its labels lie."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels
from napari.utils.colormaps import DirectLabelColormap

from napari_fewshot.io.layers import write_layer
from napari_fewshot.session import FrameState
from napari_fewshot.ui.ports import PAINTED_BACKGROUND
from tests.fakes import BrightnessSegmenter
from tests.ui.conftest import disk_stack, propose_on_disks, wait_for_threads


@pytest.fixture
def window(opened: Callable[..., Any]) -> tuple[Any, Any]:
    viewer, dock = opened(BrightnessSegmenter())
    return viewer, dock


SHAPES = {
    "2D": {"data": np.zeros((40, 50))},
    "RGB": {"data": np.zeros((40, 50, 3), np.uint8), "rgb": True},
    "ZYX": {"data": np.zeros((4, 40, 50))},
    "TZYX": {"data": np.zeros((2, 3, 40, 50), np.uint16)},
    "Z RGB": {"data": np.zeros((4, 40, 50, 3), np.uint8), "rgb": True},
    "CZYX": {"data": np.zeros((2, 3, 40, 50)), "axis_labels": ("c", "z", "y", "x")},
    "ZCYX": {"data": np.zeros((3, 2, 40, 50)), "axis_labels": ("z", "channel", "y", "x")},
    "scaled": {"data": np.zeros((4, 40, 50)), "scale": (3.0, 0.5, 0.25), "translate": (10, -5, 7)},
    "rotated": {"data": np.zeros((40, 50)), "rotate": 30, "shear": [0.2], "scale": (2, 2)},
    "affine": {
        "data": np.zeros((4, 40, 50)),
        "affine": np.array([[2, 0, 0, 1], [0, 0.9, -0.1, 3], [0, 0.1, 0.9, 0], [0, 0, 0, 1.0]]),
    },
    "dask": {"data": da.zeros((4, 40, 50), chunks=(1, 40, 50))},
    "multiscale": {"data": [np.zeros((4, 64, 64)), np.zeros((4, 32, 32))], "multiscale": True},
    "bool": {"data": np.zeros((4, 40, 50), bool)},
    "in nanometres": {"data": np.zeros((4, 40, 50)), "units": ("um", "nm", "nm"), "scale": (2, 100, 100)},
}


@pytest.mark.parametrize("kind", SHAPES)
def test_labels_lie_where_their_image_lies_and_every_slice_can_be_painted(window: Any, kind: str) -> None:
    viewer, dock = window
    image = viewer.add_image(name="image", **SHAPES[kind])
    frames = list(dock.controller.session.frames.values())
    dock.controller.paint()
    assert not dock.panel.error_text.text()
    labels = viewer.layers["image labels"]
    dropped = image.ndim - labels.ndim
    assert labels.data.dtype == np.uint8
    np.testing.assert_allclose(labels.extent.world[:, -2:], image.extent.world[:, -2:])
    np.testing.assert_allclose(
        labels.data_to_world(np.arange(labels.ndim)),
        np.asarray(image.data_to_world(np.arange(-dropped, labels.ndim)))[dropped:],
    )
    assert tuple(labels.units) == tuple(image.units[dropped:])
    assert tuple(labels.axis_labels) == tuple(image.axis_labels[dropped:])
    for number, frame in enumerate(frames, start=1):
        dock._parts.link.go_to(frame.key)
        assert dock._parts.link.shown() == frame.key
        assert frame.image.shape == frame.read().shape
        center = labels.world_to_data(_center(viewer, image))
        labels.paint(tuple(int(np.round(c)) for c in center), number)
        painted = dock._parts.link.painted(frame.key)
        assert painted.shape == frame.read().shape[:2] and (painted == number).any()
    layout = dock._parts.link._images["image"].layout
    stack = layout.stack_of(labels.data).reshape(len(frames), -1)
    assert [set(np.unique(plane)) - {0} for plane in stack] == [{n} for n in range(1, len(frames) + 1)]


def _center(viewer: Any, image: Any) -> np.ndarray:
    """World position of the middle of the slice on screen."""
    point = np.array(viewer.dims.point, float)
    middle = np.asarray(image.extent.world).mean(axis=0)
    point[-2:] = middle[-2:]
    if image.ndim > 2 and tuple(map(str, image.units)) != tuple(map(str, viewer.dims.units))[-image.ndim :]:
        factor = [(1 * a).to(b).magnitude for a, b in zip(viewer.dims.units[-image.ndim :], image.units, strict=True)]
        point[-image.ndim : -2] *= factor[:-2]
    return point[-image.ndim :]


def test_layers_of_different_dimensions_and_scales_are_told_apart(window: Any) -> None:
    viewer, dock = window
    viewer.add_image(np.zeros((3, 4, 30, 30)), name="movie", scale=(1, 2, 1, 1))
    stack = viewer.add_image(np.zeros((4, 30, 30)), name="stack", scale=(2, 1, 1))
    flat = viewer.add_image(np.zeros((30, 30)), name="flat")
    link = dock._parts.link
    for t, z in itertools.product(range(3), range(4)):
        viewer.dims.set_point((0, 1), (t, 2 * z))
        for name, key in {"movie": ("movie", t, z), "stack": ("stack", z), "flat": ("flat",)}.items():
            viewer.layers.selection.active = viewer.layers[name]
            assert link.shown() == key
    stack.visible = flat.visible = False
    viewer.layers.selection.clear()
    assert link.shown() == ("movie", 2, 3)


def test_going_to_another_image_shows_it_and_hides_the_one_over_it(window: Any) -> None:
    viewer, dock = window
    below = viewer.add_image(np.zeros((30, 30)), name="below")
    above = viewer.add_image(np.zeros((30, 30)), name="above")
    dock._parts.link.go_to(("below",))
    assert below.visible and not above.visible
    assert dock._parts.link.shown() == ("below",)


def test_names_follow_the_layer_and_its_axis_labels(window: Any) -> None:
    viewer, dock = window
    layer = viewer.add_image(np.zeros((2, 3, 30, 30)), name="movie")
    assert dock._parts.link.name(("movie", 1, 2)) == "movie [1, 2]"
    layer.axis_labels = ("t", "z", "y", "x")
    layer.name = "film"
    assert dock._parts.link.name(("movie", 1, 2)) == "film [t=1, z=2]"
    assert dock.panel.images.item(0).text() == "film"


def test_two_layers_of_one_name_after_another_are_different_images(window: Any) -> None:
    viewer, dock = window
    viewer.add_image(np.zeros((30, 30)), name="a")
    viewer.layers.remove("a")
    viewer.add_image(np.zeros((30, 30)), name="a")
    assert list(dock.controller.session.frames) == [("a (2)",)]


def test_the_3d_view_and_rolled_axes_say_what_to_do(window: Any) -> None:
    viewer, dock = window
    viewer.add_image(np.zeros((20, 30, 40)), name="stack")
    viewer.dims.ndisplay = 3
    assert dock.panel.next_step.text().startswith("This is the 3D view; switch to 2D")
    viewer.dims.ndisplay = 2
    viewer.dims.order = (1, 0, 2)
    told = dock.panel.next_step.text()
    assert told.startswith("This is a cut through 'stack'") and "roll the axes back to look at slices" in told
    viewer.dims.order = (0, 2, 1)  # the same plane, mirrored
    assert dock.panel.next_step.text().startswith("Paint 'cell' on 'stack [")


def test_a_slider_outside_of_the_image_says_so(window: Any) -> None:
    viewer, dock = window
    viewer.add_image(np.zeros((3, 30, 30)), name="short")
    viewer.add_image(np.zeros((9, 30, 30)), name="long")
    viewer.layers.selection.active = viewer.layers["short"]
    viewer.dims.set_point(0, 8)
    assert "'short' has no slice at this slider position" in dock.panel.next_step.text()


def test_a_channel_axis_can_be_chosen_and_taken_back(window: Any) -> None:
    viewer, dock = window
    viewer.add_image(np.zeros((2, 5, 30, 30)), name="image")
    assert len(dock.controller.session.frames) == 10
    dock.controller.paint()
    viewer.layers["image labels"].data[0, 0, 5, 5] = 1
    box = dock.panel.axes.findChild(object, "image")
    box.setCurrentIndex(1)
    box.activated.emit(1)
    assert list(dock.controller.session.frames) == [("image", z) for z in range(5)]
    assert dock.controller.session.frame(("image", 0)).read().shape == (30, 30, 2)
    dock.controller.paint()
    assert sum(isinstance(layer, Labels) for layer in viewer.layers) == 2, "the earlier paint is still there"
    assert viewer.layers.selection.active.data.shape == (5, 30, 30)
    dock.controller.set_channel_axis("image", None)
    assert len(dock.controller.session.frames) == 10


def test_labels_that_are_there_already_are_used(window: Any) -> None:
    viewer, dock = window
    image, truth = disk_stack(3)
    viewer.add_image(image, name="disks")
    mine = viewer.add_labels(truth.astype(np.int64), name="disks labels")
    viewer.dims.set_point(0, 1)
    dock.controller.teach()
    assert not dock.panel.error_text.text()
    np.testing.assert_array_equal(dock.controller.session.labels(("disks", 1)), truth[1])
    assert isinstance(mine.colormap, DirectLabelColormap)
    assert mine.metadata["napari_fewshot"] == "labels"
    assert sum(isinstance(layer, Labels) for layer in viewer.layers) == 1


def test_painted_background_is_zero_in_a_file_that_napari_saves(window: Any, tmp_path: Path) -> None:
    viewer, dock = window
    viewer.add_image(np.zeros((30, 30)), name="disks")
    dock.controller.paint()
    labels = viewer.layers["disks labels"]
    labels.data[:5], labels.data[5:9] = 1, PAINTED_BACKGROUND
    data, attributes, _ = labels.as_layer_data_tuple()
    write_layer(str(tmp_path / "disks.tif"), data, attributes)
    np.testing.assert_array_equal(np.unique(tifffile.imread(tmp_path / "disks.tif")), (0, 1))
    assert (labels.data == PAINTED_BACKGROUND).any()


def test_labels_of_another_size_are_left_alone(window: Any) -> None:
    viewer, dock = window
    viewer.add_image(np.zeros((3, 30, 30)), name="disks")
    other = viewer.add_labels(np.zeros((30, 31), int), name="disks labels")
    dock.controller.paint()
    assert viewer.layers.selection.active is not other
    assert viewer.layers.selection.active.data.shape == (3, 30, 30)


def test_labels_whose_data_were_replaced_by_others_say_so(window: Any) -> None:
    viewer, dock = window
    viewer.add_image(np.zeros((30, 30)), name="disks")
    dock.controller.paint()
    viewer.layers["disks labels"].data = np.zeros((20, 20), np.uint8)
    dock.controller.teach()
    assert "'disks labels' has shape (20, 20)" in dock.panel.error_text.text()


def test_an_image_that_gets_other_data_gets_other_frames(window: Any) -> None:
    viewer, dock = window
    layer = viewer.add_image(np.zeros((3, 30, 30)), name="disks")
    layer.data = np.zeros((5, 30, 30))
    assert len(dock.controller.session.frames) == 5


def test_proposals_do_not_outlive_an_image_of_another_size(window: Any) -> None:
    viewer, dock = window
    image, truth = disk_stack(3)
    layer = viewer.add_image(image, name="disks")
    viewer.dims.set_point(0, 0)
    dock.controller.paint()
    viewer.layers["disks labels"].data[0] = truth[0]
    dock.controller.teach()
    dock.controller.propose()
    wait_for_threads(dock)
    assert len(dock.controller.session.review_queue()) == 2
    layer.data = np.pad(image, ((0, 0), (0, 8), (0, 0)))
    assert dock.controller.session.review_queue() == []
    assert len(dock.controller.session.support) == 1, "what was learnt is not forgotten"
    viewer.dims.set_point(0, 1)
    dock.controller.propose()
    wait_for_threads(dock)
    proposals = [layer for layer in viewer.layers if "proposals" in layer.name]
    assert [layer.data.shape for layer in proposals] == [(3, 72, 64)] and not dock.panel.error_text.text()


def test_no_channel_axis_reads_none(window: Any) -> None:
    viewer, dock = window
    viewer.add_image(np.zeros((2, 5, 30, 30)), name="image")
    box = dock.panel.axes.findChild(object, "image")
    assert box.currentText() == "none"


def test_class_colours_are_those_of_the_layers(window: Any) -> None:
    viewer, dock = window
    viewer.add_image(np.zeros((30, 30)), name="disks")
    dock.controller.paint()
    dock.controller.add_class()
    layer = viewer.layers["disks labels"]
    for shown in dock.controller.session.classes:
        expected = tuple(int(shown.colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        np.testing.assert_allclose(layer.get_color(shown.id)[:3], expected, atol=1 / 255)
    assert layer.get_color(PAINTED_BACKGROUND)[3] == 1
    assert list(layer.features["name"]) == ["not painted", "cell", "class 2", "background"]


def test_accepting_is_one_step_of_the_layers_own_undo(window: Any) -> None:
    viewer, dock = window
    propose_on_disks(viewer, dock)
    labels = viewer.layers["disks labels"]
    dock.controller.set_accept_score(0.0)
    dock.controller.accept_above()
    assert labels.data[1].any() and labels.data[2].any()
    labels.undo()
    assert not labels.data[1:].any() and labels.data[0].any()
    labels.redo()
    assert labels.data[1].any() and labels.data[2].any()


def test_napari_undo_and_redo_on_a_proposal_are_corrections(window: Any) -> None:
    viewer, dock = window
    propose_on_disks(viewer, dock)
    viewer.dims.set_point(0, 1)
    proposals = viewer.layers["disks proposals"]
    before = proposals.data[1].copy()
    proposals.paint((1, 50, 8), 1)
    painted = proposals.data[1].copy()
    viewer.dims.set_point(0, 2)  # leaving the slice takes the correction in
    assert dock.controller.session.state(("disks", 1)) is FrameState.CORRECTED
    viewer.dims.set_point(0, 1)
    proposals.visible = False
    proposals.undo()
    dock.controller.accept()
    np.testing.assert_array_equal(viewer.layers["disks labels"].data[1], before)
    assert (painted != before).any()


def test_many_pixels_are_accepted_without_filling_the_memory_with_undo_records(
    window: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_fewshot.ui.label_layers._HISTORY_PIXELS", 10)
    viewer, dock = window
    propose_on_disks(viewer, dock)
    labels = viewer.layers["disks labels"]
    dock.controller.set_accept_score(0.0)
    dock.controller.accept_above()
    assert labels.data[1].any() and not labels._undo_history
    dock.controller.undo()
    assert not labels.data[1:].any()


def test_a_hidden_image_is_not_the_one_on_screen(window: Any) -> None:
    viewer, dock = window
    viewer.add_image(np.zeros((30, 30)), name="a")
    top = viewer.add_image(np.zeros((30, 30)), name="b")
    viewer.layers.selection.clear()
    assert dock._parts.link.shown() == ("b",)
    top.visible = False
    assert dock._parts.link.shown() == ("a",)


def test_other_layers_are_no_images_to_label(window: Any) -> None:
    viewer, dock = window
    viewer.add_points(np.zeros((3, 2)))
    viewer.add_shapes([np.array([[0, 0], [5, 5]])], shape_type="line")
    viewer.add_labels(np.zeros((30, 30), int))
    assert dock.panel.images.count() == 0
    assert dock.panel.next_step.text().startswith("Open an image")
    assert not any(isinstance(layer, Image) for layer in viewer.layers)
