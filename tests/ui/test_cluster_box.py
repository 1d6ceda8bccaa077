"""Run on cluster: what the part of the dock says and what its buttons do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from qtpy.QtWidgets import QFileDialog

from tests.ui.conftest import propose_on_disks, wait_until


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


def test_the_button_lets_a_cluster_do_what_the_dock_has_learnt(
    opened: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    viewer, dock = opened()
    propose_on_disks(viewer, dock)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path / "labelled here"))
    box, shown = dock.panel.cluster, set()
    dock.cluster.changed.connect(lambda: shown.add(box.line.text()))
    box.place.setText("local:1")
    box.start.click()
    assert box.stop.isEnabled()
    wait_until(lambda: not dock.cluster.runs, 120)
    assert not dock.controller.reporter.error
    assert {"Starting workers ...", "3 of 3 images"} <= shown
    labels = tifffile.imread(tmp_path / "labelled here/disks_labels.tif")
    np.testing.assert_array_equal(labels[0], viewer.layers["disks labels"].data[0])
    np.testing.assert_array_equal(labels[1:], viewer.layers["disks proposals"].data[1:])
    assert (box.start.isEnabled(), box.stop.isEnabled(), box.line.isHidden()) == (True, False, True)
