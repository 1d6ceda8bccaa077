"""What a proposal is unsure of: kept within a limit, shown on one key, and never of another proposal."""

from typing import Any

import numpy as np
import pytest

from napari_fewshot.frames import Frame
from napari_fewshot.proposals import Proposal
from napari_fewshot.provenance import Origin
from napari_fewshot.session import OpenProposal, Session
from napari_fewshot.session.state import SessionState
from napari_fewshot.support import LabelClass, Shot
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.doubt import ADDED, RELABELLED, REMOVED, Doubt, change, uncertainty
from napari_fewshot.ui.jobs import Evidence
from napari_fewshot.ui.ports import PAINTED_BACKGROUND
from napari_fewshot.ui.state import Overlay
from tests.fakes import BrightnessSegmenter
from tests.test_controller import SIZE, Dock, FakeLayers, picture, truth


@pytest.fixture
def dock() -> Dock:
    """With an open proposal on screen, a part of which is between dark and bright."""
    stack = np.stack([picture(z) for z in range(4)])
    stack[1:, 18:, :8] = 108
    made = Dock(a=stack)
    made.propose_all()
    made.show(("a", 1))
    return made


def shown(dock: Dock) -> np.ndarray:
    assert dock.layers.overlay is not None
    return dock.layers.overlay[1].values


# ---------------------------------------------------------------- pictures
def test_uncertainty_is_the_probability_that_the_label_is_wrong() -> None:
    probabilities = np.array([[[0.7, 0.1, 0.4]], [[0.2, 0.8, 0.35]], [[0.1, 0.1, 0.25]]], np.float32)
    made = Proposal("a", np.array([[0, 5, 5]], np.int32), (5, 9), probabilities, probabilities.max(axis=0), 0.5)
    evidence = Evidence.of(made)
    assert evidence.probabilities.dtype == np.uint8 and evidence.label_ids == (0, 5, 9)
    waiting = OpenProposal(made.labels.astype(np.uint8), 0.5, 1)
    np.testing.assert_allclose(uncertainty(evidence, waiting, None), [[0.3, 0.2, 0.65]], atol=1 / 255)
    by_hand = np.array([[False, True, False]])
    np.testing.assert_allclose(uncertainty(evidence, waiting, by_hand), [[0.3, 0.0, 0.65]], atol=1 / 255)


def test_evidence_is_rounded_alike_on_all_rows_of_a_large_image() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet((1, 1), (700, 5)).transpose(2, 0, 1).astype(np.float32)
    made = Proposal("a", np.zeros((700, 5), np.int32), (1,), probabilities, probabilities[0], 0.5)
    np.testing.assert_allclose(Evidence.of(made).probabilities / 255, probabilities, atol=0.5 / 255 + 1e-6)


def test_a_change_tells_what_came_what_went_and_what_is_another_class() -> None:
    before, now = np.array([[0, 1, 1, 2, 0]], np.uint8), np.array([[1, 0, 1, 1, 0]], np.uint8)
    np.testing.assert_array_equal(change(before, now), [[ADDED, REMOVED, 0, RELABELLED, 0]])


# ---------------------------------------------------------------- on one key
def test_uncertainty_is_shown_and_hidden_and_follows_the_slice(dock: Dock) -> None:
    assert dock.layers.overlay is None
    dock.controller.show_uncertainty()
    key, shown_picture = dock.layers.overlay
    assert key == ("a", 1) and shown_picture.title == "uncertainty" and dock.state.overlay is Overlay.UNCERTAINTY
    doubt = shown(dock)
    assert doubt.shape == SIZE and doubt[18:, :8].min() > 0.4 > 0.01 > doubt[:18].max()
    dock.show(("a", 2))
    assert dock.layers.overlay[0] == ("a", 2)
    dock.show(("a", 0))
    assert dock.layers.overlay is None and dock.state.overlay_note.startswith("Nothing to show here")
    dock.show(("a", 1))
    dock.controller.show_uncertainty()
    assert dock.layers.overlay is None and dock.state.overlay is None and not dock.state.overlay_note


def test_what_a_person_corrected_is_not_uncertain(dock: Dock) -> None:
    dock.controller.show_uncertainty()
    dock.layers.proposal_stacks["a"][1, 18:21, :8] ^= 1
    dock.controller.edited()
    assert not shown(dock)[18:21, :8].any() and shown(dock)[21:, :8].min() > 0.4


def test_deciding_takes_the_picture_away(dock: Dock) -> None:
    dock.controller.show_uncertainty()
    dock.controller.reject()
    assert dock.layers.overlay is None
    dock.controller.undo()
    assert dock.layers.overlay is not None, "the same proposal is open again"


def test_one_picture_at_a_time(dock: Dock) -> None:
    dock.controller.show_uncertainty()
    dock.controller.show_probability()
    assert dock.state.overlay is Overlay.PROBABILITY and dock.layers.overlay[1].overlay is Overlay.PROBABILITY


def test_the_probability_is_that_of_the_selected_class(dock: Dock) -> None:
    dock.controller.show_probability()
    assert dock.layers.overlay[1].title == "probability of cell"
    cell = shown(dock)
    assert cell[truth(1) == 1].min() > 0.95 and cell[:4].max() < 0.05
    dock.controller.select_brush(PAINTED_BACKGROUND)
    assert dock.layers.overlay[1].title == "probability of background"
    np.testing.assert_allclose(cell + shown(dock), 1, atol=2 / 255)
    dock.controller.add_class()
    assert dock.layers.overlay is None and "was not known" in dock.state.overlay_note


def test_the_last_change_is_between_the_last_two_proposals(dock: Dock) -> None:
    dock.controller.show_change()
    assert dock.layers.overlay is None and "only one proposal" in dock.state.overlay_note
    dock.show(("a", 3))
    dock.layers.proposal_stacks["a"][3, 18:, :8] = 1
    dock.controller.edited()
    was = dock.session.proposal(("a", 1)).labels.copy()
    dock.controller.accept()
    dock.runner.finish()
    dock.show(("a", 1))
    now = dock.session.proposal(("a", 1)).labels
    assert (was != now).any(), "the new shot made a difference"
    np.testing.assert_array_equal(shown(dock), change(was, now))


def test_nothing_is_drawn_twice(dock: Dock) -> None:
    dock.controller.show_uncertainty()
    drawn = dock.layers.overlays_drawn
    for _ in range(5):
        dock.controller.brushed()
    assert dock.layers.overlays_drawn == drawn == 1


def test_a_layer_that_somebody_deleted_is_not_shown_any_more(dock: Dock) -> None:
    dock.controller.show_uncertainty()
    dock.layers.overlay = None
    dock.controller.layers_changed()
    assert dock.state.overlay is None
    dock.controller.show_uncertainty()
    assert dock.layers.overlay is not None


def test_keys_are_there_for_open_proposals_only(dock: Dock) -> None:
    keys = {Action.UNCERTAINTY, Action.CHANGE, Action.PROBABILITY}
    assert keys <= dock.state.enabled
    dock.show(("a", 0))
    assert not keys & dock.state.enabled
    dock.show(("a", 1))
    dock.controller.show_change()
    dock.show(("a", 0))
    assert keys & dock.state.enabled == {Action.CHANGE}, "to switch it off"


# ---------------------------------------------------------------- memory
def test_what_is_no_longer_kept_is_found_out_anew_for_this_slice_alone(dock: Dock) -> None:
    dock.controller.doubt._kept.clear()
    generations = {z: dock.session.proposal(("a", z)).generation for z in (1, 2, 3)}
    dock.controller.show_uncertainty()
    assert dock.layers.overlay is None and "Not known any more" in dock.state.overlay_note
    dock.runner.finish()
    assert dock.layers.overlay[0] == ("a", 1)
    assert dock.session.proposal(("a", 1)).generation > generations[1]
    assert dock.session.proposal(("a", 2)).generation == generations[2]


def test_the_oldest_goes_when_there_is_too_much_and_the_last_always_stays() -> None:
    image = np.zeros((16, 16), np.uint8)
    session = Session(BrightnessSegmenter(), classes=[LabelClass(1, "cell")])
    session.add_frames(Frame(("a", z), image) for z in range(5))
    labels = np.eye(16, dtype=np.int32)
    session.teach(Shot(session.frame(("a", 0)), labels))
    run = session.start_run()

    def kept(most_bytes: int) -> list[Any]:
        doubt = Doubt(session, FakeLayers(), most_bytes)
        for z in (1, 2, 3, 4):
            planes = np.stack([labels == 0, labels == 1]).astype(np.float32)  # 512 bytes when rounded
            made = Proposal(("a", z), labels, (1,), planes, planes.max(axis=0), 1.0)
            doubt.arrived(Evidence.of(made))
            session.record(run, made)
            doubt.keep(("a", z), None)
        return [z for z in (1, 2, 3, 4) if not doubt.lacks(("a", z))]

    assert kept(1 << 20) == [1, 2, 3, 4] and kept(1024) == [3, 4] and kept(10) == [4]


def test_an_older_proposal_that_undo_brings_back_is_not_shown_with_the_doubt_of_another(dock: Dock) -> None:
    older = dock.session.proposal(("a", 1))
    dock.show(("a", 2))
    dock.controller.accept()
    dock.runner.finish()
    dock.show(("a", 1))
    assert dock.session.proposal(("a", 1)).generation != older.generation
    assert not dock.controller.doubt.lacks(("a", 1))
    dock.session._history.now = SessionState(dock.session.support, {("a", 1): older})
    assert dock.controller.doubt.lacks(("a", 1))


# ---------------------------------------------------------------- who labelled what
def test_provenance_is_shown_on_any_slice_of_which_something_is_known(dock: Dock) -> None:
    dock.controller.set_refresh_after_decision(False)
    dock.controller.show_provenance()
    assert set(np.unique(shown(dock))) == {Origin.MODEL} and "Green" in dock.state.overlay_note
    dock.layers.proposal_stacks["a"][1, 0, :3] = 1  # a brush
    dock.controller.edited()
    assert (shown(dock)[0, :3] == Origin.CORRECTED).all() and (shown(dock) == Origin.CORRECTED).sum() == 3
    dock.controller.accept()
    assert (shown(dock)[0, :3] == Origin.CORRECTED).all() and (shown(dock)[1:] == Origin.ACCEPTED).all()
    dock.show(("a", 0))
    assert (shown(dock) == Origin.HUMAN).all()
    dock.controller.show_provenance()
    assert dock.layers.overlay is None and dock.state.overlay is None


def test_provenance_is_drawn_anew_only_where_something_changed(dock: Dock) -> None:
    dock.controller.show_provenance()
    drawn = dock.layers.overlays_drawn
    dock.controller.brushed()
    dock.controller.slice_changed()
    assert dock.layers.overlays_drawn == drawn
    dock.controller.reject()
    assert dock.layers.overlay is None and dock.state.overlay_note.startswith("Nothing to show here")
    dock.controller.undo()
    assert (shown(dock) == Origin.MODEL).all()
