"""Run on cluster: what the part of the dock says and what its buttons do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtWidgets import QFileDialog


def test_the_dock_starts_shows_and_cancels_a_run(
    opened: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, dock = opened()
    box = dock.panel.cluster
    assert (box.start.isEnabled(), box.stop.isEnabled(), box.line.isHidden()) == (True, False, True)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "")
    box.start.click()
    assert not dock.controller.reporter.error, "nobody chose a folder"
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    box.place.setText("here")
    box.start.click()
    assert "is no cluster" in dock.controller.reporter.error
    assert "is no cluster" in dock.panel.error_text.text()
    dock.cluster.line = "3 of 9 images"
    dock.cluster.changed.emit()
    assert (box.line.text(), box.start.isEnabled(), box.place.isEnabled()) == ("3 of 9 images", False, False)
    box.stop.click()
    assert (dock.cluster.runs, box.start.isEnabled(), box.stop.isEnabled()) == (False, True, False)
    assert list(tmp_path.iterdir()) == []
