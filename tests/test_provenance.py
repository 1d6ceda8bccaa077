import csv
import json
from pathlib import Path

import numpy as np
import pytest

from napari_fewshot import Box, Frame, LabelClass, Session, Shot
from napari_fewshot.errors import ExportError
from napari_fewshot.frames import FrameKey
from napari_fewshot.io.provenance_table import write_provenance
from napari_fewshot.provenance import Origin
from napari_fewshot.support import UNLABELLED
from tests.fakes import BrightnessSegmenter, proposal

SIZE = (16, 16)
N, H, B, C, A, M = (Origin[n] for n in ("NONE", "HUMAN", "BOXED", "CORRECTED", "ACCEPTED", "MODEL"))


def z(number: int) -> FrameKey:
    return ("stack", number)


@pytest.fixture
def session() -> Session:
    """Three frames, nothing taught."""
    session = Session(BrightnessSegmenter())
    session.add_frames(Frame.of_stack("stack", np.full((3, *SIZE), 20, np.uint8)))
    return session


def strokes(session: Session, key: FrameKey, value: int, rows: slice) -> Shot:
    """A partial shot: some rows are of a class, nothing is known of the others."""
    labels = np.full(SIZE, UNLABELLED)
    labels[rows] = value
    return Shot(session.frame(key), labels)


def propose(session: Session, key: FrameKey, value: int, score: float = 0.5) -> None:
    """The model says that all of a frame is of a class."""
    assert session.record(session.start_run(), proposal(key, np.full(SIZE, value), score))


def rows_of(session: Session, key: FrameKey) -> dict[int, Origin]:
    """Origin of each row, where it is not that of the row above."""
    origins = session.origins(key)
    assert origins is not None
    assert all(len(set(row)) == 1 for row in origins.tolist())
    column = [Origin(value) for value in origins[:, 0]]
    return {i: origin for i, origin in enumerate(column) if i == 0 or origin != column[i - 1]}


def corrected(session: Session, key: FrameKey, value: int, rows: slice) -> None:
    labels = session.labels(key, with_proposals=True)
    assert labels is not None
    labels[rows] = value
    session.correct(key, labels)


def test_of_an_untouched_frame_nobody_has_said_anything(session: Session) -> None:
    assert session.origins(z(0)) is None
    assert session.provenance()[0].origin is N


def test_a_person_says_what_is_painted_and_a_box_lets_guess(session: Session) -> None:
    session.teach(strokes(session, z(0), 1, slice(0, 4)))
    assert rows_of(session, z(0)) == {0: H, 4: N}
    session.teach(Shot.boxed(session.frame(z(1)), [Box(4, 4, 12, 12)]))
    origins = session.origins(z(1))
    assert origins is not None
    assert (origins[0, 0], origins[4, 4], origins[8, 8]) == (H, N, B)


def test_a_proposal_is_the_models_except_where_a_person_painted(session: Session) -> None:
    session.teach(strokes(session, z(0), 1, slice(0, 4)))
    propose(session, z(0), 2)
    assert rows_of(session, z(0)) == {0: H, 4: M}
    labels = session.labels(z(0), with_proposals=True)
    assert labels is not None
    assert labels[:, 0].tolist() == [1] * 4 + [2] * 12


def test_corrections_and_what_was_accepted_as_it_was_are_told_apart(session: Session) -> None:
    session.teach(strokes(session, z(0), 1, slice(0, 4)))
    propose(session, z(0), 2)
    corrected(session, z(0), 3, slice(6, 8))
    assert rows_of(session, z(0)) == {0: H, 4: M, 6: C, 8: M}
    session.accept(z(0))
    assert rows_of(session, z(0)) == {0: H, 4: A, 6: C, 8: A}


def test_what_is_accepted_in_place_of_a_proposal_is_a_correction_of_it(session: Session) -> None:
    session.teach(strokes(session, z(1), 1, slice(0, 4)))
    propose(session, z(0), 2)
    other = np.full(SIZE, 2)
    other[:5] = 1
    session.accept(z(0), other)
    assert rows_of(session, z(0)) == {0: C, 5: A}


def test_accepting_many_keeps_what_people_painted_and_corrected(session: Session) -> None:
    session.teach(strokes(session, z(0), 1, slice(0, 4)))
    propose(session, z(0), 2)
    corrected(session, z(0), 3, slice(4, 5))
    session.accept_above(0)
    assert rows_of(session, z(0)) == {0: H, 4: C, 5: A}


def test_painting_what_was_proposed_makes_it_a_persons(session: Session) -> None:
    session.teach(strokes(session, z(1), 1, slice(0, 4)))
    propose(session, z(0), 2)
    human = np.zeros(SIZE, bool)
    human[:3] = True
    session.correct(z(0), np.full(SIZE, 2), human)
    assert rows_of(session, z(0)) == {0: C, 3: M}


def test_teaching_an_accepted_frame_again_does_not_make_the_models_pixels_human(session: Session) -> None:
    session.teach(strokes(session, z(1), 1, slice(0, 4)))
    propose(session, z(0), 2)
    painted = session.accept(z(0)).copy()
    painted[:4] = 1
    session.teach(Shot(session.frame(z(0)), painted))
    assert rows_of(session, z(0)) == {0: H, 4: A}
    painted[:6] = 3
    session.teach(Shot(session.frame(z(0)), painted))
    assert rows_of(session, z(0)) == {0: H, 6: A}


def test_rejecting_and_forgetting_leave_nobody(session: Session) -> None:
    session.teach(strokes(session, z(1), 1, slice(0, 4)))
    propose(session, z(0), 2)
    session.reject(z(0))
    assert session.origins(z(0)) is None
    session.forget(z(1))
    assert session.origins(z(1)) is None


def test_a_forgotten_stroke_does_not_pass_for_the_models(session: Session) -> None:
    session.teach(strokes(session, z(0), 1, slice(0, 4)))
    propose(session, z(0), 2)
    session.forget(z(0))
    assert session.proposal(z(0)) is None
    session.undo()
    assert rows_of(session, z(0)) == {0: H, 4: M}
    corrected(session, z(0), 3, slice(6, 8))
    session.forget(z(0))
    assert rows_of(session, z(0)) == {0: C, 4: M, 6: C, 8: M}


def test_undoing_a_stroke_over_a_proposal_shows_the_proposal_again(session: Session) -> None:
    session.teach(strokes(session, z(1), 1, slice(0, 4)))
    propose(session, z(0), 2)
    corrected(session, z(0), 3, slice(0, 2))
    session.teach(strokes(session, z(0), 1, slice(0, 4)))
    corrected(session, z(0), 4, slice(10, 11))
    session.undo()
    labels = session.labels(z(0), with_proposals=True)
    assert labels is not None
    assert labels[:, 0].tolist() == [3, 3] + [2] * 8 + [4] + [2] * 5
    assert rows_of(session, z(0)) == {0: C, 2: M, 10: C, 11: M}


def test_a_proposal_made_without_a_stroke_minds_it_when_it_is_back(session: Session) -> None:
    session.teach(strokes(session, z(1), 1, slice(0, 4)))
    session.teach(strokes(session, z(0), 1, slice(0, 4)))
    session.forget(z(0))
    propose(session, z(0), 2)
    session.undo()
    assert rows_of(session, z(0)) == {0: H, 4: M}


def test_redo_takes_again_what_undo_took_back_with_its_provenance(session: Session) -> None:
    session.teach(strokes(session, z(0), 1, slice(0, 4)))
    propose(session, z(0), 2)
    session.accept(z(0))
    assert not session.can_redo
    assert session.undo() == [z(0)]
    assert rows_of(session, z(0)) == {0: H, 4: M}
    assert session.redo() == [z(0)]
    assert rows_of(session, z(0)) == {0: H, 4: A}
    assert session.support.keys == (z(0),)
    assert not session.support.shots[0].is_partial
    assert session.redo() == []


def test_a_decision_or_a_correction_ends_what_can_be_done_again(session: Session) -> None:
    session.teach(strokes(session, z(1), 1, slice(0, 4)))
    propose(session, z(0), 2)
    propose(session, z(2), 2)
    session.accept(z(0))
    session.undo()
    corrected(session, z(0), 3, slice(0, 1))
    assert not session.can_redo
    session.accept(z(0))
    session.undo()
    session.reject(z(2))
    assert not session.can_redo


def test_a_class_that_was_left_out_comes_back_by_undo_with_the_others_renamed(session: Session) -> None:
    session.set_classes([LabelClass(1, "cell"), LabelClass(2, "dirt")])
    session.set_classes([LabelClass(1, "cell")])
    session.set_classes([LabelClass(1, "nucleus")])
    session.undo()
    assert [c.name for c in session.classes] == ["nucleus", "dirt"]
    session.redo()
    assert [c.name for c in session.classes] == ["nucleus"]


def test_the_table_sums_up_each_frame(session: Session) -> None:
    session.teach(strokes(session, z(0), 1, slice(0, 4)))
    propose(session, z(1), 2, score=0.75)
    corrected(session, z(1), 3, slice(0, 1))
    rows = [each.row() for each in session.provenance()]
    assert [(r["frame"], r["state"], r["origin"], r["score"]) for r in rows] == [
        ("stack [0]", "taught", "human", None),
        ("stack [1]", "corrected", "corrected", 0.75),
        ("stack [2]", "untouched", "nobody", None),
    ]
    assert (rows[0]["pixels human"], rows[0]["pixels nobody"]) == (64, 192)
    assert (rows[1]["pixels corrected"], rows[1]["pixels model"]) == (16, 240)


def test_the_table_is_written_as_csv_and_as_json(session: Session, tmp_path: Path) -> None:
    session.teach(strokes(session, z(0), 1, slice(0, 4)))
    rows = [each.row() for each in session.provenance()]
    write_provenance(tmp_path / "table.json", session.provenance())
    assert json.loads((tmp_path / "table.json").read_text("utf-8")) == rows
    write_provenance(tmp_path / "table.csv", session.provenance())
    with open(tmp_path / "table.csv", encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert read == [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows]
    with pytest.raises(ExportError, match=r"end in \.csv or \.json"):
        write_provenance(tmp_path / "table.xls", session.provenance())
