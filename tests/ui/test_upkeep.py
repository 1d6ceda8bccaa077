"""Kept features, preferences, and images prepared while somebody paints, with real features and a real window."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QMessageBox

from napari_fewshot.frames import Frame
from napari_fewshot.models.cache_settings import CacheSettings
from napari_fewshot.segmenter import Prepares, SegmenterSettings
from napari_fewshot.session import Session
from napari_fewshot.support import LabelClass
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.dock import FewShotDock
from napari_fewshot.ui.feature_store import FeatureStore
from napari_fewshot.ui.preferences import Preferences, preferences_file, read_preferences, write_preferences
from tests.ui.conftest import disk_stack, wait_for_threads, wait_until


# ------------------------------------------------------------------------------------------- preferences
def test_preferences_come_back(tmp_path: Path) -> None:
    assert read_preferences() == Preferences()
    chosen = Preferences(memory_gib=2.5, disk_gib=0.0, prepare=False)
    write_preferences(chosen)
    assert read_preferences() == chosen
    assert preferences_file().is_relative_to(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"memory_gib": "much"}', '{"disk_gib": -1}', '{"of a later version": 1}']
)
def test_preferences_that_make_no_sense_are_the_defaults(content: str) -> None:
    preferences_file().parent.mkdir(parents=True)
    preferences_file().write_text(content)
    assert read_preferences() == Preferences()


# ------------------------------------------------------------------------------------------- the store
def stored(memory_gib: float = 1.0) -> FeatureStore:
    return FeatureStore(CacheSettings(memory_gib, 1.0))


def prepare(store: FeatureStore, *images: np.ndarray) -> None:
    segmenter = store.load(SegmenterSettings("panet", device="cpu"))
    assert isinstance(segmenter, Prepares)
    for number, image in enumerate(images):
        assert len(list(segmenter.prepare(Frame(("stack", number), image)))) == 1
    store._cache.flush(10)  # type: ignore[union-attr]


def test_features_of_yesterday_are_there_today_and_cleared_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_fewshot.models.cache_folder.RESERVE", 0)
    images, _ = disk_stack(2)
    prepare(stored(), *images)
    today = stored()
    before = today.tidy()
    assert before.memory_bytes == 0 and before.entries == 2 and before.disk_bytes > images.size
    prepare(today, *images)
    after = today.tidy()
    assert after.disk_bytes == before.disk_bytes and after.memory_bytes > 0
    today.clear()
    assert today.tidy().entries == 0
    assert stored().tidy().disk_bytes == 0


def test_new_limits_reach_a_cache_that_is_at_work_and_one_that_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_fewshot.models.cache_folder.RESERVE", 0)
    images, _ = disk_stack(3)
    store = stored()
    prepare(store, *images)
    store.limit(CacheSettings(0.0, 1.0))
    assert store.tidy().memory_bytes == 0
    one = store.tidy().disk_bytes / 3
    later = stored()
    later.limit(CacheSettings(1.0, 1.5 * one / (1 << 30)))
    assert later.tidy().entries == 1


def test_looking_at_what_is_kept_and_clearing_it_needs_no_torch() -> None:
    script = """
import sys
from napari_fewshot.models.cache_settings import CacheSettings
from napari_fewshot.ui.feature_store import FeatureStore
store = FeatureStore(CacheSettings())
store.clear()
store.limit(CacheSettings(1.0, 2.0))
assert store.tidy().entries == 0
assert not store.needs_download(__import__("napari_fewshot.segmenter").segmenter.SegmenterSettings())
assert "torch" not in sys.modules
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr[-2000:]


def test_weights_are_downloaded_only_when_somebody_asked_for_proposals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_fewshot.models.weights.locate", lambda source: None)
    assert stored().needs_download(SegmenterSettings(backbone="resnet18"))
    monkeypatch.setattr("napari_fewshot.models.weights.locate", lambda source: Path("resnet18.pth"))
    assert not stored().needs_download(SegmenterSettings(backbone="resnet18"))


def test_a_constant_image_needs_no_preparation() -> None:
    store = stored()
    prepare(store, np.zeros((32, 32)))
    assert store.tidy().entries == 0


# ------------------------------------------------------------------------------------------- in the window
@pytest.fixture
def own(make_napari_viewer: Callable[..., Any], qtbot: Any) -> Any:
    """A window with a dock that loads its own segmenter, on the processor."""
    viewer = make_napari_viewer()
    dock = FewShotDock(viewer)
    dock.controller.session.set_classes([LabelClass(1, "cell")])
    dock.controller.use_settings(SegmenterSettings("panet", device="cpu"))
    viewer.window.add_dock_widget(dock, name="Few-shot propagation")
    yield viewer, dock
    wait_for_threads(dock)


def test_the_dock_keeps_its_features_and_says_how_much(own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    viewer, dock = own
    image, truth = disk_stack(3)
    viewer.add_image(image, name="disks")
    viewer.dims.set_point(0, 0)
    dock.controller.set_prepare(False)
    dock.controller.paint()
    viewer.layers["disks labels"].data[0] = truth[0]
    dock.controller.teach()
    assert dock.panel.progress.estimate.text().startswith("2 slices of 64 x 64: roughly 1 s, ")
    dock.controller.propose()
    wait_for_threads(dock)
    assert dock.controller.session.review_queue() and not dock.panel.error_text.text()
    dock.controller.propose()
    wait_for_threads(dock)
    assert dock.panel.progress.estimate.text().startswith("2 slices of 64 x 64: about 1 s, ")
    box = dock.panel.memory
    assert box.kept.text().startswith("Kept: ") and "Kept: 0 MiB in memory" not in box.kept.text()

    box.memory.setValue(0.0)
    wait_for_threads(dock)
    assert "Kept: 0 MiB in memory" in box.kept.text() and read_preferences().memory_gib == 0.0

    asked: list[str] = []
    answers = iter((QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes))
    monkeypatch.setattr(QMessageBox, "question", lambda *args: (asked.append(args[2]), next(answers))[1])
    folder = CacheSettings().features_folder
    dock.controller.upkeep.features._cache.flush(10)
    for files in (3, 0):
        dock.panel.buttons[Action.CLEAR_KEPT].click()
        wait_for_threads(dock)
        assert len(list(folder.glob("*.safetensors"))) == files
    assert "Nothing that you painted" in asked[0]
    assert str(folder) in box.kept.toolTip()


def test_images_are_prepared_while_somebody_paints_and_the_window_stays_smooth(own: Any) -> None:
    viewer, dock = own
    rng = np.random.default_rng(0)
    viewer.add_image(rng.integers(0, 255, (20, 512, 512), dtype=np.uint8), name="stack")
    viewer.dims.set_point(0, 10)
    forecast, settings = dock.controller.forecast, dock.controller.session.settings
    dock.controller.session.segmenter()  # what loading torch costs is no matter of smoothness while painting
    dock.controller.paint()
    labels = viewer.layers["stack labels"]
    late: list[float] = []
    expected = time.perf_counter()

    def tick() -> None:
        nonlocal expected
        now = time.perf_counter()
        late.append(now - expected)
        expected = now + 0.01

    timer = QTimer()
    timer.timeout.connect(tick)
    timer.start(10)
    end = time.monotonic() + 8
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.001)
    timer.stop()
    labels.paint((10, 8, 8), 1)
    ready = [key for key in dock.controller.session.frames if forecast.is_known(settings, key)]
    assert ("stack", 10) in ready and len(ready) >= 2
    assert all(abs(key[1] - 10) <= len(ready) for key in ready), "neighbours first"
    assert np.percentile(late, 95) < 0.1, f"95 % of events waited up to {np.percentile(late, 95):.3f} s"
    dock.controller.set_prepare(False)
    assert not read_preferences().prepare


def test_preparing_ends_with_the_window(make_napari_viewer: Callable[..., Any]) -> None:
    viewer = make_napari_viewer()
    dock = FewShotDock(viewer)
    viewer.window.add_dock_widget(dock, name="Few-shot propagation")
    viewer.add_image(np.random.default_rng(0).integers(0, 255, (20, 256, 256), dtype=np.uint8), name="stack")
    dock.controller.paint()
    runners = dock._parts.runners
    wait_until(lambda: dock._parts.preparer.is_busy)
    viewer.close()
    wait_until(lambda: not any(runner.is_busy for runner in runners))


def test_the_terms_of_a_backbone_are_shown_before_it_is_used(opened: Callable[..., Any]) -> None:
    _, dock = opened()
    assert not dock.panel.licence.isVisibleTo(dock.panel.advanced)
    dock.panel.segmenter["backbone"].value = "resnet18"
    assert "ImageNet" in dock.panel.licence.text() and "non-commercial" in dock.panel.licence.text()
    dock.panel.segmenter["backbone"].value = "scale-space"
    assert dock.panel.licence.text() == ""


def test_what_was_chosen_another_day_is_what_the_dock_begins_with(opened: Callable[..., Any]) -> None:
    write_preferences(Preferences(0.0, 3.5, prepare=False))
    _, dock = opened()
    box = dock.panel.memory
    assert (box.memory.value(), box.memory.text(), box.disk.value()) == (0.0, "off", 3.5)
    assert not box.prepare.isChecked()
    assert dock.controller.upkeep.features.settings == CacheSettings(0.0, 3.5)
    box.prepare.setChecked(True)
    box.disk.setValue(4.0)
    assert read_preferences() == Preferences(0.0, 4.0, prepare=True)


def test_notices_stay_until_somebody_has_read_them(opened: Callable[..., Any]) -> None:
    _, dock = opened()
    dock.controller.reporter.notices.add("cuda ran out of memory: going on, more slowly, on the CPU")
    dock.controller.slice_changed()
    assert dock.panel.notices.isVisibleTo(dock.panel)
    assert dock.panel.notices.text.text().startswith("Cuda ran out of memory")
    dock.panel.notices.close_button.click()
    assert not dock.panel.notices.isVisibleTo(dock.panel)


def test_a_session_of_ones_own_keeps_features_in_memory_only() -> None:
    session = Session(settings=SegmenterSettings("panet", device="cpu"))
    assert session.segmenter().extractor.cache.disk is None  # type: ignore[attr-defined]
