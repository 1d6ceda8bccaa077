"""Objects mended by hand, and every step of it taken back."""

import numpy as np
import pytest

from napari_fewshot.errors import MaskError
from napari_fewshot.instances.editing import ObjectEditor


def field() -> np.ndarray:
    """A wide object 3, a small one 9 beside it, and 5 far away."""
    ids = np.zeros((30, 40), np.int32)
    ids[5:15, 2:22], ids[5:15, 22:26], ids[20:28, 30:38] = 3, 9, 5
    return ids


def test_objects_become_one_with_the_smallest_number() -> None:
    editor = ObjectEditor(field())
    assert editor.merge([9, 3])
    assert np.array_equal(editor.ids, np.where(field() == 9, 3, field()))
    assert not editor.merge([3])


def test_a_line_cuts_what_it_crosses() -> None:
    editor = ObjectEditor(field())
    assert editor.split([(0, 8), (20, 8)])
    found = editor.ids
    assert np.array_equal(found > 0, field() > 0)  # no pixel is lost
    assert (found[5:15, 10:22] == 3).all() and (found[5:15, 2:7] == 10).all()
    assert set(np.unique(found)) == {0, 3, 5, 9, 10}


def test_a_slanting_line_of_several_corners_cuts_each_object_that_it_crosses() -> None:
    editor = ObjectEditor(field())
    assert editor.split([(-4, 4), (10, 30), (30, 34)])
    assert len(np.unique(editor.ids)) > 4
    assert (editor.ids[field() == 0] == 0).all()


def test_pieces_that_share_a_corner_are_one_object_unless_cut_there() -> None:
    ids = np.zeros((20, 20), np.int32)
    ids[2:8, 2:8], ids[8:14, 8:14] = 1, 1
    editor = ObjectEditor(ids)
    assert not editor.split([(12, 11), (16, 11)])
    assert editor.split([(0, 4), (10, 4)])
    assert len(np.unique(editor.ids)) == 3


def test_a_line_that_only_enters_an_object_leaves_it_whole() -> None:
    editor = ObjectEditor(field())
    assert not editor.split([(0, 8), (10, 8)])
    assert np.array_equal(editor.ids, field()) and editor.undoable == ""


def test_a_lasso_deletes_what_is_mostly_inside() -> None:
    editor = ObjectEditor(field())
    assert editor.delete_inside([(3, 12), (3, 30), (17, 30), (17, 12)])  # half of 3, all of 9
    assert np.array_equal(np.unique(editor.ids), [0, 3, 5])
    assert not editor.delete_inside([(0, 30), (0, 35), (3, 35)])


def test_every_step_can_be_taken_back_and_done_again() -> None:
    editor = ObjectEditor(field())
    steps = [field()]
    editor.split([(0, 8), (20, 8)])
    steps.append(editor.ids)
    editor.merge([3, 9])
    steps.append(editor.ids)
    editor.delete_inside([(18, 28), (18, 39), (29, 39), (29, 28)])
    steps.append(editor.ids)
    assert editor.undoable == "deleted objects inside of a lasso"
    for before in reversed(steps[:-1]):
        assert editor.undo()
        assert np.array_equal(editor.ids, before)
    assert not editor.undo() and editor.redoable == "cut objects along a line"
    for after in steps[1:]:
        assert editor.redo()
        assert np.array_equal(editor.ids, after)
    assert not editor.redo()


def test_a_new_change_forgets_what_was_taken_back() -> None:
    editor = ObjectEditor(field())
    editor.merge([3, 9])
    editor.undo()
    editor.split([(0, 8), (20, 8)])
    assert not editor.redo() and editor.undoable == "cut objects along a line"


def test_a_number_is_not_given_again_after_undo() -> None:
    editor = ObjectEditor(field())
    editor.split([(0, 8), (20, 8)])
    editor.undo()
    editor.split([(0, 15), (20, 15)])
    assert editor.ids.max() == 11


def test_what_cannot_be_is_refused_and_changes_nothing() -> None:
    editor = ObjectEditor(field())
    with pytest.raises(MaskError, match="there is no object 4 here"):
        editor.merge([3, 4])
    with pytest.raises(MaskError, match="cuts nothing"):
        editor.split([(3, 3)])
    with pytest.raises(MaskError, match="encloses nothing"):
        editor.delete_inside([(3, 3), (4, 4)])
    assert np.array_equal(editor.ids, field())


def test_the_map_that_was_given_and_the_one_that_is_handed_out_are_copies() -> None:
    given = field()
    editor = ObjectEditor(given)
    editor.ids[:] = 0
    editor.merge([3, 9])
    assert np.array_equal(given, field()) and editor.ids.any()
