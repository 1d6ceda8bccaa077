"""Make docs/images/*.png: the dock in real use, step by step. `make screenshots` runs it on a display, real or not."""

import os
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import napari
import numpy as np
from napari.utils._proxies import ReadOnlyWrapper
from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks
from PIL import Image
from qtpy.QtWidgets import QApplication
from skimage.morphology import disk, erosion

from napari_fewshot.io.samples import NUMBERED, Sample, cells_sample, ihc_sample, numbered_cells
from napari_fewshot.session import FrameState, Session
from napari_fewshot.support import LabelClass
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.dock import FewShotDock

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WINDOW = (1366, 768)
MAX_BYTES = 300_000


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:  # whatever this person keeps and prefers has no business in the pictures
        for name in ("CACHE", "CONFIG", "DATA"):
            os.environ[f"NAPARI_FEWSHOT_{name}"] = folder
        parts = (one_class_by_hand, two_classes_in_light, review_in_both_themes, a_cut_through_a_stack, objects_mended)
        for part in parts:
            if part.__name__ in sys.argv[1:] or not sys.argv[1:]:
                part()


def one_class_by_hand() -> None:
    """Paint, propose, correct and accept on real tissue."""
    sample = ihc_sample()
    viewer, dock = opened(sample, "tissue", [LabelClass(1, "stained", "#3182bd")])
    first = most_telling(sample)
    viewer.dims.set_point(0, first)
    press(dock, Action.PAINT)
    paint(viewer, sample, first)
    viewer.layers["tissue labels"].brush_size = 20
    save(viewer, "dock-1-paint.png")

    press(dock, Action.TEACH)
    press(dock, Action.PROPOSE)
    settle(lambda: not dock.is_busy)
    press(dock, Action.NEXT)
    save(viewer, "dock-2-propose.png")

    press(dock, Action.PAINT)
    correct(viewer, dock, sample)
    save(viewer, "dock-3-correct.png")

    press(dock, Action.ACCEPT)
    settle(lambda: not dock.is_busy)
    save(viewer, "dock-4-accept.png")
    viewer.close()


def two_classes_in_light() -> None:
    """The light theme, two classes, Advanced open."""
    sample = cells_sample()
    viewer, dock = opened(sample, "cells", list(sample.classes))
    viewer.theme = "light"
    paint(viewer, sample, 0)
    press(dock, Action.TEACH)
    press(dock, Action.PROPOSE)
    settle(lambda: not dock.is_busy)
    viewer.dims.set_point(0, len(sample.frames) // 2)
    press(dock, Action.VIEW)
    dock.panel.advanced.expand(animate=False)
    settle()
    dock.panel.scroll_to(dock.panel.advanced)
    save(viewer, "dock-5-advanced.png")
    press(dock, Action.VIEW)  # it is remembered
    viewer.close()


def review_in_both_themes() -> None:
    """What helps to review, each in the dark and the light theme: tour, table, doubt, clean-up and quality."""
    sample = cells_sample()
    viewer = napari.Viewer(title="napari", show=True)
    dock = FewShotDock(viewer)
    dock.controller.change_class(LabelClass(1, "cell", "#3182bd"))
    viewer.window.add_dock_widget(dock, name="Few-shot propagation")
    viewer.window.resize(*WINDOW)
    press(dock, Action.TOUR)
    dock.panel.tour.help.click()  # opens the sample
    settle()
    viewer.reset_view()
    save_both(viewer, "review-tour")
    dock.panel.tour.end.click()

    for place in (0, 4, 8):
        viewer.dims.set_current_step(0, place)
        press(dock, Action.PAINT)
        paint(viewer, sample, place, one_class=True)
        press(dock, Action.TEACH)
    press(dock, Action.PROPOSE)
    settle(lambda: not dock.is_busy)
    press(dock, Action.NEXT)
    select_rows(dock, 1, 2)
    dock.panel.scroll_to(dock.panel.review)
    save_both(viewer, "review-table")

    press(dock, Action.UNCERTAINTY)
    dock.panel.scroll_to(dock.panel.clean_up_part)
    save_both(viewer, "review-doubt")

    press(dock, Action.PREVIEW)
    dock.panel.clean_up.smooth.setValue(1.5)
    dock.panel.clean_up.max_hole.setValue(60)
    dock.panel.clean_up.min_area.setValue(80)
    settle(lambda: "go" in dock.panel.clean_up.note.text())
    dock.panel.scroll_to(dock.panel.quality_part)
    save_both(viewer, "review-clean-up")

    press(dock, Action.PREVIEW)
    dock.panel.clean_up_part.fold()
    press(dock, Action.CHECK)
    settle(lambda: not dock.is_busy)
    dock.panel.scroll_to_top_of(dock.panel.quality_part)
    save_both(viewer, "review-quality")
    viewer.close()


def a_cut_through_a_stack() -> None:
    """Paint on xz, learn from it on every slice, and let neighbouring slices decide together."""
    sample = cells_sample()
    viewer, dock = opened(sample, "cells", list(sample.classes))
    press(dock, Action.PAINT)
    for layer in viewer.layers:
        layer.scale = (4, 1, 1)
    viewer.dims.order = (1, 0, 2)
    truth = np.stack([sample.masks[frame.key] for frame in sample.frames])  # (Z, Y, X)
    row = int((truth > 0).sum(axis=(0, 2)).argmax())
    viewer.dims.set_current_step(1, row)
    viewer.reset_view()
    press(dock, Action.PAINT)
    z, x = np.nonzero(truth[:, row])
    viewer.layers["cells labels"].data_setitem((z, np.full(z.shape, row), x), truth[z, row, x].astype(np.uint8))
    settle()
    save(viewer, "volumes-cut.png")

    press(dock, Action.TEACH)
    viewer.dims.order = (0, 1, 2)
    viewer.dims.set_current_step(0, len(truth) // 2)
    settle()
    viewer.reset_view()
    dock.panel.volumes.neighbours.click()
    settle(lambda: dock.controller.session.propagation.volume.are_used)
    press(dock, Action.PROPOSE)
    settle(lambda: not dock.is_busy)
    dock.panel.scroll_to(dock.panel.volumes)
    save(viewer, "volumes-dock.png")
    viewer.close()


def objects_mended() -> None:
    """Teach numbered cells on three slices, propose objects on the others, and cut one along a line."""
    viewer = napari.Viewer(title="napari", show=True)
    viewer.theme = "dark"
    viewer.window.resize(*WINDOW)
    for data, attributes, kind in numbered_cells():
        getattr(viewer, f"add_{kind}")(data, **attributes)
    dock = FewShotDock(viewer, Session(classes=[LabelClass(1, "cell", "#3182bd")]))
    viewer.window.add_dock_widget(dock, name="Few-shot propagation", area="right")
    dock.panel.objects.click()
    for z in NUMBERED:
        viewer.dims.set_current_step(0, z)
        settle()
        press(dock, Action.TEACH)
    press(dock, Action.PROPOSE)
    settle(lambda: not dock.is_busy)
    viewer.dims.set_current_step(0, 3)
    viewer.layers["numbered cells labels"].visible = viewer.layers["numbered cells proposals"].visible = False
    press(dock, Action.SPLIT)
    viewer.reset_view()
    layer = viewer.layers["numbered cells objects"]
    largest = int(np.bincount(layer.data[3].ravel())[1:].argmax()) + 1
    rows, columns = np.nonzero(layer.data[3] == largest)
    top, bottom, middle = rows.min() - 6, rows.max() + 6, columns.mean()
    path = [(y, middle + 4 * np.sin(y / 5)) for y in np.linspace(top, bottom, 20)]
    mouse_press_callbacks(layer, mouse("mouse_press", layer, path[0]))
    for point in path[1:]:
        mouse_move_callbacks(layer, mouse("mouse_move", layer, point))
    dock.panel.scroll_to(dock.panel.objects_box)
    settle()
    save(viewer, "objects-split.png")

    mouse_release_callbacks(layer, mouse("mouse_release", layer, path[-1]))
    dock.panel.scroll_to(dock.panel.objects_box)
    settle()
    save(viewer, "objects-after.png")
    viewer.close()


def mouse(kind: str, layer: Any, point: tuple[float, float]) -> Any:
    """What napari hands to tools when the left button is pressed, or the mouse moved, over a row and a column."""
    at = layer.data_to_world((3, *point))
    event = SimpleNamespace(type=kind, button=1, position=at, modifiers=(), handled=False, is_dragging=True)
    return ReadOnlyWrapper(event, exceptions=("handled",))


def save_both(viewer: Any, name: str) -> None:
    """Write a picture in the dark theme, and one in the light theme."""
    for theme in ("light", "dark"):
        viewer.theme = theme
        save(viewer, f"{name}-{theme}.png")


def select_rows(dock: FewShotDock, *numbers: int) -> None:
    """Select rows of the table of slices."""
    table = dock.panel.review.table
    model, selection = table.model(), table.selectionModel()
    if model is None or selection is None:
        sys.exit("the table of slices is empty")
    for number in numbers:
        flags = selection.SelectionFlag.Select | selection.SelectionFlag.Rows
        selection.select(model.index(number, 0), flags)


def most_telling(sample: Sample) -> int:
    """The slice on which class and background are nearest to half and half."""
    shares = [float((sample.masks[frame.key] > 0).mean()) for frame in sample.frames]
    return int(np.argmin(np.abs(np.array(shares) - 0.5)))


def opened(sample: Sample, name: str, classes: list[LabelClass]) -> tuple[Any, FewShotDock]:
    """Open a window with the sample and the dock."""
    viewer = napari.Viewer(title="napari", show=True)
    dock = FewShotDock(viewer)
    for shown in classes:
        if shown.id not in {known.id for known in dock.controller.session.classes}:
            dock.controller.add_class()
        dock.controller.change_class(shown)
    viewer.window.add_dock_widget(dock, name="Few-shot propagation")
    viewer.window.resize(*WINDOW)
    viewer.add_image(np.stack([frame.read() for frame in sample.frames]), name=name)
    dock.controller.select_brush(classes[0].id)
    viewer.dims.set_point(0, 0)
    settle()
    viewer.reset_view()
    return viewer, dock


def paint(viewer: Any, sample: Sample, place: int, *, one_class: bool = False) -> None:
    """Paint what the sample knows to be true on one slice, all classes as one if so wanted."""
    (layer,) = (layer for layer in viewer.layers if layer.name.endswith("labels"))
    mask = sample.masks[sample.frames[place].key]
    y, x = np.nonzero(mask)
    values = np.ones(y.shape, np.uint8) if one_class else mask[y, x]
    layer.data_setitem((np.full(y.shape, place), y, x), values.astype(layer.data.dtype))
    settle()


def correct(viewer: Any, dock: FewShotDock, sample: Sample) -> None:
    """Brush over what is wrong on the proposal on screen, a dab at a time, as long as it is bigger than the brush."""
    (layer,) = (layer for layer in viewer.layers if layer.name.endswith("proposals"))
    place = round(viewer.dims.point[0])
    mask = sample.masks[sample.frames[place].key]
    layer.brush_size = 9
    for value in np.unique(mask):
        inside = erosion(mask == value, disk(4))
        while (wrong := np.argwhere(inside & (layer.data[place] != value))).size:
            layer.paint((place, *map(int, wrong[0])), int(value))
    if FrameState.CORRECTED not in map(dock.controller.session.state, dock.controller.session.frames):
        sys.exit("the proposal had nothing to correct; choose another slice for this picture")
    settle()


def press(dock: FewShotDock, action: Action) -> None:
    """Click a button of the dock."""
    button = dock.panel.buttons[action]
    if not button.isEnabled():
        sys.exit(f"'{button.text()}' cannot be pressed: {dock.panel.next_step.text()} {dock.panel.error_text.text()}")
    button.click()
    settle()


def settle(condition: Callable[[], bool] = lambda: True) -> None:
    """Let the window draw, until something is so."""
    end = time.monotonic() + 300
    quiet = time.monotonic() + 0.5
    while not condition() or time.monotonic() < quiet:
        if time.monotonic() > end:
            sys.exit("it takes too long; is the computer busy?")
        QApplication.processEvents()
        time.sleep(0.01)


def save(viewer: Any, name: str) -> None:
    """Write a picture of the whole window, small enough for a repository."""
    settle()
    canvas = viewer.screenshot(canvas_only=True, flash=False)
    if canvas[..., :3].max() < 20:
        sys.exit("the canvas is black: there is no OpenGL here; use `make screenshots`, which finds a display")
    picture = Image.fromarray(viewer.screenshot(canvas_only=False, flash=False)).convert("RGB")
    data = png(picture)
    for colours in (256, 128, 64):
        if len(data) > MAX_BYTES:
            data = png(picture.quantize(colours))
    (IMAGES / name).write_bytes(data)
    print(f"{IMAGES / name}: {picture.width} x {picture.height}, {len(data) // 1000} KB")


def png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
