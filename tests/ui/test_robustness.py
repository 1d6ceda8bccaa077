"""Layers that vanish, windows that close, images that cannot be used, while the dock is at work."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QApplication, QMessageBox

from napari_fewshot.io.formats import LABEL_FORMATS
from napari_fewshot.session import FrameState
from napari_fewshot.ui.export_dialog import ExportDialog
from napari_fewshot.ui.ports import ExportChoice
from tests.fakes import BrightnessSegmenter
from tests.ui.conftest import disk_stack, wait_for_threads, wait_until


class SlowSegmenter(BrightnessSegmenter):
    """Takes its time for every tile."""

    seconds = 0.05

    def on_tile(self, key: Any) -> None:
        time.sleep(self.seconds)


def taught(opened: Callable[..., Any], segmenter: Any, **layers: Any) -> tuple[Any, Any]:
    """A dock that was taught on the first slice of the stack 'disks'."""
    viewer, dock = opened(segmenter)
    image, truth = disk_stack(12)
    viewer.add_image(image, name="disks")
    for name, data in layers.items():
        viewer.add_image(data, name=name)
    viewer.layers.selection.active = viewer.layers["disks"]
    viewer.dims.set_point(0, 0)
    dock.controller.paint()
    viewer.layers["disks labels"].data[0] = truth[0]
    dock.controller.teach()
    assert not dock.panel.error_text.text()
    return viewer, dock


def queue_length(dock: Any) -> int:
    return len(dock.controller.session.review_queue())


def test_the_window_stays_alive_while_proposals_are_made(opened: Callable[..., Any]) -> None:
    _, dock = taught(opened, SlowSegmenter())
    dock.controller.propose()
    longest, before = 0.0, time.perf_counter()
    while dock._parts.runner.is_busy:
        QApplication.processEvents()
        now = time.perf_counter()
        longest, before = max(longest, now - before), now
    assert queue_length(dock) == 11
    assert longest < 1.0, f"the window was frozen for {longest:.2f} s"


def test_a_new_run_overtakes_the_old_one(opened: Callable[..., Any]) -> None:
    _, dock = taught(opened, SlowSegmenter())
    dock.controller.propose()
    wait_until(lambda: queue_length(dock) >= 2)
    dock.controller.propose()
    wait_for_threads(dock)
    generations = {dock.controller.session.proposal(k).generation for k in dock.controller.session.review_queue()}
    assert generations == {2}


def test_cancel_stops_within_one_tile_and_the_bar_moves_by_tiles(opened: Callable[..., Any]) -> None:
    segmenter = SlowSegmenter(tiles=20)
    _, dock = taught(opened, segmenter)
    dock.controller.propose()
    wait_until(lambda: queue_length(dock) >= 1)
    wait_until(lambda: dock.panel.progress.bar.value() % 100 != 0)  # it is drawn four times a second
    assert dock.panel.progress.bar.maximum() == 11 * 100
    assert dock.panel.progress.bar.value() > 100
    assert " of the next, about " in dock.panel.progress.text.text()
    done = queue_length(dock)
    dock.controller.cancel()
    before = len(segmenter.tiles_seen)
    wait_for_threads(dock)
    assert len(segmenter.tiles_seen) <= before + 1
    assert queue_length(dock) == done < 11
    assert not dock.panel.progress.bar.isVisibleTo(dock.panel)


def test_an_image_deleted_during_a_run_leaves_the_others_to_go_on(opened: Callable[..., Any]) -> None:
    image, _ = disk_stack(6)
    viewer, dock = taught(opened, SlowSegmenter(), other=image)
    dock.controller.propose()
    wait_until(lambda: queue_length(dock) >= 3)
    viewer.layers.remove("other")
    wait_for_threads(dock)
    assert {key[0] for key in dock.controller.session.review_queue()} == {"disks"}
    assert queue_length(dock) == 11
    assert not dock.panel.error_text.text()


def test_the_taught_image_deleted_during_a_run_is_not_forgotten(opened: Callable[..., Any]) -> None:
    image, truth = disk_stack(6)
    viewer, dock = taught(opened, SlowSegmenter(), other=image)
    dock.controller.propose()
    wait_until(lambda: queue_length(dock) >= 3)
    viewer.layers.remove("disks")
    assert "disks proposals" not in viewer.layers and viewer.layers["disks labels"].data.any()
    dock.controller.propose()
    wait_for_threads(dock)
    np.testing.assert_array_equal(viewer.layers["other proposals"].data, truth)


def test_label_layers_deleted_renamed_hidden_and_moved_during_a_run(opened: Callable[..., Any]) -> None:
    viewer, dock = taught(opened, SlowSegmenter())
    dock.controller.propose()
    wait_until(lambda: queue_length(dock) >= 2)
    viewer.layers.remove("disks labels")
    viewer.layers["disks"].name = "circles"
    viewer.layers["disks proposals"].visible = False
    wait_until(lambda: queue_length(dock) >= 4)
    viewer.layers.remove("disks proposals")
    viewer.layers["circles"].visible = False
    wait_for_threads(dock)
    assert queue_length(dock) == 11
    _, truth = disk_stack(12)
    proposals = viewer.layers["circles proposals"]
    np.testing.assert_array_equal(proposals.data[1:], truth[1:])
    viewer.layers["circles"].visible = True
    dock.controller.next_to_review()
    dock.controller.accept()
    np.testing.assert_array_equal(viewer.layers["circles labels"].data[0], truth[0])
    assert not dock.panel.error_text.text()


def test_closing_the_window_during_a_run_is_safe(opened: Callable[..., Any]) -> None:
    viewer, dock = taught(opened, SlowSegmenter())
    dock.controller.propose()
    wait_until(lambda: queue_length(dock) >= 1)
    runner = dock._parts.runner
    viewer.close()
    wait_until(lambda: not runner.is_busy)
    QApplication.processEvents()


def test_closing_the_dock_during_a_run_is_safe(opened: Callable[..., Any]) -> None:
    viewer, dock = taught(opened, SlowSegmenter())
    dock.controller.propose()
    wait_until(lambda: queue_length(dock) >= 1)
    before = queue_length(dock)
    viewer.window.remove_dock_widget(dock)
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    wait_for_threads(dock)
    assert queue_length(dock) == before
    assert viewer.layers["disks labels"].data.any()


def test_deleting_everything_leaves_a_dock_that_can_begin_anew(opened: Callable[..., Any]) -> None:
    viewer, dock = taught(opened, BrightnessSegmenter())
    dock.controller.propose()
    wait_for_threads(dock)
    viewer.layers.clear()
    assert dock.panel.next_step.text().startswith("Open an image")
    for action in ("paint", "teach", "nothing_here", "accept", "reject", "next_to_review", "propose"):
        getattr(dock.controller, action)()
        assert dock.panel.error_text.text()
    image, _ = disk_stack(3)
    viewer.add_image(image, name="disks")
    dock.controller.propose()
    wait_for_threads(dock)
    assert queue_length(dock) == 3


def test_proposal_data_replaced_by_something_else_is_made_anew(opened: Callable[..., Any]) -> None:
    viewer, dock = taught(opened, BrightnessSegmenter())
    dock.controller.propose()
    wait_for_threads(dock)
    viewer.layers["disks proposals"].data = np.zeros((5, 5), np.uint8)
    dock.controller.next_to_review()
    dock.controller.paint()
    dock.controller.accept()
    assert not dock.panel.error_text.text()
    wait_for_threads(dock)


BAD = {
    "a NaN": (np.full((32, 32), np.nan), "NaN or infinite"),
    "an infinity": (np.where(np.eye(32) > 0, np.inf, 1.0), "NaN or infinite"),
    "few pixels": (np.zeros((8, 100)), "at least 16 x 16"),
}


@pytest.mark.parametrize("what", BAD)
def test_an_image_that_cannot_be_used_says_why(opened: Callable[..., Any], what: str) -> None:
    data, message = BAD[what]
    viewer, dock = opened(BrightnessSegmenter())
    viewer.add_image(data, name="bad")
    dock.controller.paint()
    viewer.layers["bad labels"].data[2:4, 2:4] = 1
    dock.controller.teach()
    assert message in dock.panel.error_text.text() and "'bad'" in dock.panel.error_text.text()
    assert viewer.layers["bad labels"].data.sum() == 4


def test_a_bad_image_among_good_ones_is_told_about_and_skipped(opened: Callable[..., Any]) -> None:
    viewer, dock = taught(opened, BrightnessSegmenter(), bad=np.full((64, 64), np.nan))
    viewer.layers["bad"].name = "worse"
    dock.controller.propose()
    wait_for_threads(dock)
    assert queue_length(dock) == 11
    assert "'worse' has 4096 pixel value(s) that are NaN" in dock.panel.error_text.text()


@pytest.mark.filterwarnings("ignore:invalid value encountered")  # napari's own trouble with it
def test_an_empty_image_can_be_labelled_by_nobody(opened: Callable[..., Any]) -> None:
    viewer, dock = opened(BrightnessSegmenter())
    viewer.add_image(np.zeros((0, 30, 30)), name="empty", contrast_limits=(0, 1))
    item = dock.panel.images.item(0)
    assert item.toolTip().startswith("the image is empty, shape (0, 30, 30)")
    assert item.checkState() == Qt.CheckState.Unchecked
    dock.controller.paint()
    assert "no ticked image is on screen" in dock.panel.error_text.text().lower()


def test_a_lazy_stack_is_read_slice_by_slice(opened: Callable[..., Any]) -> None:
    read: list[int] = []
    image, truth = disk_stack(6)

    def block(block_info: Any = None) -> np.ndarray:
        z = block_info[None]["chunk-location"][0]
        read.append(z)
        return image[z : z + 1]

    lazy = da.map_blocks(block, chunks=((1,) * 6, (64,), (64,)), dtype=np.uint8, meta=np.empty((0, 0, 0), np.uint8))
    viewer, dock = opened(BrightnessSegmenter())
    viewer.add_image(lazy, name="lazy", contrast_limits=(0, 255))
    viewer.dims.set_point(0, 2)
    dock.controller.paint()
    viewer.layers["lazy labels"].data[2] = truth[2]
    dock.controller.teach()
    assert set(read) <= {0, 2, 3}, "the slices that were on screen"
    dock.controller.propose()
    wait_for_threads(dock)
    np.testing.assert_array_equal(viewer.layers["lazy proposals"].data[[0, 1, 3, 4, 5]], truth[[0, 1, 3, 4, 5]])


def test_painting_while_proposals_arrive_goes_on_undisturbed(opened: Callable[..., Any]) -> None:
    viewer, dock = taught(opened, SlowSegmenter())
    dock.controller.propose()
    wait_until(lambda: queue_length(dock) >= 2)
    dock.controller.cancel()
    viewer.dims.set_point(0, 11)  # not proposed yet
    labels = viewer.layers["disks labels"]
    labels.paint((11, 8, 8), 1)
    mine = labels.data[11].copy()
    dock.controller.propose()
    wait_until(lambda: dock.controller.session.state(("disks", 11)) is FrameState.PROPOSED)
    wait_for_threads(dock)
    np.testing.assert_array_equal(labels.data[11], mine)


def test_the_export_dialog_asks_before_it_replaces_files(
    opened: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, dock = opened(BrightnessSegmenter())
    (tmp_path / "a_labels.tif").write_bytes(b"precious")
    dialog = ExportDialog([ExportChoice("a", "a", "a_labels.tif"), ExportChoice("b", "b", "b_labels")], tmp_path, dock)
    asked: list[str] = []

    def answer(reply: QMessageBox.StandardButton) -> Callable[..., Any]:
        return lambda *args: (asked.append(args[2]), reply)[1]

    monkeypatch.setattr(QMessageBox, "question", answer(QMessageBox.StandardButton.No))
    dialog.accept()
    assert "a_labels.tif" in asked[0] and "b_labels" not in asked[0]
    assert dialog.result() == ExportDialog.DialogCode.Rejected
    monkeypatch.setattr(QMessageBox, "question", answer(QMessageBox.StandardButton.Yes))
    dialog.accept()
    assert dialog.result() == ExportDialog.DialogCode.Accepted
    request = dialog.request()
    assert request.overwrite and not request.with_proposals
    assert [path.name for _, path in request.files] == ["a_labels.tif", "b_labels.tif"]
    assert not request.with_origins
    (tmp_path / "provenance.csv").write_bytes(b"precious")
    dialog.with_origins.setChecked(True)
    dialog.accept()
    assert dialog.request().with_origins and "provenance.csv" in asked[-1]
    dialog.ticks[0].setChecked(False)
    assert [uid for uid, _ in dialog.request().files] == ["b"]
    dialog.deleteLater()


@pytest.mark.parametrize(("name", "file"), [("tiff", "a_labels_objects.tif"), ("ome-zarr", "image_objects.zarr")])
def test_the_export_dialog_asks_before_it_replaces_numbers_of_objects(
    name: str, file: str, opened: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, dock = opened(BrightnessSegmenter())
    (tmp_path / "image.zarr").mkdir()
    (tmp_path / "image_objects.zarr" / "labels" / "labels").mkdir(parents=True)
    (tmp_path / "a_labels_objects.tif").write_bytes(b"precious")
    source = tmp_path / "image.zarr" if name == "ome-zarr" else None
    asked: list[str] = []
    monkeypatch.setattr(
        QMessageBox, "question", lambda *args: (asked.append(args[2]), QMessageBox.StandardButton.No)[1]
    )
    for told_apart in (True, False):
        dialog = ExportDialog([ExportChoice("a", "a", "a_labels.tif", source, told_apart)], tmp_path, dock)
        dialog.format.setCurrentIndex([each.name for each in LABEL_FORMATS].index(name))
        dialog.accept()
        assert dialog.result() == (ExportDialog.DialogCode.Rejected if told_apart else ExportDialog.DialogCode.Accepted)
        dialog.deleteLater()
    assert len(asked) == 1 and (file if source is None else "labels") in asked[0]


def test_the_export_dialog_names_files_as_the_format_does(opened: Callable[..., Any], tmp_path: Path) -> None:
    _, dock = opened(BrightnessSegmenter())
    (tmp_path / "image.zarr").mkdir()
    choices = [ExportChoice("a", "a", "a_labels.tif"), ExportChoice("b", "b", "b_labels.tif", tmp_path / "image.zarr")]
    dialog = ExportDialog(choices, tmp_path, dock)
    named = {}
    for number, each in enumerate(LABEL_FORMATS):
        dialog.format.setCurrentIndex(number)
        request = dialog.request()
        named[each.name] = [path.name for _, path in request.files]
        assert request.format == each.name and dialog.note.text() == each.summary
    assert named == {
        "tiff": ["a_labels.tif", "b_labels.tif"],
        "ome-zarr": ["a_labels.ome.zarr", "image.zarr"],
        "nifti": ["a_labels.nii.gz", "b_labels.nii.gz"],
        "png": ["a_labels.png", "b_labels.png"],
        "coco": ["labels.json", "labels.json"],
        "coco-rle": ["labels.json", "labels.json"],
        "yolo": ["labels", "labels"],
        "csv": ["labels.csv", "labels.csv"],
    }
    dialog.format.setCurrentIndex(0)
    assert [path.name for _, path in dialog.request().files] == ["a_labels.tif", "b_labels.tif"]
    dialog.deleteLater()
