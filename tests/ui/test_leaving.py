"""Who leaves Python without closing the window sees no traceback and loses nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from napari_fewshot.session import open_session
from tests.ui.conftest import WITHOUT_OPENGL

SCRIPT = """
import atexit, time
atexit.register(time.sleep, 2)  # the first one is called last: there is time for threads that outlive the window
import napari, numpy as np
from napari_fewshot.session import Session
from napari_fewshot.support import LabelClass
from napari_fewshot.ui.dock import FewShotDock

viewer = napari.Viewer(show=False)
dock = FewShotDock(viewer, Session(classes=[LabelClass(1, "cell")]))
viewer.window.add_dock_widget(dock)
viewer.add_image(np.zeros((3, 32, 32), np.uint8), name="dark")
viewer.dims.set_point(0, 0)
dock.controller.paint()
viewer.layers["dark labels"].data[0, 3:9, 3:9] = 1
dock.controller.teach()
dock.controller.look_at(list(dock.controller.session.frames))  # a thread of napari's
print(dock.saving.folder)
"""


@pytest.mark.skipif(WITHOUT_OPENGL, reason="no display server: another process opens a window")
def test_leaving_while_the_session_is_about_to_be_saved_saves_it_and_says_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "deleted" not in done.stderr
    session = open_session(Path(done.stdout.strip().splitlines()[-1]))
    assert session.support.shots[0].labels.sum() == 36
