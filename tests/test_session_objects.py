"""Ids of objects in a session: kept, followed, undone, saved."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_fewshot import Frame, PropagationSettings, Session, Shot, open_session
from napari_fewshot.errors import MaskError, ReadError
from napari_fewshot.instances.fitting import with_said
from napari_fewshot.proposals import Proposal
from napari_fewshot.session_folder import HEAD, SessionFolder
from napari_fewshot.support import UNLABELLED
from tests.fakes import BrightnessSegmenter, proposal

SIZE = (16, 24)
KEY = ("stack", 1)


def ids_of(*columns: tuple[int, int, int]) -> np.ndarray:
    """Bars as high as the image: (first column, the one behind the last, number)."""
    ids = np.zeros(SIZE, np.int32)
    for start, stop, number in columns:
        ids[:, start:stop] = number
    return ids


LEFT_AND_RIGHT = ids_of((2, 6, 1), (6, 10, 2))


def proposed(ids: np.ndarray, class_id: int = 1) -> Proposal:
    return replace(proposal(KEY, np.where(ids > 0, class_id, 0)), instances=ids)


@pytest.fixture
def session() -> Session:
    """One slice with two objects that touch, and an open proposal on the next one."""
    session = Session(BrightnessSegmenter())
    session.add_frames(Frame(("stack", z), np.zeros(SIZE, np.uint8)) for z in range(3))
    session.teach(Shot.of_objects(session.frame(("stack", 0)), LEFT_AND_RIGHT))
    assert session.record(session.start_run(), proposed(LEFT_AND_RIGHT))
    return session


def objects(session: Session) -> np.ndarray:
    ids = session.objects(KEY, with_proposals=True)
    assert ids is not None
    return ids


def test_proposals_and_shots_have_objects_and_decided_frames_keep_them(session: Session) -> None:
    np.testing.assert_array_equal(objects(session), LEFT_AND_RIGHT)
    assert session.objects(KEY) is None
    np.testing.assert_array_equal(session.objects(("stack", 0)), LEFT_AND_RIGHT)
    session.accept_many([KEY])
    np.testing.assert_array_equal(session.objects(KEY), LEFT_AND_RIGHT)
    session.undo()
    assert session.objects(KEY) is None
    session.redo()
    np.testing.assert_array_equal(session.objects(KEY), LEFT_AND_RIGHT)


def test_an_accepted_proposal_teaches_its_objects(session: Session) -> None:
    session.accept(KEY)
    np.testing.assert_array_equal(session.support.shots[-1].instances, LEFT_AND_RIGHT)


def test_an_accepted_frame_does_not_take_from_other_classes_that_they_come_in_objects() -> None:
    session = Session(BrightnessSegmenter())
    session.add_frames(Frame(("stack", z), np.zeros(SIZE, np.uint8)) for z in range(2))
    labels = np.where(LEFT_AND_RIGHT == 2, 3, LEFT_AND_RIGHT)
    session.teach(Shot(session.frame(("stack", 0)), labels))
    session.record(session.start_run(), proposed(LEFT_AND_RIGHT))
    session.accept(KEY)
    assert session.support.counted_ids == (1, 3)


def test_objects_keep_their_numbers_when_a_frame_is_proposed_for_anew(session: Session) -> None:
    session.record(session.start_run(), proposed(ids_of((3, 7, 2), (7, 11, 1), (14, 18, 3))))
    np.testing.assert_array_equal(objects(session), ids_of((3, 7, 1), (7, 11, 2), (14, 18, 3)))


def test_objects_follow_what_is_corrected_and_tidied(session: Session) -> None:
    labels = np.where(LEFT_AND_RIGHT > 0, 1, 0)
    labels[:, 10:12] = 1
    labels[:, 2:4] = 0
    labels[4, 20] = 1
    session.correct(KEY, labels)
    expected = ids_of((4, 6, 1), (6, 12, 2))
    expected[4, 20] = 3
    np.testing.assert_array_equal(objects(session), expected)
    session.record(session.start_run(), proposed(np.roll(LEFT_AND_RIGHT, 10, axis=1)))
    assert objects(session)[4, 20] == 3  # a person painted it


def test_tidying_takes_objects_away_and_undo_brings_them_back(session: Session) -> None:
    speck = LEFT_AND_RIGHT.copy()
    speck[8, 20] = 7
    session.record(session.start_run(), proposed(speck))
    number = objects(session)[8, 20]
    assert number > 2
    session.clean_up(steps=PropagationSettings(min_area=4))
    np.testing.assert_array_equal(objects(session), LEFT_AND_RIGHT)
    session.undo()
    assert objects(session)[8, 20] == number


def test_mended_objects_survive_the_next_run(session: Session) -> None:
    merged = np.where(LEFT_AND_RIGHT > 0, 1, 0)
    session.correct(KEY, merged, instances=merged)
    np.testing.assert_array_equal(objects(session), merged)
    session.record(session.start_run(), proposed(ids_of((2, 6, 1), (6, 11, 2), (14, 18, 3))))
    np.testing.assert_array_equal(objects(session), ids_of((2, 11, 1), (14, 18, 3)))


def test_mended_objects_outlive_proposals_that_tell_none_apart(session: Session) -> None:
    merged = np.where(LEFT_AND_RIGHT > 0, 1, 0)
    session.correct(KEY, merged, instances=merged)
    session.record(session.start_run(), replace(proposed(LEFT_AND_RIGHT), instances=None))
    session.record(session.start_run(), proposed(LEFT_AND_RIGHT))
    np.testing.assert_array_equal(objects(session), merged)


def test_a_person_has_the_last_word_on_objects_of_a_partly_painted_frame(session: Session) -> None:
    labels, ids = np.full(SIZE, UNLABELLED), np.zeros(SIZE, np.int32)
    labels[:, 2:6], ids[:, 2:6] = 1, 40
    session.teach(Shot(session.frame(KEY), labels, instances=ids))
    session.record(session.start_run(), proposed(ids_of((2, 8, 1), (8, 12, 2))))
    np.testing.assert_array_equal(objects(session), ids_of((2, 8, 40), (8, 12, 2)))


def test_objects_that_contradict_their_labels_are_refused_and_nothing_is_lost(session: Session) -> None:
    labels = np.where(LEFT_AND_RIGHT == 2, 3, LEFT_AND_RIGHT)
    with pytest.raises(MaskError, match="two classes"):
        session.correct(KEY, labels, instances=np.where(labels > 0, 1, 0))
    np.testing.assert_array_equal(objects(session), LEFT_AND_RIGHT)


def test_what_is_said_covers_what_is_proposed() -> None:
    ids, said = np.array([[1, 1, 1, 2, 2, 3]]), np.array([[0, 7, 7, 0, 0, 2]])
    np.testing.assert_array_equal(with_said(ids, said), [[7, 7, 7, 8, 8, 2]])
    assert with_said(ids, np.zeros_like(ids)) is ids


def test_objects_are_saved_and_opened(session: Session, tmp_path: Path) -> None:
    session.add_frames([Frame(("stack", 3), np.zeros(SIZE, np.uint8))])
    run = session.start_run()
    session.record(run, replace(proposed(LEFT_AND_RIGHT * 70_000), key=("stack", 3)))
    session.record(run, replace(proposed(LEFT_AND_RIGHT), key=("stack", 2)))
    session.accept(("stack", 3))
    session.save(tmp_path / "saved")
    again = open_session(tmp_path / "saved", BrightnessSegmenter())
    for key in session.frames:
        for open_too in (False, True):
            expected = session.objects(key, with_proposals=open_too)
            np.testing.assert_array_equal(again.objects(key, with_proposals=open_too), expected)
    assert [shot.digest for shot in again.support] == [shot.digest for shot in session.support]
    renamed = SessionFolder(tmp_path / "saved").read().renamed({"stack": "other"})
    np.testing.assert_array_equal(renamed.state.objects["other", 3], LEFT_AND_RIGHT * 70_000)


def test_only_a_session_with_objects_needs_the_newer_format(session: Session, tmp_path: Path) -> None:
    session.save(tmp_path / "with")
    plain = Session(BrightnessSegmenter())
    plain.teach(Shot(Frame("a", np.zeros(SIZE, np.uint8)), LEFT_AND_RIGHT))
    plain.save(tmp_path / "without")
    versions = [json.loads((tmp_path / name / HEAD).read_text("utf-8"))["version"] for name in ("with", "without")]
    assert versions == [2, 1]


def test_objects_of_nothing_are_refused(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = SessionFolder._record

    def contradicting(*args: object) -> dict[str, object]:
        made = record(*args)  # type: ignore[arg-type]
        return made | {"accepted_objects": made["shot_objects"]} if "shot_objects" in made else made

    monkeypatch.setattr(SessionFolder, "_record", contradicting)
    session.save(tmp_path / "saved")
    with pytest.raises(ReadError, match="accepted_objects of"):
        open_session(tmp_path / "saved")
