from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from napari_fewshot import Frame, LabelClass, PropagationSettings, Session, Shot
from napari_fewshot.boxes import Box
from napari_fewshot.errors import MaskError, SupportError
from napari_fewshot.frames import FrameKey
from napari_fewshot.propagation import FrameFailure
from napari_fewshot.segmenter import SegmenterSettings
from napari_fewshot.session import FrameState, open_session
from napari_fewshot.support import Tag
from tests.fakes import BrightnessSegmenter, proposal

SIZE = 16


def z(number: int) -> FrameKey:
    return ("stack", number)


def bright(key: FrameKey, rows: slice = slice(4, 10)) -> Frame:
    """(16, 16) dark image with some bright rows."""
    image = np.full((SIZE, SIZE), 20, np.uint8)
    image[rows] = 200
    return Frame(key, image)


def truth(frame: Frame) -> np.ndarray:
    return (frame.read() > 100).astype(np.int32)


def taught(frame: Frame) -> Shot:
    return Shot(frame, truth(frame))


@pytest.fixture
def segmenter() -> BrightnessSegmenter:
    return BrightnessSegmenter()


@pytest.fixture
def session(segmenter: BrightnessSegmenter) -> Session:
    """Five slices, the first taught."""
    session = Session(segmenter)
    session.add_frames(bright(z(n), slice(n + 2, n + 8)) for n in range(5))
    session.teach(taught(session.frame(z(0))))
    return session


@pytest.fixture
def proposed(session: Session) -> Session:
    """Five slices, the first taught, the others proposed for."""
    assert len(list(session.propose())) == 4
    return session


def signals(session: Session) -> list[object]:
    """Everything that the session tells from now on: a key, or "support"."""
    heard: list[object] = []
    session.frame_changed.connect(heard.append)
    session.support_changed.connect(lambda support: heard.append("support"))
    return heard


def with_pixel(labels: np.ndarray, value: int, row: int = 0, column: int = 0) -> np.ndarray:
    changed = labels.astype(np.int32)
    changed[row, column] = value
    return changed


# ---------------------------------------------------------------- frames
def test_frames_keep_the_order_in_which_they_came() -> None:
    session = Session()
    session.add_frames([bright("b"), bright("a")])
    session.add_frames([bright("c"), bright("b")])
    assert list(session.frames) == ["b", "a", "c"]
    with pytest.raises(TypeError):
        session.frames["d"] = bright("d")  # type: ignore[index]


def test_what_was_learnt_on_a_removed_frame_is_not_forgotten(proposed: Session) -> None:
    proposed.reject(z(2))
    proposed.remove_frames([z(0), z(1), z(2), "unknown"])
    assert list(proposed.frames) == [z(3), z(4)]
    assert proposed.support.keys == (z(0),)
    assert proposed.proposal(z(1)) is None
    assert proposed.state(z(2)) is FrameState.UNTOUCHED


def test_what_was_proposed_and_decided_on_an_image_is_there_again_with_it(proposed: Session) -> None:
    proposed.reject(z(2))
    proposed.correct(z(3), with_pixel(proposed.proposal(z(3)).labels.astype(np.int32), 1))  # type: ignore[union-attr]
    frames, before = dict(proposed.frames), {key: proposed.state(key) for key in proposed.frames}
    labels = {key: proposed.labels(key, with_proposals=True) for key in frames}
    proposed.remove_frames([z(n) for n in (1, 2, 3)])
    assert proposed.review_queue() == proposed.above(0.0) == [z(4)]
    assert proposed.accept_many([z(1), z(3)]) == [] and proposed.labels(z(1), with_proposals=True) is None
    with pytest.raises(SupportError):
        proposed.accept(z(1))
    proposed.add_frames(frames.values())
    assert {key: proposed.state(key) for key in frames} == before
    for key in frames:
        np.testing.assert_array_equal(proposed.labels(key, with_proposals=True), labels[key])


def test_teaching_on_a_removed_frame_adds_it_again(proposed: Session) -> None:
    frame, scribble = proposed.frame(z(1)), np.full((16, 16), 255)
    scribble[0] = 1
    proposed.remove_frames([z(1)])
    proposed.teach(Shot(frame, scribble))
    assert proposed.state(z(1)) is FrameState.PROPOSED and z(1) in proposed.review_queue()


def test_a_decision_is_taken_back_on_an_image_that_is_away_as_well(proposed: Session) -> None:
    frame, labels = proposed.frame(z(1)), proposed.proposal(z(1)).labels  # type: ignore[union-attr]
    proposed.accept_many([z(1)])
    proposed.remove_frames([z(1)])
    proposed.undo()
    proposed.add_frames([frame])
    assert proposed.state(z(1)) is FrameState.PROPOSED
    np.testing.assert_array_equal(proposed.proposal(z(1)).labels, labels)  # type: ignore[union-attr]


def test_an_image_of_another_size_drops_what_was_proposed_corrected_and_accepted_on_the_old_one(
    proposed: Session,
) -> None:
    labels = proposed.proposal(z(1)).labels.astype(np.int32)  # type: ignore[union-attr]
    proposed.correct(z(1), with_pixel(labels, 1))
    proposed.accept(z(2))
    heard = signals(proposed)
    larger = np.full((SIZE + 4, SIZE), 20, np.uint8)
    proposed.add_frames([Frame(z(n), larger) for n in (0, 1, 2)])
    assert [proposed.state(z(n)) for n in (1, 2, 3)] == [
        FrameState.UNTOUCHED,
        FrameState.TAUGHT,
        FrameState.PROPOSED,
    ]
    assert proposed.proposal(z(1)) is None and proposed.labels(z(2)) is None and proposed.labels(z(0)) is None
    assert set(heard) == {z(1), z(2)}
    assert proposed.support.keys == (z(0), z(2)), "what was learnt is not forgotten"
    proposed.undo()
    assert proposed.proposal(z(1)) is None and proposed.proposal(z(2)) is None


def test_the_same_image_once_more_drops_nothing(proposed: Session) -> None:
    proposed.add_frames([bright(z(1))])
    assert proposed.state(z(1)) is FrameState.PROPOSED


# ---------------------------------------------------------------- the segmenter
def test_a_segmenter_is_loaded_once_for_its_settings_by_whoever_asks_first() -> None:
    loaded: list[SegmenterSettings] = []
    session = Session(load=lambda settings: (loaded.append(settings), BrightnessSegmenter())[1])
    assert not loaded
    with ThreadPoolExecutor(4) as threads:
        segmenters = {id(segmenter) for segmenter in threads.map(lambda _: session.segmenter(), range(8))}
    assert len(segmenters) == 1 and loaded == [SegmenterSettings()]
    session.use(SegmenterSettings(method="panet"))
    session.segmenter()
    assert [settings.method for settings in loaded] == ["auto", "panet"]


# ---------------------------------------------------------------- teaching
def test_teaching_the_same_frame_twice_keeps_the_last_mask(session: Session) -> None:
    session.teach(Shot(session.frame(z(0)), np.full((SIZE, SIZE), 2)))
    assert len(session.support) == 1
    assert session.support.class_ids == (2,)


def test_teaching_on_an_unknown_frame_adds_it() -> None:
    session = Session()
    session.teach(taught(bright("new")))
    assert list(session.frames) == ["new"]
    assert session.state("new") is FrameState.TAUGHT


def test_teaching_tells_that_the_support_and_the_frame_changed(session: Session) -> None:
    heard = signals(session)
    session.teach(taught(session.frame(z(1))))
    assert heard == ["support", z(1)]


def test_an_unpainted_scribble_teaches_nothing_and_is_said_so(session: Session) -> None:
    session_before = session.support
    with pytest.raises(SupportError, match=r"nothing is painted on 'stack \[1\]'; paint something there first"):
        session.teach(Shot(session.frame(z(1)), np.full((SIZE, SIZE), 255)))
    assert session.support is session_before


def test_a_dense_shot_ends_the_open_proposal_of_its_frame_and_a_partial_one_does_not(proposed: Session) -> None:
    strokes = np.full((SIZE, SIZE), 255)
    strokes[0] = 1
    proposed.teach(Shot(proposed.frame(z(1)), strokes))
    proposed.teach(taught(proposed.frame(z(2))))
    assert proposed.state(z(1)) is FrameState.PROPOSED
    assert proposed.state(z(2)) is FrameState.TAUGHT


def test_teaching_on_an_accepted_frame_reopens_the_decision(proposed: Session) -> None:
    proposed.accept(z(1))
    proposed.teach(Shot(proposed.frame(z(1)), np.ones((SIZE, SIZE), int)))
    assert proposed.state(z(1)) is FrameState.TAUGHT
    labels = proposed.labels(z(1))
    assert labels is not None
    assert labels.all()


def test_a_forgotten_shot_is_learnt_from_no_more(session: Session) -> None:
    session.forget(z(0))
    assert len(session.support) == 0
    assert session.state(z(0)) is FrameState.UNTOUCHED
    with pytest.raises(SupportError, match="nothing has been taught yet"):
        session.start_run()


def test_forgetting_what_was_never_taught_changes_nothing(session: Session) -> None:
    heard = signals(session)
    session.forget(z(3))
    assert heard == []
    assert session.undo() == [z(0)]  # the teaching, not the forgetting


def test_labels_of_a_partial_shot_show_unknown_pixels_as_background(session: Session) -> None:
    strokes = np.full((SIZE, SIZE), 255)
    strokes[0, 0] = 3
    session.teach(Shot(session.frame(z(1)), strokes))
    labels = session.labels(z(1))
    assert labels is not None
    np.testing.assert_array_equal(labels, with_pixel(np.zeros((SIZE, SIZE)), 3))
    assert session.labels(z(2)) is None


# ---------------------------------------------------------------- classes
def test_classes_get_names_and_colours(session: Session) -> None:
    heard = signals(session)
    session.set_classes([LabelClass(2, "cell"), LabelClass(1, "nucleus", "#123456")])
    assert session.classes == (LabelClass(1, "nucleus", "#123456"), LabelClass(2, "cell"))
    assert heard == ["support"]


def test_a_painted_class_cannot_be_left_out(session: Session) -> None:
    session.set_classes([LabelClass(1, "nucleus")])
    with pytest.raises(MaskError, match="'nucleus' is painted on a taught image; erase it there and teach"):
        session.set_classes([LabelClass(2, "cell")])
    assert [c.name for c in session.classes] == ["nucleus"]


def test_undo_does_not_take_back_the_names_of_classes(session: Session) -> None:
    session.set_classes([LabelClass(1, "nucleus"), LabelClass(2, "cell")])
    session.undo()
    assert [c.name for c in session.classes] == ["nucleus", "cell"]


# ---------------------------------------------------------------- proposing
def test_every_open_frame_gets_a_proposal(session: Session, segmenter: BrightnessSegmenter) -> None:
    keys = [p.key for p in session.propose()]
    assert keys == [z(1), z(2), z(3), z(4)]
    for key in keys:
        waiting = session.proposal(key)
        assert waiting is not None
        np.testing.assert_array_equal(waiting.labels, truth(session.frame(key)))
        assert session.state(key) is FrameState.PROPOSED
        assert session.labels(key) is None
        np.testing.assert_array_equal(session.labels(key, with_proposals=True), waiting.labels)
    assert len(segmenter.learnt) == 1


def test_nothing_taught_is_said_before_anything_runs() -> None:
    session = Session(BrightnessSegmenter())
    session.add_frames([bright("a")])
    with pytest.raises(SupportError, match="nothing has been taught yet"):
        session.start_run()
    assert session.generation == 0


def test_the_frame_somebody_looks_at_comes_first_then_its_neighbours_then_the_others(session: Session) -> None:
    session.add_frames([bright("single"), bright(("movie", 0, 3)), bright(("movie", 1, 5)), bright(("movie", 0, 4))])
    in_stack = [frame.key for frame in session.start_run(z(3)).frames]
    assert in_stack[:4] == [z(3), z(2), z(4), z(1)]
    assert in_stack[4:] == ["single", ("movie", 0, 3), ("movie", 1, 5), ("movie", 0, 4)]
    in_movie = [frame.key for frame in session.start_run(("movie", 0, 4)).frames]
    assert in_movie[:3] == [("movie", 0, 4), ("movie", 0, 3), ("movie", 1, 5)]
    assert session.start_run("single").frames[0].key == "single"
    assert [frame.key for frame in session.start_run().frames][:2] == [z(1), z(2)]


def test_decided_frames_are_left_out_and_rejected_ones_tried_again_unless_told_otherwise(proposed: Session) -> None:
    proposed.accept(z(1))
    proposed.reject(z(2))
    assert [f.key for f in proposed.start_run().frames] == [z(2), z(3), z(4)]
    assert [f.key for f in proposed.start_run(again=False).frames] == [z(3), z(4)]


def test_a_partly_labelled_frame_is_proposed_for_and_keeps_the_human_pixels(session: Session) -> None:
    strokes = np.full((SIZE, SIZE), 255)
    strokes[0, 0] = 1
    session.teach(Shot(session.frame(z(1)), strokes))
    list(session.propose())
    waiting = session.proposal(z(1))
    assert waiting is not None
    np.testing.assert_array_equal(waiting.labels, with_pixel(truth(session.frame(z(1))), 1))
    assert session.state(z(1)) is FrameState.PROPOSED


def test_a_run_keeps_what_it_began_with_while_teaching_goes_on(session: Session) -> None:
    run = session.start_run()
    session.teach(Shot(session.frame(z(4)), np.full((SIZE, SIZE), 7)))
    assert all(p.class_ids == (1,) for p in run.proposals())


def test_results_of_an_overtaken_run_are_dropped(session: Session) -> None:
    old = session.start_run()
    late = next(old.proposals())
    new = session.start_run()
    assert not session.record(old, late)
    assert session.proposal(late.key) is None
    assert session.record(new, next(new.proposals()))


def test_a_consumer_of_an_overtaken_run_is_told_to_stop(session: Session) -> None:
    proposals = session.propose()
    next(proposals)
    session.start_run()
    assert list(proposals) == []


def test_giving_up_in_the_middle_of_a_frame_keeps_what_is_there(
    session: Session, segmenter: BrightnessSegmenter
) -> None:
    segmenter.tiles = 4

    def give_up(key: object, done: int, total: int) -> None:
        if (key, done) == (z(2), 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(session.propose(z(1), progress=give_up))
    assert [session.state(z(n)) for n in (1, 2)] == [FrameState.PROPOSED, FrameState.UNTOUCHED]
    assert len(list(session.propose(z(1)))) == 4


def test_a_result_for_a_frame_that_was_removed_or_decided_meanwhile_is_dropped(proposed: Session) -> None:
    run = proposed.start_run()
    late = {p.key: p for p in run.proposals()}
    proposed.accept(z(1))
    proposed.teach(taught(proposed.frame(z(2))))
    proposed.reject(z(3))
    proposed.remove_frames([z(4)])
    heard = signals(proposed)
    assert [proposed.record(run, late[z(n)]) for n in (1, 2, 3, 4)] == [False] * 4
    assert [proposed.state(z(n)) for n in (1, 2, 3)] == [FrameState.ACCEPTED, FrameState.TAUGHT, FrameState.REJECTED]
    assert heard == []


def test_a_rejected_frame_that_is_tried_again_is_open_again(proposed: Session) -> None:
    proposed.reject(z(1))
    list(proposed.propose())
    assert proposed.state(z(1)) is FrameState.PROPOSED


def test_frames_that_cannot_be_used_are_reported_and_the_rest_is_proposed_for(session: Session) -> None:
    session.add_frames([Frame("tiny", np.zeros((2, 2)))])
    failures: list[FrameFailure] = []
    assert len(list(session.propose("tiny", on_failure=failures.append))) == 4
    assert [f.key for f in failures] == ["tiny"]


def test_the_settings_of_the_session_hold_for_its_proposals(segmenter: BrightnessSegmenter) -> None:
    session = Session(segmenter, propagation=PropagationSettings(min_area=1000))
    session.add_frames([bright("b")])
    session.teach(taught(bright("a")))
    (one,) = session.propose()
    assert not one.labels.any()


def test_another_method_is_loaded_only_when_it_is_needed(segmenter: BrightnessSegmenter) -> None:
    session = Session(segmenter)
    session.use(SegmenterSettings())
    session.teach(taught(bright("a")))
    assert session.start_run().segmenter() is segmenter  # nothing else was asked for
    session.use(SegmenterSettings(method="panet"))
    assert session.settings.method == "panet"


# ---------------------------------------------------------------- reviewing
@pytest.fixture
def scored(session: Session) -> Session:
    run = session.start_run()
    for number, score in ((1, 0.9), (2, 0.3), (3, 0.7), (4, 0.7)):
        session.record(run, proposal(z(number), truth(session.frame(z(number))), score))
    return session


def test_the_frame_most_in_need_of_a_look_comes_first(scored: Session) -> None:
    assert scored.review_queue() == [z(2), z(3), z(4), z(1)]
    assert scored.next_to_review() == z(2)
    assert scored.next_to_review(after=z(2)) == z(3)
    assert scored.next_to_review(after="elsewhere") == z(2)


def test_the_only_open_frame_is_next_even_after_itself(scored: Session) -> None:
    scored.remove_frames([z(1), z(3), z(4)])
    assert scored.next_to_review(after=z(2)) == z(2)
    scored.reject(z(2))
    assert scored.next_to_review() is None


def test_many_are_accepted_or_rejected_in_one_step_of_undo(scored: Session) -> None:
    assert scored.accept_many([z(0), z(2), z(4), z(2)]) == [z(2), z(4)], "the others have no open proposal"
    assert scored.reject_many([z(1), z(2), z(3)]) == [z(1), z(3)]
    assert [scored.state(z(i)) for i in (1, 2, 3, 4)] == [
        FrameState.REJECTED,
        FrameState.ACCEPTED,
        FrameState.REJECTED,
        FrameState.ACCEPTED,
    ]
    assert len(scored.support) == 1, "nobody has looked at each of them"
    assert scored.undo() == [z(1), z(3)]
    assert scored.undo() == [z(2), z(4)]
    assert scored.review_queue() == [z(2), z(3), z(4), z(1)]


def test_deciding_on_nothing_leaves_nothing_to_undo(scored: Session) -> None:
    scored.undo()
    assert not scored.can_undo
    assert scored.accept_many([z(0), "elsewhere"]) == scored.reject_many([z(0)]) == []
    assert not scored.can_undo and scored.can_redo


def test_frames_above_a_score_include_those_that_reach_it_exactly(scored: Session) -> None:
    assert scored.above(0.7) == [z(1), z(3), z(4)]
    assert scored.above(0.95) == []


# ---------------------------------------------------------------- correcting
def test_corrected_pixels_survive_the_next_run(proposed: Session) -> None:
    waiting = proposed.proposal(z(1))
    assert waiting is not None
    proposed.correct(z(1), with_pixel(waiting.labels, 1))
    assert proposed.state(z(1)) is FrameState.CORRECTED
    proposed.teach(taught(proposed.frame(z(4))))
    list(proposed.propose())
    again = proposed.proposal(z(1))
    assert again is not None
    assert again.generation == 2
    np.testing.assert_array_equal(again.labels, with_pixel(truth(proposed.frame(z(1))), 1))
    assert proposed.state(z(1)) is FrameState.CORRECTED


def test_corrections_add_up_and_the_last_one_of_a_pixel_counts(proposed: Session) -> None:
    for value, row in ((1, 0), (1, 1), (0, 0)):
        waiting = proposed.proposal(z(1))
        assert waiting is not None
        proposed.correct(z(1), with_pixel(waiting.labels, value, row))
    waiting = proposed.proposal(z(1))
    assert waiting is not None
    assert waiting.corrections is not None
    assert waiting.corrections[:3, 0].tolist() == [0, 1, 255]
    assert waiting.labels[:2, 0].tolist() == [0, 1]


def test_a_correction_that_changes_nothing_is_none(proposed: Session) -> None:
    waiting = proposed.proposal(z(1))
    assert waiting is not None
    heard = signals(proposed)
    proposed.correct(z(1), waiting.labels.astype(np.int32))
    assert heard == []
    assert proposed.state(z(1)) is FrameState.PROPOSED


def test_what_is_painted_and_taught_after_a_correction_goes_over_it(proposed: Session) -> None:
    waiting = proposed.proposal(z(1))
    assert waiting is not None
    proposed.correct(z(1), with_pixel(waiting.labels, 1))
    strokes = with_pixel(np.full((SIZE, SIZE), 255), 2)
    proposed.teach(Shot(proposed.frame(z(1)), strokes))
    for _ in range(2):
        waiting = proposed.proposal(z(1))
        assert waiting is not None
        assert waiting.labels[0, 0] == 2
        list(proposed.propose())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((SIZE, SIZE + 1), int), r"\(16, 17\) but 'stack \[1\]' is \(16, 16\)"),
        (np.full((SIZE, SIZE), 256), "holds values from 256 to 256"),
        (np.zeros((SIZE, SIZE)), "values of type float64"),
    ],
)
@pytest.mark.parametrize("decide", [Session.correct, Session.accept])
def test_labels_that_do_not_fit_the_frame_are_refused_and_nothing_is_lost(
    proposed: Session, decide: Callable[[Session, FrameKey, np.ndarray], object], labels: np.ndarray, message: str
) -> None:
    waiting = proposed.proposal(z(1))
    with pytest.raises(MaskError, match=message):
        decide(proposed, z(1), labels)
    assert proposed.proposal(z(1)) is waiting
    assert proposed.undo() == [z(0)]


def test_labels_are_checked_against_the_proposal_where_the_image_has_not_told_its_size(session: Session) -> None:
    pixels = session.frame(z(1)).read()
    session.add_frames([Frame("lazy", lambda: pixels)])
    list(session.propose())
    with pytest.raises(MaskError, match=r"\(4, 4\) but 'lazy' is \(16, 16\)"):
        session.accept("lazy", np.zeros((4, 4), np.int32))


# ---------------------------------------------------------------- deciding
@pytest.mark.parametrize(
    "decide",
    [
        lambda session: session.accept(z(1)),
        lambda session: session.reject(z(1)),
        lambda session: session.correct(z(1), np.zeros((SIZE, SIZE), int)),
    ],
)
def test_there_must_be_a_proposal_to_decide_on(session: Session, decide: Callable[[Session], object]) -> None:
    with pytest.raises(SupportError, match=r"there is no open proposal for 'stack \[1\]'; press Propose first"):
        decide(session)


def test_an_accepted_proposal_becomes_a_shot(proposed: Session) -> None:
    heard = signals(proposed)
    accepted = proposed.accept(z(1))
    assert accepted.dtype == np.int32
    np.testing.assert_array_equal(accepted, truth(proposed.frame(z(1))))
    np.testing.assert_array_equal(proposed.labels(z(1)), accepted)
    assert proposed.support.keys == (z(0), z(1))
    assert proposed.state(z(1)) is FrameState.ACCEPTED
    assert proposed.proposal(z(1)) is None
    assert heard == ["support", z(1)]


def test_what_is_accepted_is_what_was_corrected(proposed: Session) -> None:
    waiting = proposed.proposal(z(1))
    assert waiting is not None
    corrected = with_pixel(waiting.labels, 1)
    proposed.correct(z(1), corrected)
    np.testing.assert_array_equal(proposed.accept(z(1)), corrected)


def test_other_labels_can_be_accepted_in_place_of_the_proposal(proposed: Session) -> None:
    other = np.full((SIZE, SIZE), 2)
    np.testing.assert_array_equal(proposed.accept(z(1), other), other)
    assert proposed.support.class_ids == (1, 2)


def test_accepting_all_above_a_score_decides_but_does_not_teach(scored: Session) -> None:
    support = scored.support
    heard = signals(scored)
    assert scored.accept_above(0.7) == [z(1), z(3), z(4)]
    assert scored.support is support
    assert heard == [z(1), z(3), z(4)]
    assert [scored.state(z(n)) for n in range(1, 5)] == [
        FrameState.ACCEPTED,
        FrameState.PROPOSED,
        FrameState.ACCEPTED,
        FrameState.ACCEPTED,
    ]
    np.testing.assert_array_equal(scored.labels(z(3)), truth(scored.frame(z(3))))
    assert [f.key for f in scored.start_run().frames] == [z(2)]


def test_what_is_accepted_as_proposed_takes_a_byte_for_each_pixel(scored: Session, tmp_path: Path) -> None:
    waiting = {key: scored.proposal(key).labels for key in scored.above(0.0)}
    scored.accept_above(0.0)
    scored.save(tmp_path / "session")
    opened = open_session(tmp_path / "session")
    for session in (scored, opened):
        accepted = session.snapshot().state.accepted
        assert accepted.keys() == waiting.keys()
        for key, labels in accepted.items():
            assert labels.nbytes == labels.size and np.array_equal(labels, waiting[key])
            assert session.labels(key).dtype == np.int32


def test_accepting_all_above_a_score_that_none_reaches_is_no_step_to_undo(scored: Session) -> None:
    assert scored.accept_above(0.99) == []
    assert scored.undo() == [z(0)]  # the teaching


def test_a_rejected_proposal_is_gone(proposed: Session) -> None:
    heard = signals(proposed)
    proposed.reject(z(1))
    assert proposed.state(z(1)) is FrameState.REJECTED
    assert proposed.proposal(z(1)) is None
    assert proposed.labels(z(1), with_proposals=True) is None
    assert heard == [z(1)]


# ---------------------------------------------------------------- undo
def test_with_nothing_done_there_is_nothing_to_undo() -> None:
    session = Session()
    assert not session.can_undo
    assert session.undo() == []


def test_undo_takes_back_one_step_after_the_other(proposed: Session) -> None:
    proposed.accept(z(1))
    proposed.reject(z(2))
    assert proposed.accept_above(0) == [z(3), z(4)]
    assert proposed.undo() == [z(3), z(4)]
    assert proposed.undo() == [z(2)]
    assert proposed.undo() == [z(1)]
    assert [proposed.state(z(n)) for n in range(1, 5)] == [FrameState.PROPOSED] * 4
    assert proposed.support.keys == (z(0),)
    assert proposed.undo() == [z(0)]
    assert len(proposed.support) == 0
    assert not proposed.can_undo


def test_undoing_an_acceptance_brings_the_corrected_proposal_back(proposed: Session) -> None:
    corrected = with_pixel(truth(proposed.frame(z(1))), 1)
    proposed.correct(z(1), corrected)
    proposed.accept(z(1))
    proposed.undo()
    waiting = proposed.proposal(z(1))
    assert waiting is not None
    np.testing.assert_array_equal(waiting.labels, corrected)
    assert proposed.state(z(1)) is FrameState.CORRECTED


def test_undo_keeps_newer_proposals_and_corrections_of_other_frames(proposed: Session) -> None:
    proposed.accept(z(1))
    list(proposed.propose())
    waiting = proposed.proposal(z(2))
    assert waiting is not None
    proposed.correct(z(2), with_pixel(waiting.labels, 1))
    assert proposed.undo() == [z(1)]
    kept = proposed.proposal(z(2))
    assert kept is not None
    assert kept.generation == 2
    assert kept.labels[0, 0] == 1


def test_undoing_a_forgotten_shot_brings_it_back(session: Session) -> None:
    shot = session.support.shots[0]
    session.forget(z(0))
    assert session.undo() == [z(0)]
    assert session.support.shots == (shot,)


def test_undo_overtakes_a_running_propagation(proposed: Session) -> None:
    run = proposed.start_run()
    late = next(run.proposals())
    proposed.teach(taught(proposed.frame(z(4))))
    proposed.undo()
    assert not proposed.record(run, late)


def test_undo_tells_what_changed(proposed: Session) -> None:
    proposed.accept(z(1))
    heard = signals(proposed)
    proposed.undo()
    assert heard == ["support", z(1)]


def test_undo_reaches_a_hundred_steps_back(session: Session) -> None:
    for _ in range(150):
        session.teach(taught(session.frame(z(0))))
    steps = 0
    while session.can_undo:
        session.undo()
        steps += 1
    assert steps == 100


# ---------------------------------------------------------------- tags
def tag(session: Session, number: int, *class_ids: int) -> Tag:
    return Tag(session.frame(z(number)), class_ids)


def test_a_tag_is_kept_handed_to_runs_and_changes_no_state(session: Session, segmenter: BrightnessSegmenter) -> None:
    session.tag(tag(session, 2, 1))
    assert session.state(z(2)) is FrameState.UNTOUCHED
    keys = {p.key for p in session.propose()}
    assert z(2) in keys
    assert [t.key for t in segmenter.learnt[-1].tags] == [z(2)]


def test_tagging_again_replaces_and_the_same_tag_is_no_step_of_undo(session: Session) -> None:
    session.tag(tag(session, 2, 1))
    session.tag(tag(session, 2, 1, 4))
    heard = signals(session)
    session.tag(tag(session, 2, 4, 1))
    session.untag(z(3))
    assert heard == []
    assert session.support.tag(z(2)).class_ids == (1, 4)  # type: ignore[union-attr]
    assert [c.id for c in session.classes] == [1, 4]


def test_tagging_and_untagging_are_told_and_undone(session: Session) -> None:
    heard = signals(session)
    session.tag(tag(session, 2, 1))
    session.untag(z(2))
    assert heard == ["support", z(2)] * 2
    assert session.undo() == [z(2)] and session.support.tag(z(2)) is not None
    assert session.undo() == [z(2)] and session.support.tag(z(2)) is None
    assert session.support.keys == (z(0),), "what was taught before stays"


def test_a_taught_frame_cannot_be_tagged_and_teaching_takes_the_tag(session: Session) -> None:
    with pytest.raises(SupportError, match="is taught already, which says more"):
        session.tag(tag(session, 0, 1))
    session.tag(tag(session, 2, 1))
    session.teach(taught(session.frame(z(2))))
    assert not session.support.tags
    session.undo()
    assert session.support.tag(z(2)) is not None
    session.forget(z(0))
    assert session.support.tag(z(2)) is not None


def test_accepting_takes_the_tag_and_undo_brings_it_back(proposed: Session) -> None:
    proposed.tag(tag(proposed, 2, 1))
    proposed.accept(z(2))
    assert not proposed.support.tags
    proposed.undo()
    assert proposed.support.tag(z(2)) is not None


def test_a_class_that_a_tag_names_cannot_be_left_out(session: Session) -> None:
    session.tag(tag(session, 2, 5))
    with pytest.raises(MaskError, match=r"'stack \[2\]' is said to contain that class; take its tag away first"):
        session.set_classes([LabelClass(1)])
    session.untag(z(2))
    session.set_classes([LabelClass(1)])
    assert [c.id for c in session.classes] == [1]


# ---------------------------------------------------------------- boxes
def test_a_proposal_for_a_boxed_frame_may_know_better_inside_of_a_box_but_not_outside(session: Session) -> None:
    """The thing is a band of rows 5 to 10: the box lies across it and shows only a part."""
    frame = session.frame(z(3))
    session.teach(Shot.boxed(frame, [Box(3, 4, 13, 12)]))
    list(session.propose())
    proposed = session.proposal(z(3)).labels  # type: ignore[union-attr]
    expected = truth(frame)
    expected[:, :4] = expected[:, 12:] = 0
    np.testing.assert_array_equal(proposed, expected)
    np.testing.assert_array_equal(session.labels(z(3), with_proposals=True), expected)
    decided = session.labels(z(3))
    assert decided is not None and decided[8, 8] == 1
    session.teach(Shot.boxed(frame, [Box(3, 4, 13, 10)]))
    expected[:, 10:] = 0
    np.testing.assert_array_equal(session.proposal(z(3)).labels, expected)  # type: ignore[union-attr]
