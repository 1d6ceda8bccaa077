"""Any model of timm by its name, in the window."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from qtpy.QtCore import Qt
from safetensors.torch import save_file

from napari_fewshot.models.weights import FOLDER_VARIABLE
from napari_fewshot.ui.actions import Action
from tests.ui.conftest import propose_on_disks, wait_for_threads


@pytest.fixture(autouse=True)
def weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the only weights that there are, and no internet."""

    def refuse(*_: object) -> None:
        raise OSError("no route to host")

    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    monkeypatch.setattr("napari_fewshot.models.weights.cached_from_hub", lambda *_: None)
    monkeypatch.setattr("napari_fewshot.models.weights.download_from_hub", refuse)
    return folder


def choose(dock: Any, backbone: str) -> None:
    dock.panel.segmenter["backbone"].value = backbone
    wait_for_threads(dock)


def type_name(dock: Any, qtbot: Any, name: str) -> str:
    """Type a name and press Enter; return what is said to it."""
    line = dock.panel.model.line
    line.clear()
    qtbot.keyClicks(line, name)
    qtbot.keyClick(line, Qt.Key.Key_Return)
    wait_for_threads(dock)
    return str(dock.panel.model.text.text())


def test_a_model_is_typed_looked_up_and_used(opened: Callable[..., Any], qtbot: Any, weights_folder: Path) -> None:
    torch.manual_seed(0)  # the architecture only is tested with these
    save_file(timm.create_model("test_resnet").state_dict(), weights_folder / "test_resnet.safetensors")
    viewer, dock = opened()
    panel, session = dock.panel, dock.controller.session
    panel.buttons[Action.VIEW].click()
    panel.advanced.expand(animate=False)
    assert not panel.model.isVisibleTo(panel)
    choose(dock, "timm:")
    assert panel.model.isVisibleTo(panel) and panel.model.text.text().startswith("Type the name of a model")
    assert session.settings.backbone == "auto", "until there is a name"
    completer = panel.model.line.completer()
    completer.setCompletionPrefix("dinov3")
    assert completer.completionCount() > 5 and "dinov3" in completer.currentCompletion()

    said = type_name(dock, qtbot, "resnt18")
    assert "has no model 'resnt18'; did you mean timm:resnet18" in said
    assert "border-left" in panel.model.text.styleSheet()
    assert session.settings.backbone == "auto" and not panel.error_text.text()

    said = type_name(dock, qtbot, "resnet18.a1_in1k")
    assert "apache-2.0" in said and "ImageNet" in said and said.endswith("the first time you press Propose.")
    assert session.settings.backbone == "timm:resnet18.a1_in1k" and "border-left" not in panel.model.text.styleSheet()
    assert not panel.licence.isVisibleTo(panel), "one text about terms is enough"

    said = type_name(dock, qtbot, "timm:test_resnet@1,2,3")
    assert "downloaded" not in said
    panel.segmenter["device"].value = "cpu"
    panel.segmenter["method"].value = "panet"
    assert session.settings.backbone == "timm:test_resnet@1,2,3"
    propose_on_disks(viewer, dock)
    assert not panel.error_text.text() and len(session.review_queue()) == 2
    assert "timm:test_resnet@1,2,3" in session.segmenter().name

    choose(dock, "scale-space")
    assert not panel.model.isVisibleTo(panel) and session.settings.backbone == "scale-space"
    choose(dock, "timm:")
    assert session.settings.backbone == "timm:test_resnet@1,2,3", "what was named before"


def test_weights_that_cannot_be_had_are_told_about_when_proposing(opened: Callable[..., Any], qtbot: Any) -> None:
    viewer, dock = opened()
    choose(dock, "timm:")
    type_name(dock, qtbot, "test_vit")
    propose_on_disks(viewer, dock)
    assert "not on this computer and could not be downloaded (no route to host)" in dock.panel.error_text.text()


def test_without_timm_the_dock_says_how_to_get_it(opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    _, dock = opened()
    monkeypatch.setitem(sys.modules, "timm", None)
    choose(dock, "timm:")
    assert 'pip install "napari-fewshot[timm]"' in dock.panel.model.text.text()
    assert dock.controller.session.settings.backbone == "auto" and not dock.panel.error_text.text()
