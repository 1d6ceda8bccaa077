"""Opened, used and closed again and again, the dock leaves nothing behind."""

import gc
from collections.abc import Callable, Iterator
from typing import Any
from weakref import ref

import psutil
import pytest
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication

from napari_fewshot.session import Session
from napari_fewshot.support import LabelClass
from napari_fewshot.ui.dock import FewShotDock
from tests.fakes import BrightnessSegmenter
from tests.ui.conftest import propose_on_disks, wait_for_threads, wait_until

ROUNDS = 50
WARM = 5
MOST_GROWN = 1 << 20
"""Bytes of the process for each round: much less than a dock that stays, with its widgets, layers and session."""


@pytest.fixture(autouse=True)
def _short_collections() -> Iterator[None]:
    """Let garbage be looked for among new objects alone: napari looks whenever a layer goes, and modules are a lot."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def a_round(viewer: Any) -> list[Any]:
    """Open the dock, propose on a stack, close it, remove everything; returns what must be gone after it."""
    dock = FewShotDock(viewer, Session(BrightnessSegmenter(), classes=[LabelClass(1, "cell")]))
    widget = viewer.window.add_dock_widget(dock, name="Few-shot propagation")
    propose_on_disks(viewer, dock, 3)
    assert len(dock.controller.session.review_queue()) == 2
    parts = [ref(part) for part in (dock, dock.controller, dock.controller.session, viewer.layers["disks proposals"])]
    viewer.window.remove_dock_widget(dock)
    wait_for_threads(dock)
    viewer.layers.clear()
    widget.deleteLater()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)  # as the event loop of the application does
    return parts


def test_memory_returns_to_its_level_after_many_rounds(make_napari_viewer: Callable[..., Any]) -> None:
    viewer, process = make_napari_viewer(), psutil.Process()
    parts: list[Any] = []
    level = 0
    for number in range(ROUNDS):
        parts += a_round(viewer)
        if number == WARM - 1:
            gc.collect()
            level = process.memory_info().rss

    def is_gone() -> bool:
        gc.collect()
        return all(part() is None for part in parts[:-4])  # the last round may still be on the stack of napari

    wait_until(is_gone, 20)
    grown = (process.memory_info().rss - level) / (ROUNDS - WARM)
    print(f"{level >> 20} MiB after {WARM} rounds, {grown / 1024:.0f} KiB more for each of {ROUNDS - WARM}")
    assert grown < MOST_GROWN, f"{grown / 1024:.0f} KiB more for each round"
