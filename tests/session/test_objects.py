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
from napari_fewshot.session.folder import SessionFolder
from napari_fewshot.session.head import HEAD, sealed
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


def test_objects_of_nothing_are_refused(session: Session, tmp_path: Path) -> None:
    session.save(tmp_path / "saved")
    head = json.loads((tmp_path / "saved" / HEAD).read_text("utf-8"))
    record = next(record for record in head["frames"] if "shot_objects" in record)
    record["accepted_objects"] = record["shot_objects"]
    del head["digest"]
    (tmp_path / "saved" / HEAD).write_bytes(sealed(head))
    with pytest.raises(ReadError, match="accepted_objects of"):
        open_session(tmp_path / "saved")


# ---------------------------------------------------------------------------- edits, and objects that are linked
MERGED = ids_of((2, 10, 1))


def test_an_edit_is_human_from_now_on_and_comes_back_with_undo_and_redo(session: Session) -> None:
    before = session.proposal(KEY)
    assert session.mend(KEY, MERGED)
    np.testing.assert_array_equal(objects(session), MERGED)
    corrections = session.proposal(KEY).corrections
    np.testing.assert_array_equal(corrections, np.where(MERGED > 0, 1, UNLABELLED))
    assert session.undo() == [KEY]
    now = session.proposal(KEY)
    np.testing.assert_array_equal(objects(session), LEFT_AND_RIGHT)
    np.testing.assert_array_equal(now.labels, before.labels)
    assert now.corrections is None and not now.edits
    session.redo()
    np.testing.assert_array_equal(objects(session), MERGED)
    np.testing.assert_array_equal(session.proposal(KEY).corrections, corrections)
    assert not session.mend(KEY, MERGED)


def test_deleted_objects_are_background_and_one_of_two_classes_gets_that_of_most_of_it(session: Session) -> None:
    labels = np.where(LEFT_AND_RIGHT == 2, 3, LEFT_AND_RIGHT)
    labels[:, 10:16] = 3
    two = ids_of((2, 6, 1), (6, 16, 2))
    shot = Shot(session.frame(("stack", 0)), np.where(two == 2, 3, two), instances=two)
    session.teach(shot)
    session.record(session.start_run(), replace(proposal(KEY, labels), instances=two))
    assert session.mend(KEY, ids_of((2, 16, 2)))
    assert (session.proposal(KEY).labels[:, 2:16] == 3).all()
    assert session.mend(KEY, ids_of())
    assert not session.proposal(KEY).labels.any()
    assert (session.proposal(KEY).corrections[:, 2:16] == 0).all()
    with pytest.raises(MaskError, match="objects are"):
        session.mend(KEY, np.zeros((3, 3), np.int32))


def test_an_edit_is_taken_back_after_the_frame_was_proposed_for_anew_and_later_strokes_stay(session: Session) -> None:
    session.mend(KEY, MERGED)
    session.record(session.start_run(), proposed(ids_of((2, 6, 1), (6, 10, 2), (14, 18, 3))))
    np.testing.assert_array_equal(objects(session), ids_of((2, 10, 1), (14, 18, 4)))  # not 2, which undo brings back
    labels = session.labels(KEY, with_proposals=True)
    labels[:4] = 0
    session.correct(KEY, labels)
    session.undo()
    ids = objects(session)
    assert not ids[:4].any()
    np.testing.assert_array_equal(ids[4:], ids_of((2, 6, 1), (6, 10, 2), (14, 18, 4))[4:])
    assert (session.proposal(KEY).corrections[:4, 2:10] == 0).all()


def test_two_edits_are_two_steps(session: Session) -> None:
    session.mend(KEY, MERGED)
    session.mend(KEY, ids_of((2, 6, 1)))
    session.undo()
    np.testing.assert_array_equal(objects(session), MERGED)
    session.accept(KEY)
    session.undo()
    session.undo()
    np.testing.assert_array_equal(objects(session), LEFT_AND_RIGHT)
    session.redo()
    np.testing.assert_array_equal(objects(session), MERGED)


def test_linked_objects_have_one_number_on_all_slices_and_later_ones_get_a_new_one(session: Session) -> None:
    last = ("stack", 2)
    session.record(session.start_run(), proposed(ids_of((2, 6, 7), (6, 10, 5))))
    session.record(session.start_run(), replace(proposed(ids_of((3, 7, 9), (16, 20, 4))), key=last))
    session.accept_many([KEY])
    assert session.link_objects("stack", "Z") == [last]
    np.testing.assert_array_equal(session.objects(KEY), LEFT_AND_RIGHT)
    np.testing.assert_array_equal(session.objects(last, with_proposals=True), ids_of((3, 7, 1), (16, 20, 3)))
    assert session.free_number(KEY) == 4 and session.link_objects("stack", "Z") == []
    session.record(session.start_run(), replace(proposed(ids_of((3, 7, 1), (21, 23, 2))), key=last))
    np.testing.assert_array_equal(
        session.objects(last, with_proposals=True), ids_of((3, 7, 1), (21, 23, 10))
    )  # undo brings numbers up to 9 back


def test_linking_is_a_step_of_undo(session: Session) -> None:
    session.teach(Shot.of_objects(session.frame(("stack", 0)), ids_of((2, 6, 8), (6, 10, 3))))
    before = objects(session)
    assert session.link_objects("stack", "Z") == [("stack", 0), KEY]
    np.testing.assert_array_equal(session.objects(("stack", 0)), objects(session))
    np.testing.assert_array_equal(np.sort(np.unique(objects(session))), [0, 1, 2])
    session.undo()
    np.testing.assert_array_equal(session.objects(("stack", 0)), ids_of((2, 6, 8), (6, 10, 3)))
    np.testing.assert_array_equal(objects(session), before)
    session.redo()
    np.testing.assert_array_equal(session.objects(("stack", 0)), objects(session))


def test_that_slices_are_linked_is_saved_and_opened(session: Session, tmp_path: Path) -> None:
    last = ("stack", 2)
    told: list[None] = []
    session.changed.connect(lambda: told.append(None))
    assert session.link_objects("stack", "Z") == [] and told, "nothing has another number, but it is saved"
    session.save(tmp_path / "saved")
    session = open_session(tmp_path / "saved", BrightnessSegmenter())
    session.record(session.start_run(), replace(proposed(ids_of((2, 6, 1))), key=last))
    np.testing.assert_array_equal(session.objects(last, with_proposals=True), ids_of((2, 6, 3)))
    renamed = SessionFolder(tmp_path / "saved").read().renamed({"stack": "other"})
    assert renamed.linked == {"other": 3}
    again = Session(BrightnessSegmenter())
    again.restore(SessionFolder(tmp_path / "saved").read())
    assert again.free_number(KEY) == 3 and again.snapshot().linked == {"stack": 3}
    again.restore(Session(BrightnessSegmenter()).snapshot())
    assert again.snapshot().linked == {}


def test_what_is_not_linked_is_saved_as_ever_and_gets_any_numbers(session: Session, tmp_path: Path) -> None:
    session.save(tmp_path / "saved")
    assert "linked" not in json.loads((tmp_path / "saved" / HEAD).read_text("utf-8"))
    again = open_session(tmp_path / "saved", BrightnessSegmenter())
    again.record(again.start_run(), replace(proposed(ids_of((2, 6, 1))), key=("stack", 2)))
    np.testing.assert_array_equal(again.objects(("stack", 2), with_proposals=True), ids_of((2, 6, 1)))


@pytest.mark.parametrize(
    "wrong",
    [
        [{"name": "stack", "free": 0}], [{"name": "stack", "free": "3"}], [{"name": "stack", "free": True}],
        [{"name": "stack"}], [{"name": "elsewhere", "free": 3}], [{"free": 3}], {"stack": 3}, 3,
    ],
)  # fmt: skip
def test_a_head_that_links_what_cannot_be_linked_is_refused(session: Session, tmp_path: Path, wrong: object) -> None:
    session.save(tmp_path / "saved")
    head = json.loads((tmp_path / "saved" / HEAD).read_text("utf-8"))
    del head["digest"]
    (tmp_path / "saved" / HEAD).write_bytes(sealed(head | {"linked": wrong}))
    with pytest.raises(ReadError, match="is damaged"):
        open_session(tmp_path / "saved")


def test_numbers_that_a_person_gave_in_a_linked_stack_are_not_given_again(session: Session) -> None:
    last = ("stack", 2)
    session.link_objects("stack", "Z")
    session.correct(KEY, session.labels(KEY, with_proposals=True), instances=ids_of((2, 6, 1), (6, 10, 50)))
    session.record(session.start_run(), replace(proposed(ids_of((2, 6, 1))), key=last))
    np.testing.assert_array_equal(session.objects(last, with_proposals=True), ids_of((2, 6, 51)))
    session.teach(Shot.of_objects(session.frame(("stack", 0)), ids_of((2, 6, 1), (6, 10, 90))))
    session.record(session.start_run(), replace(proposed(ids_of((2, 6, 1), (12, 16, 2))), key=last))
    np.testing.assert_array_equal(session.objects(last, with_proposals=True), ids_of((2, 6, 51), (12, 16, 91)))
