"""What a session keeps for looking after quality: shots set aside, tidied proposals, effort; undo of each."""

from pathlib import Path

import numpy as np
import pytest

from napari_fewshot import Frame, PropagationSettings, Session, Shot, open_session
from napari_fewshot.errors import SupportError
from napari_fewshot.frames import FrameKey
from napari_fewshot.imaging.cleanup import CleanUp
from napari_fewshot.session import FrameState
from napari_fewshot.session.state import Effort
from tests.fakes import BrightnessSegmenter, proposal

KEYS: list[FrameKey] = [("stack", n) for n in range(4)]


@pytest.fixture
def session() -> Session:
    """Two shots: one true, one that says the opposite."""
    images = np.full((4, 16, 16), 20, np.uint8)
    images[:, 4:12, 4:12] = 200
    images[:, 14, 1] = 200  # a speck
    session = Session(BrightnessSegmenter())
    session.add_frames(Frame.of_stack("stack", images))
    truth = np.zeros((16, 16), np.int32)
    truth[4:12, 4:12] = 1
    session.teach(Shot(session.frame(KEYS[0]), truth))
    session.teach(Shot(session.frame(KEYS[1]), truth))
    return session


def labels_of(session: Session, key: FrameKey) -> np.ndarray:
    labels = session.labels(key, with_proposals=True)
    assert labels is not None
    return labels


def test_a_shot_that_is_set_aside_is_not_learnt_from_and_keeps_its_labels(session: Session) -> None:
    told: list[tuple[object, ...]] = []
    session.support_changed.connect(lambda support: told.append(session.learnt_from.keys))
    before = labels_of(session, KEYS[1])
    session.set_aside(KEYS[1])
    assert told == [(KEYS[0],)] and session.aside == {KEYS[1]}
    assert session.state(KEYS[1]) is FrameState.TAUGHT
    np.testing.assert_array_equal(labels_of(session, KEYS[1]), before)
    run = session.start_run()
    assert run.support.keys == (KEYS[0],) and [frame.key for frame in run.frames] == KEYS[2:]
    assert session.undo() == [KEYS[1]] and session.learnt_from.keys == tuple(KEYS[:2])
    assert session.redo() == [KEYS[1]] and session.aside == {KEYS[1]}
    session.take_back(KEYS[1])
    assert session.aside == frozenset() and session.can_undo


def test_when_every_shot_is_set_aside_it_is_said_what_to_do(session: Session) -> None:
    for key in KEYS[:2]:
        session.set_aside(key)
    with pytest.raises(SupportError, match="take at least one back"):
        session.start_run()
    with pytest.raises(SupportError, match="nothing was taught on 'stack \\[2\\]'"):
        session.set_aside(KEYS[2])


def test_teaching_again_and_forgetting_take_a_shot_back(session: Session) -> None:
    for again in (lambda: session.teach(session.support.shots[0]), lambda: session.forget(KEYS[0])):
        session.set_aside(KEYS[0])
        again()
        assert session.aside == frozenset()
        session.undo()
        assert session.aside == {KEYS[0]}
        session.undo()


def test_clean_up_is_taken_back_by_undo_and_done_anew_from_what_was_proposed(session: Session) -> None:
    list(session.propose())
    whole = labels_of(session, KEYS[2])
    assert whole[14, 1] == 1
    assert session.clean_up(steps=CleanUp(min_area=5)) == KEYS[2:]
    assert not labels_of(session, KEYS[2])[14, 1] and labels_of(session, KEYS[2])[4:12, 4:12].all()
    assert session.clean_up(KEYS[2:3], CleanUp(min_area=100)) == KEYS[2:3]
    assert not labels_of(session, KEYS[2]).any()
    assert session.clean_up(KEYS[2:3], CleanUp()) == KEYS[2:3]
    np.testing.assert_array_equal(labels_of(session, KEYS[2]), whole)
    for expected in (0, 64, 65):
        assert KEYS[2] in session.undo()
        assert np.count_nonzero(labels_of(session, KEYS[2])) == expected
    session.redo()
    assert np.count_nonzero(labels_of(session, KEYS[2])) == np.count_nonzero(labels_of(session, KEYS[3])) == 64


def test_what_was_corrected_after_cleaning_up_outlives_undo(session: Session) -> None:
    list(session.propose())
    session.clean_up(steps=CleanUp(min_area=100))
    corrected = labels_of(session, KEYS[2])
    corrected[0, 0] = 1
    session.correct(KEYS[2], corrected)
    assert session.clean_up(steps=CleanUp(min_area=200)) == KEYS[2:], "a step, even if nothing looks otherwise"
    assert labels_of(session, KEYS[2])[0, 0] == 1, "a single pixel, but a person's"
    session.undo()
    session.undo()
    assert labels_of(session, KEYS[2])[0, 0] == 1 and labels_of(session, KEYS[2])[4:12, 4:12].all()


def test_thresholds_need_probabilities(session: Session) -> None:
    made = {proposal.key: proposal for proposal in session.propose()}
    strict = CleanUp(thresholds={1: 1.0})
    assert session.clean_up(steps=strict) == []
    assert session.clean_up(steps=strict, probabilities={KEYS[2]: made[KEYS[2]]}) == [KEYS[2]]
    assert np.count_nonzero(labels_of(session, KEYS[2])) == (made[KEYS[2]].probabilities[1] == 1).sum()


def test_proposals_that_come_later_are_tidied_as_the_settings_say(session: Session) -> None:
    session.propagation = PropagationSettings(min_area=5)
    list(session.propose())
    assert not labels_of(session, KEYS[2])[14, 1]
    assert session.clean_up() == [], "they are as clean as that"
    session.propagation = PropagationSettings()
    assert session.clean_up() == KEYS[2:] and labels_of(session, KEYS[2])[14, 1] == 1


def test_a_tidied_proposal_that_comes_too_late_is_dropped(session: Session) -> None:
    list(session.propose())
    before = session.proposal(KEYS[2])
    assert before is not None
    session.clean_up(KEYS[2:3], CleanUp(min_area=100))
    after = session.proposal(KEYS[2])
    assert after is not None
    session.reject(KEYS[3])
    session.record(session.start_run(), proposal(KEYS[2], np.ones((16, 16), np.int32)))
    assert session.replace_open({KEYS[2]: (before, after)}) == []
    assert labels_of(session, KEYS[2]).all()


def test_all_of_it_is_saved(session: Session, tmp_path: Path) -> None:
    list(session.propose())
    session.clean_up(steps=CleanUp(min_area=5))
    session.set_aside(KEYS[1])
    session.spend(Effort(60.0, 3, 1))
    session.spend(Effort(0.5, 1, 0))
    session.propagation = PropagationSettings(min_area=5, thresholds={1: 0.25})
    session.save(tmp_path / "kept")
    again = open_session(tmp_path / "kept", BrightnessSegmenter())
    assert again.aside == {KEYS[1]} and again.effort == Effort(60.5, 4, 1)
    assert again.propagation == session.propagation
    assert again.clean_up(steps=CleanUp()) == KEYS[2:], "what was before is saved as well"
    assert labels_of(again, KEYS[2])[14, 1] == 1
