"""Quality, clean-up and tour in a real window: buttons, keys, pictures, and what becomes of layers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QPushButton

from napari_fewshot.propagation import PropagationSettings
from napari_fewshot.session import FrameState
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.tour_box import TourStarter
from tests.fakes import BrightnessSegmenter
from tests.ui.conftest import disk_stack, wait_for_threads, wait_until


def taught_on(opened: Callable[..., Any], *places: int, show: bool = False) -> tuple[Any, Any]:
    """A stack of disks of which some slices are taught."""
    viewer, dock = opened(BrightnessSegmenter(), show=show)
    image, truth = disk_stack(6)
    viewer.add_image(image, name="disks")
    for place in places:
        viewer.dims.set_point(0, place)
        dock.controller.paint()
        viewer.layers["disks labels"].data[place] = truth[place]
        dock.controller.teach()
    return viewer, dock


def test_quality_says_what_to_do_until_there_is_something_to_tell(opened: Callable[..., Any]) -> None:
    viewer, dock = taught_on(opened)
    dock.panel.open_quality()
    assert "Teach an image first" in dock.companions.quality.state().headline
    assert not dock.panel.buttons[Action.CHECK].isEnabled()
    viewer.dims.set_point(0, 0)
    dock.controller.paint()
    viewer.layers["disks labels"].data[0] = disk_stack(6)[1][0]
    dock.controller.teach()
    dock.panel.buttons[Action.CHECK].click()
    wait_for_threads(dock)
    assert "Teach a second image" in dock.companions.quality.state().headline


def test_quality_is_found_out_in_the_background_and_shots_are_set_aside_by_a_click(opened: Callable[..., Any]) -> None:
    viewer, dock = taught_on(opened, 0, 1, 2, 3, show=True)
    button, panel, session = dock.panel.buttons[Action.CHECK], dock.panel.quality, dock.controller.session

    def buttons(title: str) -> list[str]:
        return [
            b.text() for b in panel.findChildren(QPushButton) if b.isVisibleTo(panel) and b.text().startswith(title)
        ]

    button.click()
    assert button.text().startswith("Stop checking")
    button.click()
    assert button.text().startswith("Check quality")
    button.click()
    wait_for_threads(dock)
    wait_until(lambda: not panel.class_plot.pixmap().isNull())
    assert "Expect about 0.9" in panel.headline.text() or "Expect about 1.0" in panel.headline.text()
    assert "hardly anything" in panel.forecast.text()
    dark = panel.curve_plot.pixmap().toImage().pixelColor(1, 1).lightness()
    viewer.theme = "light"
    assert dark < 100 < 150 < panel.curve_plot.pixmap().toImage().pixelColor(1, 1).lightness()
    wait_until(lambda: sorted(buttons("disks")) == [f"disks [{place}]" for place in range(4)])
    assert "clicks for 4 finished slices" in panel.effort.text()

    assert not buttons("Take back")
    rows = [b for b in panel.findChildren(QPushButton) if b.text() == "Set aside" and b.isVisibleTo(panel)]
    rows[0].click()
    assert len(session.aside) == 1 and len(session.support) == 4
    wait_until(lambda: bool(buttons("Take back")))
    assert not panel.old.isHidden(), "it was found out from others"
    dock.panel.buttons[Action.UNDO].click()
    assert session.aside == frozenset()
    viewer.dims.set_point(0, 2)
    dock.panel.buttons[Action.ASIDE].click()
    assert [key[1] for key in session.aside] == [2]
    assert dock.panel.buttons[Action.ASIDE].text().startswith("Take back")
    dock.panel.buttons[Action.ASIDE].click()
    assert session.aside == frozenset()


@pytest.fixture
def speckled(opened: Callable[..., Any]) -> tuple[Any, Any]:
    """Proposals on three slices, with a speck on each that is no disk."""
    viewer, dock = opened(BrightnessSegmenter())
    image, truth = disk_stack(4)
    image[:, 60, 60] = 170
    viewer.add_image(image, name="disks")
    viewer.dims.set_point(0, 0)
    dock.controller.paint()
    viewer.layers["disks labels"].data[0] = truth[0]
    dock.controller.teach()
    dock.controller.propose()
    wait_for_threads(dock)
    viewer.dims.set_point(0, 1)
    return viewer, dock


def test_a_preview_shows_what_tidying_would_change_before_it_is_done_and_undone(speckled: tuple[Any, Any]) -> None:
    viewer, dock = speckled
    dock.panel.buttons[Action.PREVIEW].click()
    wait_until(lambda: dock.panel.clean_up.note.text() == "Nothing would change on this slice.")
    dock.panel.clean_up.min_area.setValue(5)
    wait_until(lambda: "1 pixels go" in dock.panel.clean_up.note.text())
    (preview,) = (layer for layer in viewer.layers if "preview" in layer.name)
    assert np.count_nonzero(preview.data) == 1
    assert viewer.layers["disks proposals"].data[1, 60, 60] == 1, "nothing is changed yet"
    viewer.dims.set_point(0, 2)
    wait_until(lambda: dock.controller.doubt.preview.key[1] == 2)
    dock.panel.buttons[Action.UNCERTAINTY].click()
    assert not dock.panel.buttons[Action.PREVIEW].isChecked()
    assert not any("preview" in layer.name for layer in viewer.layers)

    viewer.dims.set_point(0, 1)
    layer, session = viewer.layers["disks proposals"], dock.controller.session
    layer.data_setitem((np.array([1]), np.array([3]), np.array([3])), np.array([1], layer.data.dtype))
    dock.companions.cleaning.change({"min_area": 5})
    dock.panel.buttons[Action.CLEAN].click()
    wait_for_threads(dock)
    assert (layer.data[1, 60, 60], layer.data[1, 3, 3], layer.data[2, 60, 60]) == (0, 1, 1)
    dock.panel.buttons[Action.CLEAN_ALL].click()
    wait_for_threads(dock)
    assert layer.data[:, 60, 60].tolist() == [0, 0, 0, 0] and layer.data[1, 3, 3] == 1
    assert "2 slices tidied" in dock.panel.clean_up.note.text()
    for expected in ([0, 0, 1, 1], [0, 1, 1, 1]):
        dock.panel.buttons[Action.UNDO].click()
        assert layer.data[:, 60, 60].tolist() == expected and layer.data[1, 3, 3] == 1
    assert FrameState.CORRECTED in map(session.state, session.frames)

    dock.companions.cleaning.change({"min_area": 0})
    area = np.count_nonzero(viewer.layers["disks proposals"].data[1])
    dock.panel.clean_up.threshold.setValue(99)
    assert session.propagation == PropagationSettings(thresholds={1: 0.99})
    dock.panel.buttons[Action.CLEAN].click()
    wait_for_threads(dock)
    assert 0 < np.count_nonzero(viewer.layers["disks proposals"].data[1]) < area
    dock.controller.select_brush(254)
    assert not dock.panel.clean_up.threshold.isEnabled()


def test_the_tour_waits_for_what_is_really_done(opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    viewer, dock = opened(BrightnessSegmenter(), show=True)
    panel, tour = dock.panel, dock.companions.tour

    def step() -> str:
        return panel.tour.title.text().split(": ", 1)[1]

    assert panel.tour.isHidden()
    monkeypatch.setattr(viewer.window, "add_plugin_dock_widget", lambda *_: (None, dock))
    starter = TourStarter(viewer)  # what napari's menu opens
    wait_until(lambda: tour.is_on)
    starter.deleteLater()
    assert not panel.tour.isHidden() and step() == "Open a sample"
    panel.tour.help.click()
    assert step() == "Paint one slice" and viewer.layers["cells"].data.shape == (12, 256, 256)
    viewer.layers["cells"].data = (viewer.layers["cells"].data / 300).astype(np.uint8)  # what the fake can tell apart
    assert panel.buttons[Action.PAINT].styleSheet() and not panel.buttons[Action.TEACH].styleSheet()
    panel.tour.help.click()
    assert step() == "Teach it" and np.count_nonzero(viewer.layers["cells labels"].data[0]) > 1000
    for action, title in (
        (Action.TEACH, "Get proposals"),
        (Action.PROPOSE, "Look where it matters"),
        (Action.NEXT, "See the doubt"),
        (Action.UNCERTAINTY, "Correct it"),
    ):
        panel.buttons[action].click()
        wait_for_threads(dock)
        assert step() == title
    panel.tour.skip.click()
    assert step() == "Accept it"
    panel.buttons[Action.ACCEPT].click()
    assert step() == "That is all" and panel.tour.end.text() == "Finish"
    panel.tour.end.click()
    assert not tour.is_on and panel.tour.isHidden()
    assert not any(button.styleSheet() for button in panel.buttons.values())
    wait_for_threads(dock)
