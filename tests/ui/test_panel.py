"""How the dock looks and opens: its keys, its size, its form, and what it imports."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QFont, QKeySequence
from qtpy.QtWidgets import QApplication, QLabel, QPushButton

from napari_fewshot.models import list_backbones, list_segmenters
from napari_fewshot.propagation import PropagationSettings
from napari_fewshot.segmenter import SegmenterSettings
from napari_fewshot.support import LabelClass
from napari_fewshot.ui.actions import DEFAULT_KEYS, Action
from napari_fewshot.ui.keymap import KEYMAP
from napari_fewshot.ui.keys_dialog import KeysDialog
from napari_fewshot.ui.napari_keys import keys_of_napari, portable
from napari_fewshot.ui.ports import PAINTED_BACKGROUND
from napari_fewshot.ui.state import Progress
from tests.fakes import BrightnessSegmenter

OPENING = """
import os, sys, time
import napari
from qtpy.QtWidgets import QApplication
application = QApplication([])
viewer = napari.components.ViewerModel()
start = time.process_time()
from napari_fewshot.ui.dock import FewShotDock
dock = FewShotDock(viewer)
seconds = time.process_time() - start  # of work, however busy the computer is with other things
assert "torch" not in sys.modules, "opening the dock imported torch"
assert seconds < 1, f"opening the dock took {seconds:.2f} s"
"""


def test_the_dock_opens_within_a_second_and_without_torch() -> None:
    run = subprocess.run([sys.executable, "-c", OPENING], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr[-2000:]


def test_no_key_is_one_of_naparis_own(opened: Callable[..., Any]) -> None:
    from napari.utils.shortcuts import default_shortcuts

    viewer, _ = opened()
    taken = keys_of_napari(viewer.window._qt_window)
    known = {portable(key) for keys in default_shortcuts.values() for key in keys}
    assert len(known) >= 60 and known <= set(taken) and {"Shift+P", "Ctrl+0"} <= set(taken)
    assert {action: taken[key] for action, key in DEFAULT_KEYS.items() if key in taken} == {}
    assert all(portable(key) == key for key in DEFAULT_KEYS.values()), "as Qt writes them"


def type_key(dialog: KeysDialog, action: Action, key: str) -> None:
    dialog.edits[action].setKeySequence(QKeySequence(key))
    dialog.edits[action].editingFinished.emit()


def test_keys_are_changed_in_a_window_and_what_clashes_is_refused(opened: Callable[..., Any]) -> None:
    viewer, dock = opened(show=True)
    QApplication.processEvents()
    dialog = KeysDialog(KEYMAP, viewer.window._qt_window)
    assert set(dialog.edits) == set(Action)
    type_key(dialog, Action.TEACH, "F10")
    assert dock.panel.buttons[Action.TEACH].text() == "Teach this slice  [F10]"
    assert "F10" in {shortcut.key().toString() for shortcut in dock._parts.shortcuts}
    for key, whose in (("Shift+Y", "'Accept'"), ("Shift+P", "napari"), ("Ctrl+0", "napari"), ("F9, F10", "several")):
        type_key(dialog, Action.TEACH, key)
        assert dialog.message.text().startswith("Not changed: ") and whose in dialog.message.text()
        assert KEYMAP[Action.TEACH] == dialog.edits[Action.TEACH].keySequence().toString() == "F10"
    type_key(dialog, Action.ACCEPT, "Backspace")
    assert dock.panel.buttons[Action.ACCEPT].text() == "Accept"
    dialog.defaults.click()
    assert not KEYMAP.chosen and dock.panel.buttons[Action.TEACH].text().endswith("[Shift+T]")
    dialog.deleteLater()


def test_chosen_keys_and_the_view_are_remembered(opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    _, dock = opened()
    monkeypatch.setattr(KeysDialog, "exec", lambda dialog: type_key(dialog, Action.TEACH, "F10"))
    assert not dock.panel.shows_everything
    dock.panel.buttons[Action.KEYS].click()
    dock.panel.buttons[Action.VIEW].click()
    assert dock.panel.shows_everything
    KEYMAP.reset()  # another program begins
    _, other = opened()
    assert other.panel.shows_everything and other.panel.buttons[Action.VIEW].isChecked()
    assert other.panel.buttons[Action.TEACH].text() == "Teach this slice  [F10]"
    KEYMAP.reset()


def test_the_simple_view_has_what_is_needed_every_day_and_the_advanced_one_everything(
    opened: Callable[..., Any],
) -> None:
    _, dock = opened(show=True)
    panel = dock.panel
    daily = {
        Action.PAINT, Action.TEACH, Action.NOTHING_HERE, Action.PROPOSE, Action.ACCEPT, Action.REJECT, Action.NEXT,
        Action.UNDO, Action.REDO, Action.EXPORT, Action.OPEN_SESSION, Action.VIEW,
    }  # fmt: skip
    simple = {action for action, button in panel.buttons.items() if button.isVisibleTo(panel)}
    assert daily <= simple and not panel.advanced.isVisibleTo(panel)
    panel.buttons[Action.VIEW].click()
    panel.open_clean_up()
    panel.open_quality()
    panel.objects.click()  # tools for objects are seen where these are told apart
    everything = {action for action, button in panel.buttons.items() if button.isVisibleTo(panel)}
    assert everything == set(Action) - {Action.CANCEL}, "which is seen in a run"
    assert simple < everything and panel.advanced.isVisibleTo(panel)
    panel.buttons[Action.VIEW].click()
    panel.clean_up_part.fold()
    panel.quality_part.fold()
    panel.objects.click()
    assert {action for action, button in panel.buttons.items() if button.isVisibleTo(panel)} == simple


def test_every_button_has_its_key_printed_on_it_and_a_hint(opened: Callable[..., Any]) -> None:
    _, dock = opened()
    for action, button in dock.panel.buttons.items():
        assert button.text().endswith(f"[{DEFAULT_KEYS[action]}]") and len(button.toolTip()) > 15


def test_keys_are_bound_once_and_gone_with_the_dock(opened: Callable[..., Any]) -> None:
    viewer, dock = opened(show=True)
    QApplication.processEvents()
    dock.hide()
    dock.show()
    keys = [shortcut.key().toString() for shortcut in dock._parts.shortcuts]
    assert sorted(keys) == sorted(DEFAULT_KEYS.values())
    viewer.window.remove_dock_widget(dock)
    assert not dock._parts.shortcuts


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("scale", [1.0, 1.5])
@pytest.mark.parametrize("everything", [False, True])
def test_nothing_is_cut_off_on_a_small_screen(
    opened: Callable[..., Any], theme: str, scale: float, everything: bool
) -> None:
    application = QApplication.instance()
    before = application.font()
    font = QFont(before)
    font.setPointSizeF(before.pointSizeF() * scale)
    application.setFont(font)
    try:
        viewer, dock = opened(BrightnessSegmenter(), show=True)
        viewer.theme = theme
        viewer.window.resize(1366, 768)
        viewer.add_image(np.zeros((3, 40, 40)), name="an image with quite a long name, as microscopes make them")
        dock.panel.show_everything(everything)
        dock.panel.advanced.expand(animate=False)
        for _ in range(5):
            QApplication.processEvents()
        assert viewer.window._qt_window.height() <= 768 and viewer.window._qt_window.width() <= 1366
        for widget in dock.panel.findChildren((QPushButton, QLabel)):
            if widget.isVisible() and widget.text() and not (isinstance(widget, QLabel) and widget.wordWrap()):
                needed = widget.fontMetrics().horizontalAdvance(widget.text())
                assert widget.width() >= needed, f"'{widget.text()}' is cut off: {widget.width()} < {needed}"
        viewport = dock.panel._scroll.viewport()
        assert dock.panel._content.width() <= viewport.width()
    finally:
        application.setFont(before)


def test_the_advanced_form_offers_what_is_registered(opened: Callable[..., Any]) -> None:
    _, dock = opened()
    form = dock.panel.segmenter
    assert form["method"].choices == tuple(card.name for card in list_segmenters())
    assert form["backbone"].choices == ("auto", *(card.name for card in list_backbones()), "timm:")
    assert form["device"].choices == ("auto", "cuda", "mps", "cpu")
    box = form["method"].native
    for row, card in enumerate(list_segmenters()):
        told = box.itemData(row, Qt.ItemDataRole.ToolTipRole)
        assert told.startswith(card.summary) and card.levels in told and card.trained in told
    form["method"].value = "panet"
    assert dock.controller.session.settings == SegmenterSettings(method="panet")
    titles = {widget.label for widget in dock.panel.propagation._container}
    assert titles == {"Leave out slices taught in full"}
    dock.controller.session.propagation = PropagationSettings(min_area=7)
    dock.panel.propagation["skip_taught"].value = False
    assert dock.controller.session.propagation == PropagationSettings(min_area=7, skip_taught=False)
    dock.panel.propagation["skip_taught"].value = True
    assert dock.controller.session.propagation == PropagationSettings(min_area=7)


def test_images_can_be_unticked_and_ticked(opened: Callable[..., Any]) -> None:
    viewer, dock = opened()
    viewer.add_image(np.zeros((40, 40)), name="a")
    item = dock.panel.images.item(0)
    assert item.checkState() == Qt.CheckState.Checked
    item.setCheckState(Qt.CheckState.Unchecked)
    assert not dock.controller.session.frames
    assert dock.panel.next_step.text().startswith("Tick the images")
    dock.panel.images.item(0).setCheckState(Qt.CheckState.Checked)
    assert list(dock.controller.session.frames) == [("a",)]


def test_classes_are_added_renamed_picked_and_removed_in_the_table(opened: Callable[..., Any]) -> None:
    viewer, dock = opened()
    viewer.add_image(np.zeros((40, 40)), name="a")
    table = dock.panel.classes.table
    assert [table.item(row, 1).text() for row in range(table.rowCount())] == ["cell", "background"]
    dock.panel.buttons[Action.ADD_CLASS].click()
    table.closePersistentEditor(table.item(1, 1))
    table.item(1, 1).setText("nucleus")
    assert dock.controller.session.classes[1].name == "nucleus"
    table.cellClicked.emit(1, 1)
    labels = viewer.layers["a labels"]
    assert labels.selected_label == 2 and labels.mode == "paint"
    table.cellClicked.emit(2, 1)
    assert labels.selected_label == PAINTED_BACKGROUND
    table.cellClicked.emit(1, 1)
    dock.panel.buttons[Action.REMOVE_CLASS].click()
    assert dock.controller.session.classes == (LabelClass(1, "cell"),)
    table.item(0, 1).setText("  ")
    assert table.item(0, 1).text() == "cell", "a class keeps its name when it gets none"


def test_errors_stay_until_somebody_has_read_them(opened: Callable[..., Any]) -> None:
    viewer, dock = opened()
    viewer.add_image(np.zeros((40, 40)), name="a")
    dock.panel.action_requested.emit(Action.TEACH.value)
    assert dock.panel.error.isVisibleTo(dock.panel)
    assert dock.panel.error_text.text().startswith("Nothing is painted on 'a'")
    dock.panel.error_close.click()
    assert not dock.panel.error.isVisibleTo(dock.panel)


def test_no_message_makes_the_dock_wider(opened: Callable[..., Any]) -> None:
    _, dock = opened()
    panel = dock.panel
    panel.advanced.expand(animate=False)
    before = panel.sizeHint().width()
    panel.segmenter["backbone"].value = "resnet18"  # which comes with a notice
    long = "Learning from what you taught, which takes a while, about 1 min 15 s left " * 3
    full = {"estimate": long, "warning": long, "notices": (long, long), "kept": long, "not_preparing": long}
    enabled = frozenset({Action.CANCEL})
    panel.show_state(replace(panel._shown, error=long, enabled=enabled, progress=Progress(3, 9, long), **full))
    QApplication.processEvents()
    assert panel.sizeHint().width() == before
    assert panel.notices.text.text().count("•") == 2


def test_the_paint_button_says_correct_where_a_proposal_is_open(opened: Callable[..., Any]) -> None:
    _, dock = opened()
    panel = dock.panel
    panel.show_state(replace(panel._shown, correcting=True, above=12))
    assert panel.buttons[Action.PAINT].text() == "Correct  [Shift+B]"
    assert panel.buttons[Action.ACCEPT_ABOVE].text() == "Accept 12 above  [Shift+M]"


def test_a_setting_that_does_not_exist_here_is_told_about_and_loses_nothing(opened: Callable[..., Any]) -> None:
    from tests.ui.conftest import disk_stack, wait_for_threads

    viewer, dock = opened()
    image, truth = disk_stack(2)
    viewer.add_image(image, name="disks")
    viewer.dims.set_point(0, 0)
    dock.controller.paint()
    viewer.layers["disks labels"].data[0] = truth[0]
    dock.controller.teach()
    dock.panel.segmenter["device"].value = "mps"
    dock.controller.propose()
    wait_for_threads(dock)
    assert "mps" in dock.panel.error_text.text()
    assert "unexpected" not in dock.panel.error_text.text()
    assert len(dock.controller.session.support) == 1
