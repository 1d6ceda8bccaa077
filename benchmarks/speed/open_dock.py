"""Open napari, then the dock, and print the seconds that the dock took; "napari is not installed" where it is not."""

import os
import sys
import time

try:
    import napari
except ModuleNotFoundError:
    sys.exit("napari is not installed")
from qtpy.QtWidgets import QApplication


def main() -> None:
    if os.environ.get("QT_QPA_PLATFORM") == "offscreen":
        from napari._vispy.utils.gl import gl

        # There is no graphics card to ask what it can do.
        gl.glGetParameter = lambda parameter: "" if parameter == gl.GL_EXTENSIONS else 4096
    viewer = napari.Viewer()
    QApplication.processEvents()
    start = time.perf_counter()
    viewer.window.add_plugin_dock_widget("napari-fewshot")
    QApplication.processEvents()
    print(time.perf_counter() - start)
    viewer.close()


if __name__ == "__main__":
    main()
