"""What it costs a person to label a data set with the dock, by real mouse and keys: IoU and effort of each frame, time.

    python -m benchmarks.annotator synthetic
    python -m benchmarks.annotator FOLDER --crop 384 --json build/annotator.json

A data set is a folder with ``images/`` and ``labels/`` of the same names and one shape. It needs a display that whole
images fit on; on a server:

    xvfb-run -a -s "-screen 0 1920x1200x24" python -m benchmarks.annotator synthetic
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import napari
import numpy as np
import numpy.typing as npt
from qtpy.QtWidgets import QApplication

from benchmarks.annotator.annotator import Annotator, FrameWork, Log
from napari_fewshot.imaging.phantom import touching_cells
from napari_fewshot.io.rasters import read_image, read_label_map
from napari_fewshot.session import Session
from napari_fewshot.support import BACKGROUND, UNLABELLED, LabelClass
from napari_fewshot.ui.dock import FewShotDock

_COLOURS = ("#e41a1c", "#377eb8", "#4daf4a", "#984ea3", "#ff7f00")
Pair = tuple[npt.NDArray[Any], npt.NDArray[Any]]


def synthetic() -> Pair:
    """Return the stack of napari's File > Open Sample, (12, 256, 256), and its cell bodies and nuclei."""
    phantom = touching_cells()
    return phantom.image, phantom.labels


def folder(path: Path) -> Pair:
    """Return the images of a data set, (Z, Y, X) or (Z, Y, X, 3), and their label maps (Z, Y, X)."""
    files = sorted((path / "images").iterdir())
    labels = [read_label_map(path / "labels" / file.with_suffix(".png").name) for file in files]
    return np.stack([read_image(file) for file in files]), np.stack(labels)


def annotate(images: npt.NDArray[Any], truth: npt.NDArray[Any], enough: float) -> Log:
    """Label images in a window of their own, telling of each frame that is done."""
    viewer = napari.Viewer()
    viewer.window._qt_window.showMaximized()
    classes = [c for c in np.unique(truth).tolist() if c not in (BACKGROUND, UNLABELLED)]
    session = Session(classes=[LabelClass(c, f"class {c}", _COLOURS[c % len(_COLOURS)]) for c in classes])
    dock = FewShotDock(viewer, session)
    viewer.window.add_dock_widget(dock, name="Few-shot propagation")
    viewer.add_image(images, name="stack", rgb=images.ndim == 4)
    QApplication.processEvents()
    viewer.reset_view()
    try:
        return Annotator(viewer, dock, truth, enough, tell=_tell).label()
    finally:
        viewer.close()


def _tell(work: FrameWork) -> None:
    share = work.changed / max(1, work.truth)
    print(
        f"frame {work.place}: proposed {work.proposed:.3f}, {work.strokes} strokes, effort {share:.2f}", file=sys.stderr
    )


def table(log: Log) -> str:
    """Return a row for each frame in the order in which they were labelled, and one for all."""
    columns = ("frame", "IoU proposed", "IoU accepted", "strokes", "pixels changed", "of painting by hand")
    rows = [columns, ("---",) * len(columns)]
    for work in log.frames:
        ious = f"{work.proposed:.3f}", f"{log.ious[work.place]:.3f}"
        share = f"{work.changed / work.truth:.2f}" if work.truth else ""
        rows.append((f"{work.place}", *ious, f"{work.strokes}", f"{work.changed}", share))
    changed = sum(work.changed for work in log.frames)
    proposed = float(np.mean([work.proposed for work in log.frames[1:]]))
    ious = f"{proposed:.3f}", f"{min(log.ious):.3f} at least"
    rows.append(("all", *ious, f"{log.strokes}", f"{changed}", f"**{log.effort:.2f}**"))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.annotator", description=__doc__.partition("\n")[0])
    parser.add_argument("data", help="'synthetic', or the folder of a data set")
    parser.add_argument("--enough", type=float, default=0.9, help="IoU at which a frame is accepted")
    parser.add_argument("--frames", type=int, help="only so many")
    parser.add_argument("--crop", type=int, help="only the upper left corner, so many pixels wide and high")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    images, truth = synthetic() if given.data == "synthetic" else folder(Path(given.data))
    part = (slice(given.frames), slice(given.crop), slice(given.crop))
    with tempfile.TemporaryDirectory() as own:  # keys as they come, and nothing that was computed before
        os.environ.update({f"NAPARI_FEWSHOT_{name}": str(Path(own, name)) for name in ("CACHE", "CONFIG", "DATA")})
        log = annotate(images[part], truth[part], given.enough)
    print(table(log))
    print(f"\n{log.seconds:.0f} s, of which the plan of strokes took {log.planning:.0f} s")
    if given.json is not None:
        given.json.write_text(json.dumps(asdict(log) | {"effort": log.effort}, indent=1), "utf-8")


if __name__ == "__main__":
    main()
