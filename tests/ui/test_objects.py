"""Touching cells in a real window: numbered on three shots, told apart on all others, mended, exported."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

pytest.importorskip("napari")
pytest.importorskip("torch")

from napari_fewshot import open_session
from napari_fewshot.evaluation.instance_metrics import ObjectCounts, count_objects
from napari_fewshot.models import load_segmenter
from napari_fewshot.segmenter import SegmenterSettings
from napari_fewshot.session.loading import LoadedSegmenter
from napari_fewshot.ui.ports import ExportChoice, ExportRequest
from tests.ui.conftest import wait_for_threads

SLICES, SIZE = 5, 96


def touching_cells() -> tuple[np.ndarray, np.ndarray]:
    """Cells in pairs that touch, with dark seams, on each slice elsewhere: (Z, Y, X) uint8, and their ids."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE]
    image, ids = np.full((SLICES, SIZE, SIZE), 40.0), np.zeros((SLICES, SIZE, SIZE), np.int32)
    for z in range(SLICES):
        number = 0
        for row in range(3):
            for column in range(2):
                top, left = 16 + 32 * row + rng.integers(-3, 4), 15 + 46 * column + rng.integers(-3, 4)
                for shift in (0, 17):
                    number += 1
                    own = ((y - top) ** 2 + (x - left - shift) ** 2 < 10**2) & (ids[z] == 0)
                    ids[z][own] = number
                seam = (ids[z] > 0) & (np.abs(x - left - 8.5) < 1.5) & (np.abs(y - top) < 8)
                image[z][(ids[z] >= number - 1)] = 170
                image[z][seam & (ids[z] >= number - 1)] = 110
    return (image + rng.normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8), ids


@pytest.fixture(scope="module")
def segmenter() -> Any:
    return load_segmenter("ridge", device="cpu", instances=True)


@pytest.fixture
def cells(opened: Any, segmenter: Any) -> tuple[Any, Any, np.ndarray]:
    """A window in which three slices of cells were numbered and taught, and proposals are there for the others."""
    viewer, dock = opened()
    image, ids = touching_cells()
    viewer.add_image(image, name="cells")
    settings = SegmenterSettings("ridge", device="cpu", instances=True)
    dock.controller.session._segmenter = LoadedSegmenter(settings, segmenter=segmenter)  # loaded once for all tests
    dock.controller.use_settings(SegmenterSettings("ridge", device="cpu"))
    dock.panel.objects.click()
    assert dock.controller.session.settings == settings
    for z in range(3):
        viewer.dims.set_point(0, z)
        dock.controller.refresh()
        viewer.layers["cells objects"].data[z] = ids[z]
        dock.controller.teach()
    assert not dock.panel.error.isVisible()
    dock.controller.propose()
    wait_for_threads(dock)
    return viewer, dock, ids


def test_touching_cells_are_told_apart_after_three_shots(cells: Any, tmp_path: Path) -> None:
    viewer, dock, ids = cells
    session, layer = dock.controller.session, viewer.layers["cells objects"]
    for z in range(3):
        np.testing.assert_array_equal(viewer.layers["cells labels"].data[z], ids[z] > 0)
        np.testing.assert_array_equal(session.objects(("cells", z)), ids[z])
    counts = sum((count_objects(layer.data[z], ids[z]) for z in (3, 4)), ObjectCounts())
    f1 = counts.f1(0.5)
    assert f1 is not None and f1 >= 0.95  # 1.0 was measured; one of 24 that is missed makes 0.98
    np.testing.assert_array_equal(viewer.layers["cells proposals"].data[3], layer.data[3] > 0)

    viewer.dims.set_point(0, 3)
    first, second, gone = (int(layer.data[3][ids[3] == number].max()) for number in (1, 2, 3))
    layer.data[3][layer.data[3] == second] = first  # as napari's fill bucket does
    layer.data[3][layer.data[3] == gone] = 0
    dock.controller.accept()
    kept = session.objects(("cells", 3))
    assert kept is not None and set(np.unique(kept)) == set(np.unique(layer.data[3])) and second not in kept
    assert not viewer.layers["cells labels"].data[3][(ids[3] == 3)].any()
    wait_for_threads(dock)

    session.save(tmp_path / "saved")
    again = open_session(tmp_path / "saved")
    np.testing.assert_array_equal(again.objects(("cells", 3)), kept)
    assert again.settings.instances

    asked: list[ExportChoice] = []
    dock.ask_export = lambda choices: (
        asked.extend(choices),
        ExportRequest((("cells", tmp_path / "cells.tif"),), with_proposals=True),
    )[1]
    dock.controller._view = dock
    dock.controller.export()
    wait_for_threads(dock)
    assert [choice.told_apart for choice in asked] == [True]
    written = tifffile.imread(tmp_path / "cells_objects.tif")
    np.testing.assert_array_equal(written, layer.data)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "cells.tif") > 0, written > 0)
    dock.ask_export = lambda choices: ExportRequest((("cells", tmp_path / "all.csv"),), True, format="csv")
    dock.controller.export()
    wait_for_threads(dock)
    rows = list(csv.DictReader((tmp_path / "all.csv").read_text("utf-8").splitlines()))
    assert [(int(row["plane"][-3:]), int(row["object_id"]), int(row["area_px"])) for row in rows] == [
        (z, number, (written[z] == number).sum())
        for z in range(len(written))
        for number in sorted(set(np.unique(written[z])) - {0}, key=lambda n: int((written[z] == n).argmax()))
    ]
    assert not (tmp_path / "all_objects.csv").exists()

    dock.panel.objects.click()
    assert not layer.visible
    np.testing.assert_array_equal(session.objects(("cells", 3)), kept)
