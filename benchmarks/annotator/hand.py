"""A hand on mouse and keyboard: real Qt events to the real napari window, and nothing else."""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

import numpy as np
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QKeySequence, QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from benchmarks.annotator.strokes import Stroke
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.keymap import KEYMAP

_LEAST_ZOOM: Final = 1.2  # screen pixels to a pixel of the image, so that each can be hit
_BETWEEN_MOVES: Final = 0.0105  # seconds: vispy and napari leave out moves that follow each other faster
_SHORT: Final = 16  # screen pixels: napari paints where a move begins that is short for its brush, not where it ends


class Hand:
    """Presses keys and drags the mouse.

    Parameters
    ----------
    viewer
        A napari viewer whose window is shown.
    dock
        The dock in it.
    """

    def __init__(self, viewer: Any, dock: Any) -> None:
        self._viewer, self._dock = viewer, dock
        self._window = viewer.window._qt_window
        self._qt_viewer = viewer.window._qt_viewer
        self._canvas = self._qt_viewer.canvas.native
        self._window.activateWindow()
        wait_until(lambda: self._window.isActiveWindow() and dock.isVisible())

    def press(self, action: Action) -> None:
        """Press the key of an action of the dock, and wait for what it sets off."""
        self._type(KEYMAP[action])
        wait_until(lambda: not self._dock.is_busy, seconds=600)

    def paint(self, stroke: Stroke) -> None:
        """Take brush and class by their keys, and drag over the selected layer."""
        layer = self._viewer.layers.selection.active
        for _ in range(256):
            if layer.selected_label == stroke.value:
                break
            self._type(KEYMAP[Action.NEXT_CLASS])
        assert layer.selected_label == stroke.value, f"there is no brush for {stroke.value}"
        while layer.brush_size != stroke.size:
            before = layer.brush_size
            self._type("[" if before > stroke.size else "]")
            assert layer.brush_size != before, "napari does not change the brush by its keys"
        self._look_at(stroke.path[0])
        self._drag(stroke.path)

    def _look_at(self, point: tuple[int, int]) -> None:
        """Go nearer where pixels of the image are too small to be hit, and see to it that the point is on screen."""
        owner = self._viewer.scene if hasattr(self._viewer, "scene") else self._viewer  # since napari 0.9
        if owner.camera.zoom < _LEAST_ZOOM:
            owner.camera.zoom = _LEAST_ZOOM
        at = self._on_canvas(point)
        if not self._canvas.rect().adjusted(5, 5, -5, -5).contains(at.toPoint()):
            owner.camera.center = (0.0, *map(float, point))
            QApplication.processEvents()

    def _type(self, key: str) -> None:
        pressed = QKeySequence(key)[0]
        QTest.keyClick(self._canvas, pressed.key(), pressed.keyboardModifiers())

    def _drag(self, path: tuple[tuple[int, int], ...]) -> None:
        left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
        points = [self._on_canvas(point) for point in path]
        self._send(QEvent.Type.MouseMove, points[0], none, none)
        self._send(QEvent.Type.MouseButtonPress, points[0], left, left)
        for before, point in pairwise(points):
            way = max(abs(point.x() - before.x()), abs(point.y() - before.y()))
            for _ in range(2 if way < _SHORT else 1):
                time.sleep(_BETWEEN_MOVES)
                self._send(QEvent.Type.MouseMove, point, none, left)
                QApplication.processEvents()
        self._send(QEvent.Type.MouseButtonRelease, points[-1], left, none)
        QApplication.processEvents()

    def _on_canvas(self, point: tuple[int, int]) -> QPointF:
        x, y, *_ = self._qt_viewer.canvas.view.scene.transform.map([point[1], point[0], 0, 1])
        return QPointF(float(np.round(x)), float(np.round(y)))

    def _send(self, kind: QEvent.Type, at: QPointF, button: Qt.MouseButton, buttons: Qt.MouseButton) -> None:
        place = QPointF(self._canvas.mapToGlobal(at.toPoint()))
        event = QMouseEvent(kind, at, place, button, buttons, Qt.KeyboardModifier.NoModifier)
        QApplication.sendEvent(self._canvas, event)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Let the event loop run until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        QApplication.processEvents()
        time.sleep(0.005)
