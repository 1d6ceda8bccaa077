"""Sessions of the dock on the disk: saved by themselves, opened in another window."""

from collections.abc import Callable
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.plugins._npe2 import get_readers
from qtpy.QtWidgets import QFileDialog

from napari_fewshot import open_session
from napari_fewshot.errors import ReadError
from napari_fewshot.io.image_places import find_again
from napari_fewshot.session import FrameState, Session
from napari_fewshot.support import LabelClass, Shot
from napari_fewshot.ui.preferences import read_preferences
from napari_fewshot.ui.session_reader import get_reader, open_in_dock
from tests.fakes import BrightnessSegmenter
from tests.ui.conftest import disk_stack, wait_for_threads, wait_until


def layers_of(viewer: Any) -> dict[str, Any]:
    return {layer.name: np.asarray(layer.data) for layer in viewer.layers}


def label_some(viewer: Any, dock: Any, name: str) -> None:
    """Teach a slice, get proposals, correct one, accept one, reject one, and paint another without teaching."""
    _, disks = disk_stack()
    viewer.dims.set_point(0, 0)
    dock.controller.paint()
    labels = viewer.layers[f"{name} labels"]
    labels.data[0] = disks[0]
    labels.events.paint(value=[])
    dock.controller.teach()
    dock.controller.propose()
    wait_for_threads(dock)
    proposals = viewer.layers[f"{name} proposals"]
    for z, decide in ((1, dock.controller.accept), (2, dock.controller.reject)):
        viewer.dims.set_point(0, z)
        decide()
        wait_for_threads(dock)
    viewer.dims.set_point(0, 3)
    proposals.data[3, :4, :4] = 1
    proposals.events.paint(value=[])
    viewer.dims.set_point(0, 2)
    labels.data[2, 5, 5:9] = 1
    labels.events.paint(value=[])


def is_saved(dock: Any) -> bool:
    return dock.saving.folder is not None and dock.saving.line.startswith("Saved in")


def picture(session: Any) -> dict[Any, Any]:
    found = {}
    for key in session.frames:
        labels, origins = session.labels(key, with_proposals=True), session.origins(key)
        found[key] = (
            session.state(key),
            None if labels is None else labels.tolist(),
            None if origins is None else origins.tolist(),
        )
    return found


@pytest.mark.parametrize("in_file", [True, False])
def test_what_was_done_comes_back_in_another_window(opened: Callable[..., Any], tmp_path: Path, in_file: bool) -> None:
    viewer, dock = opened(BrightnessSegmenter())
    image, _ = disk_stack()
    if in_file:
        tifffile.imwrite(tmp_path / "disks.tif", image)
        viewer.open(tmp_path / "disks.tif", plugin="napari")
    else:
        viewer.add_image(image, name="disks")
    assert dock.saving.folder is None
    label_some(viewer, dock, "disks")
    wait_until(lambda: is_saved(dock), 10)
    folder, before, layers = dock.saving.folder, picture(dock.controller.session), layers_of(viewer)
    assert folder.is_relative_to(tmp_path / "data")
    assert picture(open_session(folder)) == before

    viewer.close()  # which removes all layers first
    assert picture(open_session(folder)) == before

    viewer, dock = opened(BrightnessSegmenter())
    dock.open_session(folder)
    wait_for_threads(dock)
    assert dock.panel.error_text.text() == ""
    session = dock.controller.session
    assert picture(session) == before
    assert session.state(("disks", 3)) is FrameState.CORRECTED
    again = layers_of(viewer)
    assert again.keys() == layers.keys()
    for name, data in layers.items():
        np.testing.assert_array_equal(again[name], data, err_msg=name)
    viewer.dims.set_point(0, 3)
    dock.controller.accept()
    wait_for_threads(dock)
    assert session.state(("disks", 3)) is FrameState.ACCEPTED
    wait_until(lambda: is_saved(dock), 10)
    assert open_session(folder).state(("disks", 3)) is FrameState.ACCEPTED
    dock.controller.propose()  # the shots have their pixels
    wait_for_threads(dock)
    assert session.state(("disks", 2)) is FrameState.PROPOSED


@pytest.mark.parametrize("in_file", [True, False])
def test_a_deleted_image_comes_back_with_the_saved_session(
    opened: Callable[..., Any], tmp_path: Path, in_file: bool
) -> None:
    viewer, dock = opened(BrightnessSegmenter())
    image, _ = disk_stack()
    if in_file:
        tifffile.imwrite(tmp_path / "disks.tif", image)
        viewer.open(tmp_path / "disks.tif", plugin="napari")
    else:
        viewer.add_image(image, name="disks")
    viewer.add_image(image[:2], name="another")
    viewer.layers.selection.active = viewer.layers["disks"]
    label_some(viewer, dock, "disks")
    viewer.dims.set_point(0, 4)
    dock.controller.set_accept_score(0.0)
    wait_until(lambda: is_saved(dock), 10)
    before = {key: seen for key, seen in picture(dock.controller.session).items() if key[0] == "disks"}
    assert {seen[0] for seen in before.values()} >= {FrameState.ACCEPTED, FrameState.PROPOSED, FrameState.CORRECTED}

    viewer.layers.remove("disks")
    assert {key[0] for key in dock.controller.session.frames} == {"another"}
    viewer.layers.selection.active = viewer.layers["another"]
    dock.controller.reject_selected()  # whatever comes next is saved as well
    wait_until(lambda: is_saved(dock), 10)
    folder = dock.saving.folder
    dock.saving.close()
    saved = picture(open_session(folder))
    assert {key: saved[key] for key in before} == before

    viewer, dock = opened(BrightnessSegmenter())
    dock.open_session(folder)
    wait_for_threads(dock)
    again = picture(dock.controller.session)
    assert {key: again[key] for key in before} == before
    assert ("another", 1) in again


def test_an_image_that_is_opened_again_after_it_was_deleted_has_its_proposals_again(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    viewer, dock = opened(BrightnessSegmenter())
    tifffile.imwrite(tmp_path / "disks.tif", disk_stack()[0])
    viewer.open(tmp_path / "disks.tif", plugin="napari")
    label_some(viewer, dock, "disks")
    before = picture(dock.controller.session)
    viewer.layers.remove("disks")
    assert not dock.controller.session.frames
    viewer.add_image(np.zeros((2, 9, 9)), name="disks")
    viewer.layers.remove("disks")
    viewer.open(tmp_path / "disks.tif", plugin="napari")
    again = picture(dock.controller.session)
    assert again == before
    assert viewer.layers["disks proposals"].data[3, :4, :4].all()


def test_an_image_that_was_unticked_has_its_proposals_again_when_it_is_ticked(opened: Callable[..., Any]) -> None:
    viewer, dock = opened(BrightnessSegmenter())
    viewer.add_image(disk_stack()[0], name="disks")
    label_some(viewer, dock, "disks")
    before, shown = picture(dock.controller.session), layers_of(viewer)["disks proposals"].copy()
    dock.controller.choose_image("disks", False)
    assert not dock.controller.session.frames and not layers_of(viewer)["disks proposals"].any()
    dock.controller.choose_image("disks", True)
    assert picture(dock.controller.session) == before
    np.testing.assert_array_equal(layers_of(viewer)["disks proposals"], shown)


def test_file_open_of_a_session_brings_up_the_dock_with_everything(
    opened: Callable[..., Any], make_napari_viewer: Callable[..., Any], tmp_path: Path
) -> None:
    viewer, dock = opened(BrightnessSegmenter())
    tifffile.imwrite(tmp_path / "disks.tif", disk_stack()[0])
    viewer.open(tmp_path / "disks.tif", plugin="napari")
    label_some(viewer, dock, "disks")
    wait_until(lambda: is_saved(dock), 10)
    folder, before, layers = dock.saving.folder, picture(dock.controller.session), layers_of(viewer)
    viewer.close()

    viewer = make_napari_viewer()
    for chosen in (folder, folder / "session.json"):
        assert "napari-fewshot" in get_readers(str(chosen))  # among which File > Open lets a person choose
    assert viewer.open(folder, plugin="napari-fewshot") == []
    dock = viewer.window.add_plugin_dock_widget("napari-fewshot", "Few-shot propagation")[1]  # the one that is there
    wait_for_threads(dock)
    assert dock.saving.folder == folder
    assert picture(dock.controller.session) == before
    again = layers_of(viewer)
    assert again.keys() == layers.keys()
    for name, data in layers.items():
        np.testing.assert_array_equal(again[name], data, err_msg=name)


def test_only_sessions_are_opened_as_such(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    assert get_reader(str(tmp_path / "images")) is None
    (tmp_path / "images" / "session.json").write_text("{}")
    assert get_reader(str(tmp_path / "images")) is get_reader(str(tmp_path / "images" / "session.json")) is open_in_dock
    assert get_reader([str(tmp_path / "images"), str(tmp_path / "images")]) is None
    assert get_reader("https://example.org/session.json") is None
    with pytest.raises(ReadError, match="holds no session"):
        open_in_dock(str(tmp_path))


def test_a_session_that_is_refused_leaves_the_one_at_work_alone(opened: Callable[..., Any], tmp_path: Path) -> None:
    viewer, dock = opened(BrightnessSegmenter())
    viewer.add_image(disk_stack()[0], name="disks")
    label_some(viewer, dock, "disks")
    before = picture(dock.controller.session)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "session.json").write_text("{}")
    told: list[str] = []
    dock.notify = lambda message, **_: told.append(message)
    dock.open_session(tmp_path / "broken")
    wait_for_threads(dock)
    assert len(told) == 1 and "is damaged" in told[0]
    assert picture(dock.controller.session) == before
    wait_until(lambda: is_saved(dock), 10)
    assert picture(open_session(dock.saving.folder)) == before


def saved_elsewhere(folder: Path) -> Path:
    """A session of somebody else: one taught slice of an image that lies in that folder."""
    folder.mkdir()
    image, disks = disk_stack(2)
    tifffile.imwrite(folder / "disks.tif", image)
    session = Session(classes=[LabelClass(1, "cell")])
    first, *_ = session.add_images([folder / "disks.tif"])
    session.teach(Shot(session.frame(first), disks[0].astype(np.int32)))
    session.save(folder / "saved")
    return folder / "saved"


def test_opening_goes_on_beside_the_window_and_can_be_cancelled(
    opened: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, hashed, threads = saved_elsewhere(tmp_path / "other"), Event(), []

    def find_slowly(*known: Any) -> str | None:
        threads.append(current_thread())
        assert hashed.wait(60)
        return find_again(*known)

    monkeypatch.setattr("napari_fewshot.session.finding.find_again", find_slowly)
    viewer, dock = opened(BrightnessSegmenter())
    box = dock.panel.session
    dock.open_session(folder)
    wait_until(lambda: box.opening.text() == "Looking for image 1 of 1 ...", 20)
    assert not box.cancel.isHidden() and threads[0] is not current_thread()
    box.cancel.click()
    hashed.set()
    wait_for_threads(dock)
    assert box.opening.text() == "" and not viewer.layers and not dock.controller.session.frames

    dock.open_session(folder)
    wait_for_threads(dock)
    assert [layer.name for layer in viewer.layers][:1] == ["disks"] and dock.saving.folder == folder
    assert box.opening.text() == "" and len(dock.controller.session.support) == 1
    wait_until(lambda: is_saved(dock), 30)


@pytest.mark.parametrize("known", [True, False])
def test_a_person_is_asked_for_an_image_that_is_not_found(
    opened: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    folder, asked = saved_elsewhere(tmp_path / "other"), []
    (tmp_path / "far").mkdir()
    (tmp_path / "other" / "disks.tif").rename(tmp_path / "far" / "discs.tif")

    def choose(parent: Any, title: str, begin: str) -> tuple[str, str]:
        asked.append((title, current_thread() is main_thread()))
        return (str(tmp_path / "far" / "discs.tif") if known else "", "")

    monkeypatch.setattr(QFileDialog, "getOpenFileName", choose)
    viewer, dock = opened(BrightnessSegmenter())
    told: list[str] = []
    dock.notify = lambda message, **_: told.append(message)
    dock.open_session(folder)
    wait_for_threads(dock)
    assert len(asked) == 1 and asked[0][1] and asked[0][0].startswith("Where is 'disks'?")
    if known:
        wait_until(lambda: is_saved(dock), 30)
        assert not told and len(dock.controller.session.support) == 1 and "discs" in viewer.layers
    else:
        assert len(told) == 1 and "Not found: 'disks'" in told[0] and not viewer.layers


def test_a_person_chooses_where_sessions_go_and_whether(opened: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "disks.tif", disk_stack()[0])
    viewer, dock = opened(BrightnessSegmenter())
    dock.panel.session.autosave.setChecked(False)
    dock.panel.session.beside.setChecked(True)
    assert (read_preferences().autosave, read_preferences().beside) == (False, True)
    viewer.open(tmp_path / "images" / "disks.tif", plugin="napari")
    label_some(viewer, dock, "disks")
    assert dock.saving.folder is None
    assert "Not saved" in dock.panel.session.line.toolTip()
    dock.panel.session.autosave.setChecked(True)
    wait_until(lambda: is_saved(dock), 10)
    assert dock.saving.folder.parent == tmp_path / "images"
    assert str(dock.saving.folder) in dock.panel.session.line.toolTip()
