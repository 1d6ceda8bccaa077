"""The main job in the real napari window, from a sample to files that are read back."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication
from scipy import ndimage as ndi
from skimage import data
from skimage.filters import sobel
from skimage.segmentation import watershed

from napari_fewshot.session import FrameState, Session
from napari_fewshot.support import LabelClass
from napari_fewshot.ui.actions import DEFAULT_KEYS, Action
from napari_fewshot.ui.dock import FewShotDock
from napari_fewshot.ui.ports import ExportRequest
from tests.fakes import BrightnessSegmenter
from tests.ui.conftest import disk_stack, iou, propose_on_disks, wait_for_threads, wait_until


def coin_stack() -> tuple[np.ndarray, np.ndarray]:
    """Three windows of scikit-image's coins (Z, Y, X), and where the coins are."""
    image = data.coins()
    markers = np.select([image < 30, image > 150], [1, 2])  # no threshold alone: the light falls from one side
    coins = ndi.binary_fill_holes(watershed(sobel(image), markers) == 2)
    windows = [slice(i * 60, i * 60 + 96) for i in range(3)]
    return np.stack([image[rows, 20:148] for rows in windows]), np.stack([coins[rows, 20:148] for rows in windows])


def press(dock: Any, action: Action) -> None:
    """Click a button of the dock."""
    button = dock.panel.buttons[action]
    assert button.isEnabled(), (
        f"{action} cannot be pressed: {dock.panel.next_step.text()} {dock.panel.error_text.text()}"
    )
    button.click()


def drag_on_canvas(viewer: Any, start: tuple[float, ...], end: tuple[float, ...]) -> None:
    """Press, move and release the mouse over world positions (y, x) of the canvas."""
    qt_viewer = viewer.window._qt_viewer
    widget = qt_viewer.canvas.native

    def to_canvas(point: tuple[float, ...]) -> QPointF:
        transform = qt_viewer.canvas.view.scene.transform
        x, y, *_ = transform.map([point[1], point[0], 0, 1])
        return QPointF(float(x), float(y))

    def send(kind: QEvent.Type, at: QPointF, button: Qt.MouseButton, buttons: Qt.MouseButton) -> None:
        place = QPointF(widget.mapToGlobal(at.toPoint()))
        event = QMouseEvent(kind, at, place, button, buttons, Qt.KeyboardModifier.NoModifier)
        QApplication.sendEvent(widget, event)

    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
    a, b = to_canvas(start), to_canvas(end)
    send(QEvent.Type.MouseMove, a, none, none)
    send(QEvent.Type.MouseButtonPress, a, left, left)
    for step in np.linspace(0, 1, 6):
        send(QEvent.Type.MouseMove, a + (b - a) * float(step), none, left)
    send(QEvent.Type.MouseButtonRelease, b, left, none)
    QApplication.processEvents()


def test_from_a_sample_to_files(opened: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the segmenter that the dock loads by itself."""
    viewer, dock = opened(show=True)
    image, coins = coin_stack()
    viewer.add_image(image, name="coins", scale=(2.0, 0.5, 0.5), units=("um", "um", "um"))
    viewer.dims.set_point(0, 0)
    assert dock.panel.next_step.text().startswith("Paint 'cell' on 'coins [0]'")

    # paint: a stroke by mouse, the rest through the layer
    press(dock, Action.PAINT)
    labels = viewer.layers["coins labels"]
    assert viewer.layers.selection.active is labels and labels.mode == "paint"
    np.testing.assert_array_equal(labels.scale, (2.0, 0.5, 0.5))
    wait_until(lambda: dock.isVisible())
    QApplication.processEvents()
    drag_on_canvas(viewer, (20.0, 25.0), (20.0, 35.0))
    assert labels.data[0].any() and not labels.data[1:].any(), "the mouse paints on the slice on screen"
    labels.undo()
    assert not labels.data.any()
    for y, x in zip(*np.nonzero(coins[0]), strict=True):
        labels.data[0, y, x] = 1
    labels.paint((0, *np.argwhere(coins[0])[0]), 1)

    press(dock, Action.TEACH)
    press(dock, Action.PROPOSE)
    assert dock.panel.progress.bar.isVisibleTo(dock.panel)
    wait_for_threads(dock)
    assert not dock.panel.error_text.text()
    proposals = viewer.layers["coins proposals"]
    np.testing.assert_array_equal(proposals.scale, labels.scale)
    before = proposals.data.copy()
    assert iou(before[1] == 1, coins[1]) > 0.9 and iou(before[2] == 1, coins[2]) > 0.9
    assert not labels.data[1:].any(), "a guess is no label"

    # correct, accept: the other slice gets another proposal
    viewer.dims.set_point(0, 2.0)
    assert dock.panel.slice_line.text().startswith("coins [1]: proposed, score")
    press(dock, Action.PAINT)
    assert viewer.layers.selection.active is proposals
    proposals.brush_size = 12
    proposals.paint((1, 80, 110), 1)
    corrected = proposals.data[1].copy()
    assert (corrected != before[1]).any()
    press(dock, Action.ACCEPT)
    np.testing.assert_array_equal(labels.data[1], corrected)
    assert not proposals.data[1].any()
    wait_for_threads(dock)
    assert (proposals.data[2] != before[2]).any(), "an accepted slice is a further example"

    # one step of napari's own undo, and the dock's
    labels.undo()
    assert not labels.data[1].any()
    labels.redo()
    press(dock, Action.UNDO)
    assert not labels.data[1].any() and proposals.data[1].any()
    assert labels.data[0].any()
    wait_for_threads(dock)
    viewer.dims.set_point(0, 2.0)
    press(dock, Action.ACCEPT)
    wait_for_threads(dock)

    file = tmp_path / "coins_labels.tif"
    monkeypatch.setattr(dock, "ask_export", lambda choices: ExportRequest(((choices[0].uid, file),)))
    press(dock, Action.EXPORT)
    wait_for_threads(dock)
    with tifffile.TiffFile(file) as tiff:
        np.testing.assert_array_equal(tiff.asarray(), labels.data)
        assert tiff.series[0].dtype == np.uint8
        assert tiff.imagej_metadata["spacing"] == 2.0


def test_accepting_everything_slice_by_slice_by_keyboard(opened: Callable[..., Any], qtbot: Any) -> None:
    viewer, dock = opened(BrightnessSegmenter(), show=True)
    image, truth = disk_stack(4)
    viewer.add_image(image, name="disks")
    viewer.dims.set_point(0, 0)
    window = viewer.window._qt_window
    window.activateWindow()
    wait_until(lambda: window.isActiveWindow() and dock.isVisible())
    canvas = viewer.window._qt_viewer.canvas.native

    def key(action: Action) -> None:
        letter = DEFAULT_KEYS[action].removeprefix("Shift+")
        qtbot.keyClick(canvas, getattr(Qt.Key, f"Key_{letter}"), Qt.KeyboardModifier.ShiftModifier)
        wait_for_threads(dock)

    key(Action.PAINT)
    viewer.layers["disks labels"].data[0] = truth[0]
    key(Action.TEACH)
    key(Action.PROPOSE)
    for _ in range(3):
        key(Action.NEXT)
        key(Action.ACCEPT)
    assert iou(viewer.layers["disks labels"].data == 1, truth) > 0.9
    assert dock.panel.next_step.text().startswith("Every slice is decided")


def wait_until_gone(parts: list[Any]) -> None:
    """Wait a moment: a thread that has just ended lets go of its work last of all."""

    def is_gone() -> bool:
        gc.collect()
        return all(part() is None for part in parts)

    wait_until(is_gone, seconds=10)


def test_closing_the_window_frees_everything(make_napari_viewer: Callable[..., Any]) -> None:
    viewer = make_napari_viewer()
    dock = FewShotDock(PublicOnlyProxy(viewer), Session(BrightnessSegmenter(), classes=[LabelClass(1, "cell")]))
    viewer.window.add_dock_widget(dock, name="Few-shot propagation")
    _use(viewer, dock)
    freed = [
        weakref.ref(part) for part in (dock, dock.panel, dock.controller, dock.controller.session, dock._parts.link)
    ]
    del dock
    viewer.close()
    wait_until_gone(freed)


def test_closing_the_dock_frees_it_and_leaves_the_layers(make_napari_viewer: Callable[..., Any]) -> None:
    viewer = make_napari_viewer()
    dock = FewShotDock(viewer, Session(BrightnessSegmenter()))
    frame = viewer.window.add_dock_widget(dock, name="Few-shot propagation")
    _use(viewer, dock)
    freed = [weakref.ref(part) for part in (dock, dock.controller, dock.controller.session, dock._parts.link)]
    frame.destroyOnClose()
    del dock, frame
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    wait_until_gone(freed)
    assert viewer.layers["disks labels"].data.any()
    viewer.dims.set_point(0, 2)  # nobody listens any more, nothing fails
    viewer.add_image(np.zeros((20, 20)))


def _use(viewer: Any, dock: Any) -> None:
    """Teach, propose, accept, so that everything is connected."""
    propose_on_disks(viewer, dock)
    dock.controller.next_to_review()
    dock.controller.accept()
    wait_for_threads(dock)
    assert dock.controller.session.state(("disks", 0)) is FrameState.TAUGHT
