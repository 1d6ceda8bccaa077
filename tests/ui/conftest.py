"""A real napari window for the tests of the dock, on whatever display there is."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Where there is none, pytest-xvfb starts one.
_HAS_DISPLAY = any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY"))) or shutil.which("Xvfb") is not None
if sys.platform == "linux" and not _HAS_DISPLAY:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


WITHOUT_OPENGL = os.environ.get("QT_QPA_PLATFORM") == "offscreen" and not _HAS_DISPLAY
"""Qt's offscreen platform draws with OpenGL only where there is an X server to ask."""


@pytest.fixture(scope="session", autouse=True)
def _napari_without_opengl() -> Iterator[None]:
    """Let napari open images where there is no OpenGL: it asks the graphics card what it can do, and none answers.

    Nothing is drawn then, which is fine: what is drawn is tested on a display.
    """
    if not WITHOUT_OPENGL:
        yield
        return
    from napari._vispy.utils.gl import gl  # vispy's, after napari has chosen the flavour of OpenGL
    from vispy.scene import SceneCanvas

    def answer(parameter: Any) -> Any:
        return "" if parameter == gl.GL_EXTENSIONS else 4096

    before = gl.glGetParameter, SceneCanvas.visual_at
    gl.glGetParameter, SceneCanvas.visual_at = answer, lambda canvas, position: None
    yield
    gl.glGetParameter, SceneCanvas.visual_at = before


@pytest.fixture(autouse=True)
def _fresh_preferences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test see what another one chose or kept."""
    monkeypatch.setenv("NAPARI_FEWSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NAPARI_FEWSHOT_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("NAPARI_FEWSHOT_DATA", str(tmp_path / "data"))


@pytest.fixture
def opened(make_napari_viewer: Callable[..., Any], qtbot: Any) -> Iterator[Callable[..., Any]]:
    """Open a window with the dock in it: ``viewer, dock = opened()``."""
    from napari.utils._proxies import PublicOnlyProxy

    from napari_fewshot.session import Session
    from napari_fewshot.support import LabelClass
    from napari_fewshot.ui.dock import FewShotDock

    docks = []

    def open_window(segmenter: Any = None, *, show: bool = False) -> tuple[Any, FewShotDock]:
        viewer = make_napari_viewer(show=show)
        session = Session(segmenter, classes=[LabelClass(1, "cell")])
        dock = FewShotDock(PublicOnlyProxy(viewer), session)  # what napari hands to a plugin
        viewer.window.add_dock_widget(dock, name="Few-shot propagation")
        docks.append(dock)
        return viewer, dock

    yield open_window
    for dock in docks:
        wait_for_threads(dock)


def wait_for_threads(dock: Any, seconds: float = 60) -> None:
    """Let the event loop run until no thread of the dock is at work."""
    wait_until(lambda: not dock.is_busy, seconds)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Let the event loop run until something is so."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        QApplication.processEvents()
        time.sleep(0.005)


def disk_stack(slices: int = 5, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Bright disks on dark ground that move from slice to slice: (Z, Y, X) uint8, and where they are."""
    y, x = np.mgrid[:size, :size]
    rng = np.random.default_rng(0)
    truth = np.stack([(y - 20 - 4 * z) ** 2 + (x - 24 - 3 * z) ** 2 < 12**2 for z in range(slices)])
    image = np.where(truth, 170, 50) + rng.normal(0, 8, truth.shape)
    return image.clip(0, 255).astype(np.uint8), truth


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks."""
    return float((a & b).sum() / max(1, (a | b).sum()))


def propose_on_disks(viewer: Any, dock: Any, slices: int = 3) -> None:
    """Open a stack of disks, teach its first slice, and wait for proposals on the others."""
    image, truth = disk_stack(slices)
    viewer.add_image(image, name="disks")
    viewer.dims.set_point(0, 0)
    dock.controller.paint()
    viewer.layers["disks labels"].data[0] = truth[0]
    dock.controller.teach()
    dock.controller.propose()
    wait_for_threads(dock)
