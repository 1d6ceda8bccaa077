"""Boxes of Shapes layers and the menu of what a slice contains, in a real window."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_fewshot.boxes import Box, box_labels
from napari_fewshot.ui.actions import Action
from tests.fakes import BrightnessSegmenter
from tests.ui.conftest import disk_stack, iou, wait_for_threads

SIZE = (64, 64)


def corners(top: float, left: float, bottom: float, right: float, *before: float) -> np.ndarray:
    """Corners of a rectangle in layer coordinates, whose pixels have their centres at whole numbers."""
    return np.array([[*before, y, x] for y, x in ((top, left), (top, right), (bottom, right), (bottom, left))]) - [
        *(0 for _ in before),
        0.5,
        0.5,
    ]


def press(dock: Any, action: Action) -> None:
    assert dock.panel.buttons[action].isEnabled()
    dock.panel.buttons[action].click()


def the_shot(dock: Any) -> Any:
    (shot,) = dock.controller.session.support
    return shot


def test_boxes_drawn_on_a_stack_are_taught_on_their_slice(opened: Callable[..., Any]) -> None:
    viewer, dock = opened(BrightnessSegmenter())
    image, truth = disk_stack(3)
    viewer.add_image(image, name="disks", scale=(2, 0.5, 0.5), translate=(10, 20, 30), axis_labels=("z", "y", "x"))
    viewer.dims.set_point(0, 12)  # z = 1
    press(dock, Action.BOX)
    layer = viewer.layers["disks boxes"]
    assert viewer.layers.selection.active is layer and layer.mode == "add_rectangle"
    np.testing.assert_allclose(layer.scale, (2, 0.5, 0.5))
    rows, columns = np.nonzero(truth[1])
    tight = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
    layer.add([corners(*tight, 1)], shape_type="rectangle")
    layer.add([corners(1, 1, 9, 9, 2)], shape_type="rectangle")  # on another slice
    assert "painted, not taught yet" in dock.panel.slice_line.text()
    press(dock, Action.TEACH)
    assert the_shot(dock).key == ("disks", 1)
    np.testing.assert_array_equal(the_shot(dock).labels, box_labels(SIZE, [Box(*map(float, tight))]))
    press(dock, Action.PROPOSE)
    wait_for_threads(dock)
    assert iou(viewer.layers["disks proposals"].data[2] == 1, truth[2]) > 0.9


def test_each_box_is_of_the_class_that_was_selected_and_has_its_colour(opened: Callable[..., Any]) -> None:
    viewer, dock = opened(BrightnessSegmenter())
    viewer.add_image(disk_stack(1)[0][0], name="disks")
    dock.controller.add_class()
    press(dock, Action.BOX)  # of class 2, which was added last
    layer = viewer.layers["disks boxes"]
    layer.add([corners(2, 2, 12, 12)], shape_type="rectangle")
    dock.controller.select_brush(1)
    assert layer.mode == "add_rectangle"
    layer.add([corners(30, 30, 50, 44)], shape_type="rectangle")
    layer.add([corners(0, 0, 60, 60)[:2]], shape_type="line")  # no box
    assert list(layer.features["class"][:2]) == [2, 1]
    from napari.utils.colormaps.standardize_color import transform_color

    colours = [transform_color(dock.controller.session.classes[i].colour)[0] for i in (1, 0)]
    np.testing.assert_allclose(layer.edge_color[:2], colours, atol=1e-3)
    press(dock, Action.TEACH)
    expected = box_labels(SIZE, [Box(2, 2, 12, 12, 2), Box(30, 30, 50, 44, 1)])
    np.testing.assert_array_equal(the_shot(dock).labels, expected)


def test_a_shapes_layer_of_the_persons_own_is_taken_when_it_is_selected(opened: Callable[..., Any]) -> None:
    viewer, dock = opened(BrightnessSegmenter())
    viewer.add_image(disk_stack(2)[0], name="disks", scale=(1, 0.5, 0.5))
    mine = viewer.add_shapes([corners(4, 6, 24, 26) * 0.5], shape_type="rectangle", name="mine")  # in world units
    viewer.layers.selection.active = viewer.layers["disks"]
    dock.controller.teach()
    assert "nothing is painted" in dock.panel.error_text.text().lower()
    viewer.layers.selection.active = mine
    press(dock, Action.TEACH)
    np.testing.assert_array_equal(the_shot(dock).labels, box_labels(SIZE, [Box(4, 6, 24, 26)]))
    assert list(mine.features["class"]) == [1]
    viewer.layers.selection.active = viewer.layers["disks"]
    mine.add([corners(30, 30, 50, 50) * 0.5], shape_type="rectangle")
    press(dock, Action.TEACH)
    np.testing.assert_array_equal(the_shot(dock).labels, box_labels(SIZE, [Box(4, 6, 24, 26), Box(30, 30, 50, 50)]))


@pytest.mark.parametrize(
    ("shape", "options", "before"),
    [
        ((64, 64, 3), {"rgb": True}, ()),
        ((2, 64, 64), {"axis_labels": ("c", "y", "x")}, ()),
        ((3, 2, 64, 64), {"axis_labels": ("z", "c", "y", "x")}, (1, 0)),
    ],
)
def test_boxes_fit_images_with_channels(
    opened: Callable[..., Any], shape: tuple[int, ...], options: dict[str, Any], before: tuple[int, ...]
) -> None:
    viewer, dock = opened(BrightnessSegmenter())
    viewer.add_image(np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8), name="many", **options)
    if before:
        viewer.dims.set_point(0, before[0])
    press(dock, Action.BOX)
    viewer.layers["many boxes"].add([corners(4, 6, 24, 26, *before)], shape_type="rectangle")
    press(dock, Action.TEACH)
    np.testing.assert_array_equal(the_shot(dock).labels, box_labels(SIZE, [Box(4, 6, 24, 26)]))


def test_a_boxes_layer_of_an_earlier_dock_is_found_again_and_one_that_is_deleted_is_forgotten(
    opened: Callable[..., Any],
) -> None:
    viewer, dock = opened(BrightnessSegmenter())
    viewer.add_image(disk_stack(1)[0][0], name="disks")
    press(dock, Action.BOX)
    viewer.layers["disks boxes"].add([corners(4, 6, 24, 26)], shape_type="rectangle")
    viewer.window.remove_dock_widget(dock)
    from napari_fewshot.ui.dock import FewShotDock

    again = FewShotDock(viewer)
    viewer.window.add_dock_widget(again, name="again")
    viewer.layers.selection.active = viewer.layers["disks"]
    press(again, Action.TEACH)
    assert len(again.controller.session.support) == 1
    viewer.layers.remove("disks boxes")
    again.controller.teach()
    assert "nothing is painted" in again.panel.error_text.text().lower()
    wait_for_threads(again)


def test_the_menu_says_what_a_slice_contains(opened: Callable[..., Any]) -> None:
    viewer, dock = opened(BrightnessSegmenter())
    viewer.add_image(disk_stack(3)[0], name="disks")
    viewer.dims.set_point(0, 1)
    panel, session = dock.panel, dock.controller.session
    assert panel.contains.isEnabled()
    (action,) = panel.contains.menu().actions()
    assert action.text() == "cell" and not action.isChecked()
    action.trigger()
    assert session.support.tag(("disks", 1)).class_ids == (1,)
    assert panel.images.item(0).text() == "disks  (contains cell on 1 slice)"
    assert "makes no use of what slices contain" in panel.tag_note.text() and not panel.tag_note.isHidden()
    panel.segmenter["method"].value = "fsil"
    assert panel.tag_note.text().startswith("'cell' is painted nowhere yet")
    viewer.dims.set_point(0, 2)
    assert not panel.contains.menu().actions()[0].isChecked()
    viewer.dims.set_point(0, 1)
    assert panel.contains.menu().actions()[0].isChecked()
    press(dock, Action.UNDO)
    assert not session.support.tags and not panel.contains.menu().actions()[0].isChecked()
    assert panel.images.item(0).text() == "disks" and panel.tag_note.isHidden()
