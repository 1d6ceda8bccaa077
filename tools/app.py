"""Open napari with the dock and one of the package's samples: `make app`, or `make app SAMPLE=coins`."""

import os
import sys

import napari

PLUGIN = "napari-fewshot"


def main(sample: str = "ihc_tiles") -> None:
    if sys.platform == "linux" and not any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    ):
        sys.exit("There is no display to open a window on; use `make demo`, or connect with `ssh -X`.")
    viewer = napari.Viewer()
    viewer.open_sample(PLUGIN, sample)
    viewer.window.add_plugin_dock_widget(PLUGIN)
    napari.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
