"""A stack in a real window: slices that decide together, and paint on a cut through them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari")

from napari_fewshot import open_session
from napari_fewshot.volumes.settings import VolumeSettings
from tests.fakes import BrightnessSegmenter
from tests.ui.conftest import iou, wait_for_threads, wait_until
from tests.volumes.test_consistency import SIDE, SLICES, Tube

TUBE = Tube.noisy()
TAUGHT = (2, 6)


@pytest.fixture
def stack(opened: Callable[..., Any]) -> tuple[Any, Any]:
    """A window with a stack, of which nothing is taught yet."""
    viewer, dock = opened(BrightnessSegmenter())
    viewer.add_image(TUBE.images.copy(), name="tube", scale=(4, 1, 1))
    return viewer, dock


def _teach_two_slices(viewer: Any, dock: Any) -> None:
    for z in TAUGHT:
        viewer.dims.set_current_step(0, z)
        dock.controller.paint()
        viewer.layers["tube labels"].data[z] = TUBE.labels[z]
        dock.controller.teach()
    assert not dock.panel.error.isVisible()


def _propose(dock: Any) -> None:
    dock.controller.propose()
    wait_for_threads(dock)


def _choose(dock: Any, settings: VolumeSettings) -> None:
    """Choose as a person does, and wait for what is proposed anew."""
    box = dock.panel.volumes
    box.neighbours.setChecked(settings.are_used)
    box.first.setValue(settings.first)
    box.last.setValue(settings.last)
    box.min_extent.setValue(settings.min_extent)
    box.fill_gaps.setValue(settings.fill_gaps)
    wait_until(lambda: dock.controller.session.propagation.volume == settings)
    wait_for_threads(dock)


def test_slices_that_decide_together_are_better_and_settings_reach_what_is_proposed(stack: tuple[Any, Any]) -> None:
    viewer, dock = stack
    viewer.layers["tube"].data[4] = viewer.layers["tube"].data[0, ::-1].min()  # a slice that was lost
    _teach_two_slices(viewer, dock)
    _propose(dock)
    proposals = viewer.layers["tube proposals"]
    open_ones = [z for z in range(SLICES) if z not in (*TAUGHT, 4)]
    alone = proposals.data[open_ones].copy()
    _choose(dock, VolumeSettings("Z"))
    together = proposals.data[open_ones].copy()
    truth = TUBE.labels[open_ones] == 1
    assert iou(together == 1, truth) > iou(alone == 1, truth) + 0.1

    inside = TUBE.labels[4] == 1
    assert (proposals.data[4] == 1)[inside].mean() < 0.2  # nothing is to be seen there
    before = proposals.data.copy()
    _choose(dock, VolumeSettings("Z", first=3, last=7, fill_gaps=1))
    assert (proposals.data[4] == 1)[inside].mean() > 0.7
    _choose(dock, VolumeSettings("Z", first=3, last=7, min_extent=SLICES))
    assert not proposals.data[[3, 4, 5, 7]].any()  # no object is on as many slices as that
    np.testing.assert_array_equal(proposals.data[[0, 1, 8]], before[[0, 1, 8]])  # out of the range


def test_cancelling_leaves_what_is_there_and_proposing_goes_on_from_there(
    stack: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer, dock = stack
    _teach_two_slices(viewer, dock)
    dock.controller.use_propagation({"volume": VolumeSettings("z")})
    session = dock.controller.session

    def stop() -> None:
        if session.review_queue():
            dock.controller.cancel()

    session.frame_changed.connect(lambda key: stop())
    dock.controller.propose()
    wait_for_threads(dock)
    assert 1 <= len(session.review_queue()) < SLICES - len(TAUGHT)
    session.frame_changed.disconnect()
    whole = TUBE.labels.copy()
    dock.controller.propose()
    wait_for_threads(dock)
    for z in range(SLICES):
        if z not in TAUGHT:
            whole[z] = session.proposal(("tube", z)).labels
    np.testing.assert_array_equal(viewer.layers["tube proposals"].data[4], whole[4])
    assert iou(whole == 1, TUBE.labels == 1) > 0.7


@pytest.mark.parametrize(("order", "across"), [((1, 0, 2), "y"), ((2, 0, 1), "x"), ((2, 1, 0), "x")])
def test_somebody_rolls_the_axes_paints_on_a_cut_and_slices_learn_from_it(
    stack: tuple[Any, Any], order: tuple[int, ...], across: str
) -> None:
    viewer, dock = stack
    viewer.dims.order = order
    viewer.dims.set_current_step(order[0], 17)
    assert f"a cut through 'tube' at {across} = 17" in dock.panel.next_step.text()
    dock.controller.paint()
    labels = viewer.layers["tube labels"]
    assert viewer.layers.selection.active is labels
    assert (labels.mode, labels.selected_label) == ("paint", 1)
    labels.brush_size = 1
    line = np.s_[:, 17] if across == "y" else np.s_[:, :, 17]
    assert TUBE.labels[line].any()
    for z, at in np.argwhere(TUBE.labels[line]):
        pixel = {0: z, order[0]: 17, ({1, 2} - {order[0]}).pop(): at}
        labels.paint([pixel[axis] for axis in range(3)], 1)
    painted = labels.data.copy()
    assert painted.any()
    dock.controller.teach()
    assert not dock.panel.error.isVisible()
    session = dock.controller.session
    assert {shot.key for shot in session.support} == {("tube", z) for z in range(SLICES)}
    for shot in session.support:
        known = shot.labels[17] if across == "y" else shot.labels[:, 17]
        np.testing.assert_array_equal(known == 1, painted[shot.key[1]][line[1:]] == 1)
        assert (shot.labels != 255).sum() == SIDE
    viewer.dims.order = (0, 1, 2)
    viewer.dims.set_current_step(0, 4)
    assert "to get masks on all other slices" in dock.panel.next_step.text()
    dock.controller.use_propagation({"volume": VolumeSettings("z")})
    _propose(dock)
    assert iou(viewer.layers["tube proposals"].data == 1, TUBE.labels == 1) > 0.7


@pytest.mark.parametrize("in_file", [True, False])
def test_the_axis_of_depth_and_what_was_chosen_for_it_come_back(
    opened: Callable[..., Any], tmp_path: Path, in_file: bool
) -> None:
    viewer, dock = opened(BrightnessSegmenter())
    movie = np.stack([TUBE.images[:3], TUBE.images[3:6]])  # (2, 3, Y, X)
    if in_file:
        np.save(tmp_path / "movie.npy", movie)
        viewer.open(tmp_path / "movie.npy", plugin="napari")
    else:
        viewer.add_image(movie, name="movie", scale=(5, 4, 1, 1))
    assert dock.controller.session.frame(("movie", 0, 0)).stack.axes == "TZ"
    dock.controller.paint()
    viewer.layers["movie labels"].data[1, 2] = TUBE.labels[5]
    viewer.dims.current_step = (1, 2, *viewer.dims.current_step[2:])
    dock.controller.teach()
    chosen = VolumeSettings("z", last=1, min_extent=2)
    dock.controller.use_propagation({"volume": chosen})
    dock.panel.depth_axis_chosen.emit("movie", 0)
    wait_until(lambda: dock.saving.folder is not None and dock.saving.line.startswith("Saved in"))
    folder = dock.saving.folder
    viewer.close()

    headless = open_session(folder)
    assert headless.propagation.volume == chosen
    assert {frame.stack.axes for frame in headless.frames.values()} == {"ZT"}
    assert headless.frame(("movie", 0, 0)).stack.steps == ((1, 1) if in_file else (5, 4))
    viewer, dock = opened(BrightnessSegmenter())
    dock.open_session(folder)
    wait_for_threads(dock)
    assert not dock.panel.error_text.text()
    (image,) = dock.controller.sync._layers.images()
    assert (image.depth_axis, image.stack_axes) == (0, "ZT")
    assert dock.panel.volumes.neighbours.isChecked()
    assert (dock.panel.volumes.along.currentData(), dock.panel.volumes.last.value()) == ("Z", 1)
    assert {frame.stack.axes for frame in dock.controller.session.frames.values()} == {"ZT"}
    if not in_file:
        np.testing.assert_allclose(viewer.layers["movie"].scale, (5, 4, 1, 1))
