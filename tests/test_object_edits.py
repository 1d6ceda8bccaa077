"""Tools for objects in the dock, without a window: what lines mean that are drawn with them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from napari_fewshot.frames import Frame
from napari_fewshot.instances.objects import connected
from napari_fewshot.proposals import Proposal
from napari_fewshot.segmenter import SegmenterSettings, TileProgress
from napari_fewshot.session import FrameState
from napari_fewshot.session.loading import LoadedSegmenter
from napari_fewshot.support import UNLABELLED, SupportSet
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.state import ObjectTool
from tests.fakes import Brightness, BrightnessSegmenter
from tests.test_controller import Dock

SIZE = (24, 32)
LEFT, RIGHT = (8.0, 6.0), (8.0, 22.0)
ROUND_LEFT = [(2.0, 2.0), (2.0, 13.0), (16.0, 13.0), (16.0, 2.0)]
DOWN_THE_LEFT = [(0.0, 8.0), (20.0, 8.0)]


class ObjectsOf:
    """Gives what is connected a number."""

    name = "objects by brightness"

    def learn(self, support: SupportSet, *, progress: TileProgress | None = None) -> Any:
        self.concept = BrightnessSegmenter().learn(support, progress=progress)
        return self

    def propose(self, frame: Frame, *, progress: TileProgress | None = None) -> Proposal:
        concept: Brightness = self.concept
        found = concept.propose(frame, progress=progress)
        return replace(found, instances=connected(found.labels))


def squares() -> np.ndarray:
    """Two bright squares."""
    image = np.full(SIZE, 20, np.uint8)
    image[4:14, 4:12] = image[4:14, 18:26] = 200
    return image


@pytest.fixture
def dock() -> Dock:
    """The first of three slices is taught with two objects, 1 and 2; the second is on screen, with a proposal."""
    dock = Dock(a=np.stack([squares()] * 3))
    dock.session._segmenter = LoadedSegmenter(dock.session.settings, lambda settings: ObjectsOf())
    dock.controller.use_settings(SegmenterSettings(instances=True))
    dock.paint(("a", 0), squares() == 200)
    dock.controller.teach()
    dock.controller.propose()
    dock.runner.finish()
    dock.controller.set_refresh_after_decision(False)
    dock.show(("a", 1))
    return dock


def ids(dock: Dock, z: int = 1) -> np.ndarray:
    found = dock.session.objects(("a", z), with_proposals=True)
    assert found is not None
    np.testing.assert_array_equal(dock.layers.objects(("a", z)), found)
    return found


def numbers(found: np.ndarray) -> set[int]:
    return set(np.unique(found).tolist()) - {0}


def test_two_clicks_put_two_objects_together_and_undo_parts_them(dock: Dock) -> None:
    before = ids(dock)
    dock.controller.merge_objects()
    assert dock.state.tool is ObjectTool.MERGE and "Click one object" in dock.state.object_note
    dock.controller.drawn([LEFT])
    assert "the one that belongs to it" in dock.state.object_note and not dock.session.proposal(("a", 1)).edits
    dock.controller.drawn([RIGHT])
    np.testing.assert_array_equal(ids(dock), before > 0)
    np.testing.assert_array_equal(dock.session.proposal(("a", 1)).corrections != UNLABELLED, before > 0)
    assert dock.session.state(("a", 1)) is FrameState.CORRECTED and dock.state.tool is ObjectTool.MERGE
    dock.controller.undo()
    np.testing.assert_array_equal(ids(dock), before)
    assert dock.session.state(("a", 1)) is FrameState.PROPOSED
    dock.controller.redo()
    np.testing.assert_array_equal(ids(dock), before > 0)


def test_a_line_over_objects_puts_all_of_them_together(dock: Dock) -> None:
    dock.controller.merge_objects()
    dock.controller.drawn([LEFT, RIGHT])
    assert numbers(ids(dock)) == {1}


def test_a_click_beside_or_twice_on_one_object_puts_nothing_together(dock: Dock) -> None:
    dock.controller.merge_objects()
    for point in (LEFT, LEFT, (22.0, 30.0), RIGHT):
        dock.controller.drawn([point])
        assert numbers(ids(dock)) == {1, 2}
    assert "the one that belongs to it" in dock.state.object_note
    dock.show(("a", 2))
    dock.controller.drawn([LEFT])  # the first click was on another slice
    assert numbers(ids(dock, 2)) == {1, 2}


def test_a_line_across_cuts_an_object_and_the_new_one_has_a_number_of_no_slice(dock: Dock) -> None:
    dock.controller.split_objects()
    dock.controller.drawn(DOWN_THE_LEFT)
    dock.show(("a", 2))
    dock.controller.drawn(DOWN_THE_LEFT)
    assert numbers(ids(dock)) == {1, 2, 3} and numbers(ids(dock, 2)) == {1, 2, 4}
    assert ids(dock)[8, 5] != ids(dock)[8, 10]
    dock.controller.drawn([(0.0, 0.0), (0.0, 30.0)])
    assert "cuts no object" in dock.state.object_note and numbers(ids(dock, 2)) == {1, 2, 4}
    dock.controller.undo()
    dock.controller.undo()
    assert numbers(ids(dock)) == numbers(ids(dock, 2)) == {1, 2}


def test_a_lasso_deletes_what_lies_inside_from_labels_as_well(dock: Dock) -> None:
    dock.controller.delete_objects()
    dock.controller.drawn(ROUND_LEFT)
    assert numbers(ids(dock)) == {2}
    assert not dock.layers.proposed(("a", 1))[:, :14].any()
    dock.runner.finish()
    dock.controller.propose()
    dock.runner.finish()
    assert numbers(ids(dock)) == {2}, "what a person deleted stays away"
    dock.controller.accept()
    assert not dock.session.labels(("a", 1))[:, :14].any()
    dock.controller.undo()
    dock.controller.undo()
    assert numbers(ids(dock)) == {1, 2} and dock.layers.proposed(("a", 1))[8, 6] == 1


@pytest.mark.parametrize("accepted", [False, True])
def test_on_a_slice_that_is_decided_the_tools_teach_it_anew(dock: Dock, accepted: bool) -> None:
    z = 1 if accepted else 0
    if accepted:
        dock.controller.accept()
    dock.show(("a", z))
    before = ids(dock, z)
    dock.controller.delete_objects()
    dock.controller.drawn(ROUND_LEFT)
    shot = next(shot for shot in dock.session.support if shot.key == ("a", z))
    assert numbers(shot.instances) == {2} and not shot.labels[:, :14].any()
    assert not dock.layers.painted(("a", z))[:, :14].any()
    dock.controller.undo()
    np.testing.assert_array_equal(ids(dock, z), before)
    np.testing.assert_array_equal(dock.layers.painted(("a", z)), before > 0)
    dock.controller.redo()
    assert numbers(ids(dock, z)) == {2} and not dock.layers.painted(("a", z))[:, :14].any()


def test_deleting_all_objects_of_a_taught_slice_teaches_that_there_is_nothing(dock: Dock) -> None:
    dock.show(("a", 0))
    dock.controller.delete_objects()
    dock.controller.drawn([(0.0, 0.0), (0.0, 31.0), (23.0, 31.0), (23.0, 0.0)])
    assert not dock.state.error
    (shot,) = dock.session.support
    assert not shot.labels.any() and not dock.layers.painted(("a", 0)).any()
    dock.controller.undo()
    assert numbers(ids(dock, 0)) == {1, 2} and dock.layers.painted(("a", 0)).any()


def test_on_a_slice_that_is_not_taught_yet_they_paint_on_the_layer_of_objects(dock: Dock) -> None:
    dock.controller.reject()
    dock.layers.object_stacks["a"][1] = connected((squares() == 200).astype(np.int32))
    dock.controller.edited()
    dock.controller.merge_objects()
    dock.controller.drawn([LEFT, RIGHT])
    assert numbers(dock.layers.objects(("a", 1))) == {1} and ("a", 1) not in dock.session.support.keys


def test_a_tool_is_put_away_by_its_key_by_another_tool_and_with_the_switch(dock: Dock) -> None:
    dock.controller.merge_objects()
    assert dock.layers.tool_on == "a"
    dock.controller.merge_objects()
    assert dock.layers.tool_on == "" and dock.state.tool is None
    before = ids(dock)
    dock.controller.drawn([LEFT, RIGHT])  # the end of a stroke that was begun before
    np.testing.assert_array_equal(ids(dock), before)
    dock.controller.split_objects()
    dock.controller.put_tool_away()
    assert dock.state.tool is None and not dock.state.object_note
    dock.controller.split_objects()
    dock.controller.separate_objects(False)
    assert dock.layers.tool_on == "" and dock.state.tool is None
    tools: list[Callable[[], None]] = [dock.controller.merge_objects, dock.controller.link_objects]
    assert not {Action.MERGE, Action.SPLIT, Action.DELETE, Action.LINK} & dock.state.enabled
    tools[0]()
    assert "Separate touching objects" in dock.state.error


def test_what_cannot_be_done_is_told(dock: Dock) -> None:
    dock.controller.split_objects()
    dock.controller.drawn([LEFT])
    assert "draw it across an object" in dock.state.error
    dock.controller.delete_objects()
    dock.controller.drawn([LEFT, RIGHT])
    assert "encloses nothing" in dock.state.error
    dock.controller.reject()
    dock.controller.drawn(ROUND_LEFT)
    assert "no objects on 'a [1]'" in dock.state.error


def test_objects_are_linked_through_the_stack_on_request(dock: Dock) -> None:
    dock.layers.object_stacks["a"][1] = np.where(ids(dock) == 1, 9, ids(dock))
    dock.controller.edited()
    assert numbers(ids(dock)) == {9, 2}
    dock.controller.link_objects()
    assert numbers(ids(dock)) == {1, 2} and "through the depth" in dock.state.object_note
    np.testing.assert_array_equal(ids(dock), ids(dock, 0))
    dock.controller.undo()
    assert numbers(ids(dock)) == {9, 2}
    dock.controller.redo()
    dock.controller.link_objects()
    assert dock.state.object_note == "Linked through the depth already."
