"""What a session is made of, each part by itself."""

import threading

import numpy as np
import pytest

from napari_fewshot.frames import Frame, FrameKey, Instances
from napari_fewshot.propagation import PropagationSettings
from napari_fewshot.segmenter import SegmenterSettings
from napari_fewshot.session.frame_list import FrameList
from napari_fewshot.session.history import History
from napari_fewshot.session.loading import LoadedSegmenter
from napari_fewshot.session.object_numbers import ObjectNumbers
from napari_fewshot.session.run import Run
from napari_fewshot.session.state import SessionState
from napari_fewshot.support import LabelClass, Shot, SupportSet
from tests.fakes import BrightnessSegmenter

SIZE = 16, 16


def frame(key: FrameKey) -> Frame:
    return Frame(key, np.zeros(SIZE, np.uint8))


def stack(name: str, count: int) -> list[Frame]:
    return Frame.of_stack(name, np.zeros((count, *SIZE), np.uint8))


# ---------------------------------------------------------------------------- frames
@pytest.fixture
def frames() -> FrameList:
    frames = FrameList()
    for each in (*stack("a", 3), *stack("b", 2)):
        frames.add(each)
    return frames


def test_a_frame_in_the_place_of_another_keeps_its_place_in_the_order(frames: FrameList) -> None:
    other = frame(("a", 1))
    assert frames.add(other) and not frames.add(other)
    assert list(frames.listed) == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]
    assert frames.listed["a", 1] is other
    frames.add_missing(frame(("a", 1)))
    assert frames.listed["a", 1] is other


def test_removed_frames_are_kept_with_all_of_their_image_if_anything_was_said_on_one(frames: FrameList) -> None:
    frames.remove(list(frames.listed), said={("b", 1)})
    assert not frames.listed and list(frames.absent) == [("b", 0), ("b", 1)]
    assert list(frames.everything()) == [("b", 0), ("b", 1)]
    frames.add(frame(("b", 1)))
    assert list(frames.listed) == [("b", 1)] and list(frames.absent) == [("b", 0)]


def test_removing_what_is_not_there_and_all_that_is_there(frames: FrameList) -> None:
    frames.remove(["nothing", ("a", 0), ("a", 0)], said=())
    assert ("a", 0) not in frames.listed and len(frames.listed) == 4
    frames.remove(frames.listed, said=())
    assert not frames.everything()


# ---------------------------------------------------------------------------- undo
def named(name: str) -> SessionState:
    return SessionState(SupportSet((), [LabelClass(1, name)]))


def name_of(history: History) -> str:
    return history.now.support.classes[0].name


def test_undo_and_redo_go_back_and_forth() -> None:
    history = History(named("a"))
    assert not history.undo({}) and not history.redo({})
    for name in "bc":
        history.remember()
        history.now = named(name)
    assert history.undo({}) and name_of(history) == "b"
    assert history.undo({}) and name_of(history) == "a"
    assert not history.can_undo and history.redo({}) and name_of(history) == "b"
    history.remember()
    assert not history.can_redo and history.can_undo


def test_all_states_but_the_one_of_now_can_be_changed() -> None:
    history = History(named("a"))
    history.remember()
    history.now = named("b")
    history.change_others(lambda state: named("other"))
    assert name_of(history) == "b" and history.undo({}) and name_of(history) == "other"
    history.restart(named("new"))
    assert not history.can_undo and not history.can_redo


# ---------------------------------------------------------------------------- the segmenter
def test_two_threads_that_need_a_segmenter_get_the_same_one_loaded_once() -> None:
    loads: list[SegmenterSettings] = []
    begun, goes_on = threading.Event(), threading.Event()

    def load(settings: SegmenterSettings) -> BrightnessSegmenter:
        loads.append(settings)
        begun.set()
        assert goes_on.wait(10)
        return BrightnessSegmenter()

    loaded, got = LoadedSegmenter(SegmenterSettings(), load), []
    threads = [threading.Thread(target=lambda: got.append(loaded.get())) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    goes_on.set()
    for thread in threads:
        thread.join(10)
    assert len(got) == 2 and got[0] is got[1] and len(loads) == 1


def test_weights_are_told_only_with_the_settings_that_they_were_used_with() -> None:
    segmenter, first, second = BrightnessSegmenter(), SegmenterSettings("ridge"), SegmenterSettings("knn")
    segmenter.weights = {"backbone": "abc"}  # type: ignore[attr-defined]
    loaded = LoadedSegmenter(first, lambda settings: segmenter)
    assert loaded.weights == {}
    loaded.get()
    assert loaded.weights == {"backbone": "abc"}
    loaded.settings = second
    assert loaded.weights == {}
    loaded.restore(second, {"head": "d"})
    assert loaded.weights == {"head": "d"}


# ---------------------------------------------------------------------------- numbers of objects
def square(number: int, column: int) -> Instances:
    ids = np.zeros(SIZE, np.int32)
    ids[4:10, column : column + 6] = number
    return ids


def test_linked_objects_have_one_number_and_none_is_given_again() -> None:
    frames, numbers = stack("a", 3), ObjectNumbers()
    objects = {("a", 0): square(5, 2), ("a", 1): square(9, 3), ("a", 2): None}
    assert numbers.free("a") == 0
    news = numbers.link("a", frames, lambda key: objects[key], "Z")
    linked = {key: news.get(key, ids) for key, ids in objects.items() if ids is not None}
    first, second = (set(np.unique(ids)) - {0} for ids in linked.values())
    assert first == second
    free = numbers.free("a")
    assert free > max(first)
    numbers.note(("a", 2), square(free + 3, 2))
    numbers.note(("b", 0), square(99, 2))  # is not linked
    assert numbers.free("a") == free + 4 and numbers.free("b") == 0


# ---------------------------------------------------------------------------- runs
def test_a_run_asks_no_more_about_what_was_decided_since_it_began() -> None:
    labels = np.ones(SIZE, np.int32)
    partial = labels.copy()
    partial[0] = 255
    shots = [Shot(frame("dense"), labels), Shot(frame("partial"), partial)]
    state = SessionState(
        SupportSet(shots), accepted={"accepted": labels}, rejected=frozenset({"rejected", "rejected before"})
    )
    settings = PropagationSettings()
    run = Run(1, state.support, (), settings, BrightnessSegmenter, frozenset({"rejected before"}))
    keys = ["open", "dense", "partial", "accepted", "rejected", "rejected before"]
    asked = [key for key in keys if run.is_still_asked_about(key, state)]
    assert asked == ["open", "partial", "rejected before"]
