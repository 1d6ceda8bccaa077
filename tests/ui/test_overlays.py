"""Pictures of doubt over the slice on screen, in a real window."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_fewshot.support import LabelClass
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.layer_link import LayerLink
from napari_fewshot.ui.state import Overlay, OverlayPicture
from tests.fakes import BrightnessSegmenter
from tests.ui.conftest import propose_on_disks, wait_until

VALUES = np.linspace(0, 1, 64 * 48, dtype=np.float32).reshape(64, 48)


def layers_of_overlays(viewer: Any) -> list[Any]:
    return [layer for layer in viewer.layers if layer.metadata.get("napari_fewshot") == "overlay"]


def overlays(viewer: Any) -> list[Any]:
    """Those that are to be seen."""
    return [layer for layer in layers_of_overlays(viewer) if layer.visible]


def test_a_key_lays_the_uncertainty_over_the_proposal_and_takes_it_away(opened: Callable[..., Any]) -> None:
    viewer, dock = opened(BrightnessSegmenter(), show=True)
    propose_on_disks(viewer, dock, 3)
    viewer.dims.set_point(0, 1)
    viewer.layers.selection.active = viewer.layers["disks proposals"]
    window, canvas = viewer.window._qt_window, viewer.window._qt_viewer.canvas.native
    window.activateWindow()
    wait_until(lambda: QApplication.activeWindow() is window, 20)

    def press(key: Qt.Key) -> None:
        QTest.keyClick(canvas, key, Qt.KeyboardModifier.ShiftModifier)
        QApplication.processEvents()

    press(Qt.Key.Key_F)
    (layer,) = overlays(viewer)
    assert layer.name == "disks uncertainty" and 0 < layer.data.max() <= 1
    assert viewer.layers.selection.active is viewer.layers["disks proposals"], "one can go on painting"
    assert dock.panel.buttons[Action.UNCERTAINTY].isChecked() and "Red" in dock.panel.overlay_note.text()
    assert [image.name for image in dock.panel._shown.images] == ["disks"], "it is no image to label"
    viewer.dims.set_point(0, 2)
    assert overlays(viewer) == [layer] and layer.data_to_world((0, 0, 0))[0] == 2
    viewer.dims.set_point(0, 0)
    assert not overlays(viewer), "what is taught is not in doubt"
    viewer.dims.set_point(0, 1)
    press(Qt.Key.Key_C)
    assert overlays(viewer) == [layer] == layers_of_overlays(viewer), "one layer is enough for all pictures"
    assert layer.colormap.name == "fewshot probability" and tuple(layer.contrast_limits) == (0, 1)
    assert layer.name == "disks probability of cell" and not dock.panel.buttons[Action.UNCERTAINTY].isChecked()
    press(Qt.Key.Key_C)
    assert not overlays(viewer) and dock.panel.overlay_note.isHidden()


def test_deleting_its_layer_switches_it_off_and_a_persons_layer_of_that_name_is_left_alone(
    opened: Callable[..., Any],
) -> None:
    viewer, dock = opened(BrightnessSegmenter())
    propose_on_disks(viewer, dock, 3)
    mine = viewer.add_labels(np.ones((3, 64, 64), np.uint16) * 300, name="disks uncertainty")
    viewer.layers.selection.active = viewer.layers["disks"]
    viewer.dims.set_point(0, 1)
    button = dock.panel.buttons[Action.UNCERTAINTY]
    button.click()
    (layer,) = overlays(viewer)
    assert layer is not mine and button.isChecked()
    viewer.layers.remove(layer)
    assert not button.isChecked()
    button.click()
    assert len(overlays(viewer)) == 1
    button.click()
    assert not overlays(viewer) and mine in viewer.layers and (mine.data == 300).all()


def test_it_goes_with_its_image_and_with_the_dock(opened: Callable[..., Any]) -> None:
    viewer, dock = opened(BrightnessSegmenter())
    propose_on_disks(viewer, dock, 2)
    viewer.dims.set_point(0, 1)
    dock.panel.buttons[Action.UNCERTAINTY].click()
    viewer.layers.remove("disks")
    assert not layers_of_overlays(viewer)
    propose_on_disks(viewer, dock, 2)
    viewer.dims.set_point(0, 1)
    if not overlays(viewer):
        dock.panel.buttons[Action.UNCERTAINTY].click()
    assert overlays(viewer)
    dock.panel.buttons[Action.UNCERTAINTY].click()
    assert layers_of_overlays(viewer) and not overlays(viewer)
    viewer.window.remove_dock_widget(dock)
    assert not layers_of_overlays(viewer)


@pytest.mark.parametrize(
    ("shape", "options", "key"),
    [
        ((64, 48), {"scale": (2, 0.5), "rotate": 30, "translate": (5, 7)}, ("a",)),
        ((3, 64, 48), {"scale": (4, 2, 0.5), "translate": (9, 5, 7)}, ("a", 2)),
        ((64, 48, 3), {"rgb": True}, ("a",)),
        ((3, 64, 48), {"affine": np.array([[2, 0, 0, 1], [0, 1, 0.2, 3], [0, 0.3, 1, 0], [0, 0, 0, 1.0]])}, ("a", 1)),
        ((3, 64, 48), {"shear": (0.1, 0.3, 0.2), "scale": (2, 1, 3)}, ("a", 2)),
        ((2, 4, 64, 48), {"axis_labels": ("c", "z", "y", "x"), "scale": (1, 3, 1, 1)}, ("a", 3)),
        ((4, 2, 64, 48), {"axis_labels": ("z", "c", "y", "x"), "scale": (3, 1, 1, 1)}, ("a", 3)),
    ],
)
def test_the_picture_lies_where_its_slice_lies(
    make_napari_viewer: Callable[..., Any], shape: tuple[int, ...], options: dict[str, Any], key: Any
) -> None:
    viewer = make_napari_viewer()
    image = viewer.add_image(np.zeros(shape, np.uint8), name="a", **options)
    link = LayerLink(viewer)
    link.set_classes((LabelClass(1, "cell"),))
    link.show_overlay(key, OverlayPicture(Overlay.UNCERTAINTY, "uncertainty", VALUES))
    (layer,) = overlays(viewer)
    assert isinstance(layer, Image)
    linked = link._images["a"]
    for y, x in ((0, 0), (63, 47), (10, 30)):
        of_image = np.zeros(image.ndim)
        of_image[list(linked.layout.sliders)], of_image[list(linked.layout.plane)] = key[1:], (y, x)
        of_layer = np.zeros(layer.ndim)
        of_layer[-2:] = y, x
        there = np.asarray(image.data_to_world(of_image))[-layer.ndim :]
        np.testing.assert_allclose(layer.data_to_world(of_layer), there, atol=1e-9)
    np.testing.assert_array_equal(layer.data[(*(0 for _ in layer.data.shape[:-2]), ...)], VALUES)
    first = (key[0], *(0 for _ in key[1:]))
    link.show_overlay(first, OverlayPicture(Overlay.UNCERTAINTY, "uncertainty", VALUES / 2))
    assert overlays(viewer) == [layer] and layer.data.max() == 0.5, "the same layer is used again"
    link.hide_overlay()
    assert not overlays(viewer)
    link.close()
