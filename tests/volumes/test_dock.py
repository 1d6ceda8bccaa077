"""What the dock does about neighbouring slices, without a window; and what its axes are called."""

import numpy as np
import pytest

from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.axes import Cut, guess_depth_axis, slider_letters
from napari_fewshot.volumes.settings import VolumeSettings
from tests.fakes import BrightnessSegmenter
from tests.test_controller import Dock
from tests.volumes.test_consistency import SLICES, Tube

TUBE = Tube.noisy()


@pytest.fixture
def dock() -> Dock:
    dock = Dock(BrightnessSegmenter(), a=TUBE.images)
    dock.paint(("a", 4), TUBE.labels[4])
    dock.show(("a", 4))
    dock.controller.teach()
    return dock


def _shown(dock: Dock) -> np.ndarray:
    return np.stack([dock.layers.proposed(("a", z)) for z in range(SLICES) if z != 4])


def test_open_proposals_are_made_anew_when_neighbours_are_switched_on_and_off(dock: Dock) -> None:
    dock.controller.propose()
    dock.runner.finish()
    alone = _shown(dock)
    dock.controller.use_propagation({"volume": VolumeSettings("z")})
    dock.runner.finish()
    together = _shown(dock)
    truth = np.delete(TUBE.labels, 4, axis=0)
    assert (together != truth).mean() < 0.7 * (alone != truth).mean()
    assert dock.state.volume == VolumeSettings("Z")
    dock.controller.use_propagation({"volume": VolumeSettings()})
    dock.runner.finish()
    np.testing.assert_array_equal(_shown(dock), alone)


def test_what_a_person_corrected_stays_when_neighbours_arrive(dock: Dock) -> None:
    dock.controller.propose()
    dock.runner.finish()
    dock.show(("a", 2))
    changed = dock.layers.proposed(("a", 2)) == 0
    changed[5:], changed[:, 5:] = False, False
    assert changed.any()
    dock.layers.proposal_stacks["a"][2][changed] = 1
    dock.controller.edited()
    dock.controller.use_propagation({"volume": VolumeSettings("z", min_extent=3, fill_gaps=1)})
    dock.runner.finish()
    assert (dock.layers.proposed(("a", 2))[changed] == 1).all()
    assert (dock.session.proposal(("a", 2)).corrections[changed] == 1).all()


def test_only_slices_of_the_range_are_proposed_for(dock: Dock) -> None:
    dock.controller.use_propagation({"volume": VolumeSettings("z", first=3, last=6)})
    dock.controller.propose()
    dock.runner.finish()
    assert {key for key in dock.session.frames if dock.session.proposal(key)} == {("a", 3), ("a", 5), ("a", 6)}


def test_another_depth_axis_is_handed_to_the_layers(dock: Dock) -> None:
    dock.controller.set_depth_axis("a", None)
    assert dock.layers.depth_axes == {"a": None}


@pytest.mark.parametrize(
    ("names", "sliders", "depth", "letters"),
    [
        (("-3", "-2", "-1"), (0,), 0, "Z"),
        (("time", "y", "x"), (0,), None, "T"),
        (("-4", "-3", "-2", "-1"), (0, 1), 1, "TZ"),
        (("z", "t", "y", "x"), (0, 1), 0, "ZT"),
        (("t", "c", "z", "y", "x"), (0, 2), 2, "TZ"),
        (("position", "t", "z", "y", "x"), (0, 1, 2), 2, "PTZ"),
    ],
)
def test_axes_have_the_letters_that_their_names_say(names, sliders, depth, letters) -> None:
    assert guess_depth_axis(names, sliders) == depth
    assert slider_letters(names, sliders, depth) == letters


def test_a_person_may_say_that_the_axes_are_others() -> None:
    assert slider_letters(("-4", "-3", "-2", "-1"), (0, 1), depth=0) == "ZT"
    assert slider_letters(("z", "y", "x"), (0,), depth=None) == "T"


def _look_at_cut(dock: Dock, row: int) -> Cut:
    cut = Cut(tuple(("a", z) for z in range(SLICES)), "y", row, f"a cut through 'a' at y = {row}")
    dock.layers.seen_cut, dock.layers.trouble = cut, "'a' is shown along other axes"
    return cut


def test_what_is_painted_on_a_cut_is_taught_on_every_slice_that_it_crosses_and_taken_back_in_one_step() -> None:
    dock = Dock(BrightnessSegmenter(), a=TUBE.images)
    cut = _look_at_cut(dock, 16)
    dock.controller.slice_changed()
    assert "a cut through 'a' at y = 16" in dock.state.next_step
    assert {Action.PAINT, Action.TEACH} <= dock.state.enabled
    dock.controller.paint()
    assert dock.layers.brush == (("a", 0), 1, False)
    dock.layers.label_stacks["a"][:, 16] = TUBE.labels[:, 16]
    dock.controller.teach()
    assert not dock.state.error
    shots = {shot.key: shot.labels for shot in dock.session.support}
    assert set(shots) == set(cut.keys)
    for z in range(SLICES):
        np.testing.assert_array_equal(shots["a", z][16], TUBE.labels[z, 16])
        assert (np.delete(shots["a", z], 16, axis=0) == 255).all()
        np.testing.assert_array_equal(dock.layers.painted(("a", z))[16], np.where(TUBE.labels[z, 16], 1, 254))
        assert not np.delete(dock.layers.painted(("a", z)), 16, axis=0).any()
    dock.controller.propose()
    dock.runner.finish()
    assert (np.stack([dock.layers.proposed(("a", z)) for z in range(SLICES)]) == TUBE.labels).mean() > 0.8
    dock.controller.undo()
    assert not dock.session.support.shots


def test_on_a_cut_what_is_accepted_or_taught_in_full_stays_and_strokes_beside_it_stay_as_they_are(dock: Dock) -> None:
    dock.controller.propose()
    dock.runner.finish()
    dock.session.accept_many([("a", 7)])
    accepted = dock.session.labels(("a", 7))
    dock.layers.label_stacks["a"][2, 3, 3] = 1  # not on the cut, and not taught
    _look_at_cut(dock, 12)
    dock.layers.label_stacks["a"][:, 12, 10:14], dock.layers.label_stacks["a"][:, 12, :4] = 1, 254
    dock.controller.teach()
    assert not dock.state.error
    shots = {shot.key: shot.labels for shot in dock.session.support}
    assert set(shots) == {("a", z) for z in range(SLICES)} - {("a", 7)}
    np.testing.assert_array_equal(shots["a", 4], TUBE.labels[4])
    assert (shots["a", 2] != 255).sum() == 8
    assert dock.layers.painted(("a", 2))[3, 3] == 1
    np.testing.assert_array_equal(dock.session.labels(("a", 7)), accepted)


def test_a_cut_on_which_nothing_is_painted_is_not_taught_and_the_brush_is_handed_over() -> None:
    dock = Dock(BrightnessSegmenter(), a=TUBE.images)
    _look_at_cut(dock, 16)
    dock.controller.teach()
    assert "Nothing is painted on a cut through 'a'" in dock.state.error
    assert dock.layers.brush == (("a", 0), 1, False)
    assert not dock.session.support.shots
