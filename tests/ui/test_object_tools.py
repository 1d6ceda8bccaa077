"""Tools for objects in a real window: lines drawn with the mouse, seen while they are drawn, and taken back."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.utils._proxies import ReadOnlyWrapper
from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks

from napari_fewshot.segmenter import SegmenterSettings
from napari_fewshot.session.loading import LoadedSegmenter
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.keymap import KEYMAP, on_button
from napari_fewshot.ui.napari_keys import keys_of_napari
from tests.test_object_edits import DOWN_THE_LEFT, RIGHT, ROUND_LEFT, ObjectsOf, squares
from tests.ui.conftest import wait_for_threads

SCALE = (4.0, 0.5, 0.5)


def event(kind: str, position: Any, button: int = 1) -> Any:
    """What napari hands to those who listen to the mouse."""
    moved = SimpleNamespace(
        type=kind, button=button, position=position, modifiers=(), handled=False, is_dragging=kind == "mouse_move"
    )
    return ReadOnlyWrapper(moved, exceptions=("handled",))


def drag(viewer: Any, layer: Any, points: list[tuple[float, float]], button: int = 1) -> None:
    """Press, move and release the mouse over rows and columns of the slice on screen."""
    at = [(viewer.dims.point[0], *layer.data_to_world((0, *point))[1:]) for point in points]
    mouse_press_callbacks(layer, event("mouse_press", at[0], button))
    for position in at[1:]:
        mouse_move_callbacks(layer, event("mouse_move", position, button))
    mouse_release_callbacks(layer, event("mouse_release", at[-1], button))


@pytest.fixture
def window(opened: Callable[..., Any]) -> tuple[Any, Any, Any]:
    """A stack of squares whose first slice is taught; the second is on screen, with proposed objects."""
    viewer, dock = opened()
    viewer.add_image(np.stack([squares()] * 3), name="squares", scale=SCALE, translate=(7, 20, -30))
    viewer.dims.set_point(0, 7)
    session = dock.controller.session
    session._segmenter = LoadedSegmenter(session.settings, lambda settings: ObjectsOf())
    dock.controller.use_settings(SegmenterSettings(instances=True))
    dock.controller.paint()
    viewer.layers["squares labels"].data[0] = squares() == 200
    dock.controller.teach()
    dock.controller.propose()
    wait_for_threads(dock)
    dock.controller.set_refresh_after_decision(False)
    viewer.dims.set_point(0, 7 + SCALE[0])
    return viewer, dock, viewer.layers["squares objects"]


def numbers(layer: Any, z: int = 1) -> set[int]:
    return set(np.unique(layer.data[z]).tolist()) - {0}


def test_lines_drawn_with_the_mouse_split_merge_and_delete_and_undo_takes_them_back(window: Any) -> None:
    viewer, dock, layer = window
    buttons = dock.panel.buttons
    assert numbers(layer) == {1, 2} and dock.panel.objects_box.isVisibleTo(dock.panel)
    buttons[Action.SPLIT].click()
    assert buttons[Action.SPLIT].isChecked() and viewer.layers.selection.active is layer and not layer.mouse_pan
    drag(viewer, layer, DOWN_THE_LEFT)
    assert numbers(layer) == {1, 2, 3} and layer.data[1, 8, 5] != layer.data[1, 8, 10]
    assert layer.mode == "pan_zoom" and buttons[Action.SPLIT].isChecked(), "the next line can be drawn at once"

    buttons[Action.MERGE].click()
    assert not buttons[Action.SPLIT].isChecked()
    drag(viewer, layer, [(8.0, 10.0)])
    drag(viewer, layer, [RIGHT])
    assert numbers(layer) == {1, 2} and layer.data[1, 8, 10] == layer.data[1, 8, 22]

    buttons[Action.DELETE].click()
    drag(viewer, layer, ROUND_LEFT, button=2)  # the right button does nothing
    assert numbers(layer) == {1, 2}
    drag(viewer, layer, [*ROUND_LEFT[:2], (16.0, 28.0), (2.0, 28.0), (16.0, 2.0)])
    proposals = viewer.layers["squares proposals"].data[1]
    np.testing.assert_array_equal(proposals > 0, layer.data[1] > 0)
    assert numbers(layer) < {1, 2}

    for left in ({1, 2}, {1, 2, 3}, {1, 2}):
        buttons[Action.UNDO].click()
        assert numbers(layer) == left
    np.testing.assert_array_equal(viewer.layers["squares proposals"].data[1] > 0, squares() == 200)


def test_the_line_is_seen_on_its_slice_and_gone_with_the_tool(window: Any) -> None:
    viewer, dock, layer = window
    dock.panel.buttons[Action.SPLIT].click()
    before = len(viewer.layers)
    mouse_press_callbacks(layer, event("mouse_press", layer.data_to_world((1, 2, 2))))
    mouse_move_callbacks(layer, event("mouse_move", layer.data_to_world((1, 12, 9))))
    np.testing.assert_allclose(viewer.layers["squares objects: line"].data[0], [(1, 2, 2), (1, 12, 9)], atol=1e-5)
    assert viewer.layers.selection.active is layer and len(viewer.layers) == before + 1
    mouse_release_callbacks(layer, event("mouse_release", layer.data_to_world((1, 12, 9))))
    assert not len(viewer.layers["squares objects: line"].data)
    layer.mode = "paint"  # somebody takes the brush
    assert not dock.panel.buttons[Action.SPLIT].isChecked() and len(viewer.layers) == before
    dock.panel.buttons[Action.MERGE].click()
    viewer.layers.selection.active = viewer.layers["squares"]
    assert not dock.panel.buttons[Action.MERGE].isChecked() and layer.mouse_pan


def test_numbers_painted_on_a_slice_that_is_not_taught_are_edited_with_naparis_undo(window: Any) -> None:
    viewer, dock, layer = window
    dock.controller.reject()
    layer.fill((1, 8, 5), 5)
    layer.data_setitem((np.full(4, 1), np.arange(4, 8), np.full(4, 5)), 5)
    layer.data_setitem((np.full(4, 1), np.arange(4, 8), np.full(4, 6)), 6)
    painted = layer.data[1].copy()
    dock.panel.buttons[Action.MERGE].click()
    drag(viewer, layer, [(5.0, 5.0), (5.0, 6.0)])
    assert numbers(layer) == numbers(layer) - {6}
    layer.undo()
    np.testing.assert_array_equal(layer.data[1], painted)


def test_every_tool_has_its_key_on_its_button_and_none_of_naparis(window: Any) -> None:
    viewer, dock, _ = window
    taken = keys_of_napari(viewer.window._qt_window)
    for action in (Action.MERGE, Action.SPLIT, Action.DELETE, Action.LINK):
        button = dock.panel.buttons[action]
        assert button.text() == on_button(action) and f"[{KEYMAP[action]}]" in button.text()
        assert KEYMAP[action] not in taken and button.isEnabled()


def test_objects_are_linked_with_one_press(window: Any) -> None:
    _, dock, layer = window
    layer.data[1][layer.data[1] == 1] = 8
    dock.controller.edited()
    dock.panel.buttons[Action.LINK].click()
    assert numbers(layer) == {1, 2} and "through" in dock.panel.objects_box.note.text()
    np.testing.assert_array_equal(layer.data[1], layer.data[0])


def test_a_deleted_layer_of_objects_comes_back_with_the_next_proposals_and_not_before(window: Any) -> None:
    viewer, dock, layer = window
    before = layer.data.copy()
    dock.panel.buttons[Action.MERGE].click()
    viewer.layers.remove(layer)
    assert "squares objects" not in viewer.layers and not dock.panel.buttons[Action.MERGE].isChecked()
    dock.controller.propose()
    wait_for_threads(dock)
    np.testing.assert_array_equal(viewer.layers["squares objects"].data, before)


def test_a_tool_stays_in_hand_from_slice_to_slice_and_says_where_it_cannot_be_used(window: Any) -> None:
    viewer, dock, layer = window
    dock.panel.buttons[Action.SPLIT].click()
    dock.panel.buttons[Action.NEXT].click()
    assert dock.controller.sync.shown() == ("squares", 2)
    assert dock.panel.buttons[Action.SPLIT].isChecked() and viewer.layers.selection.active is layer
    drag(viewer, layer, DOWN_THE_LEFT)
    assert numbers(layer, 2) == {1, 2, 3} and numbers(layer) == {1, 2}
    viewer.dims.order = (1, 0, 2)  # a cut through the stack
    drag(viewer, layer, DOWN_THE_LEFT)
    assert dock.panel.error.isVisibleTo(dock.panel) and numbers(layer, 2) == {1, 2, 3}
