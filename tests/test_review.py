"""The table of frames without a window: how frames stand, what comes next, and how fast it is for many."""

import time
from typing import Any

import numpy as np
import pytest

from napari_fewshot.frames import Frame
from napari_fewshot.session import FrameState, Session
from napari_fewshot.support import LabelClass, Shot, Tag
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.jobs import seen
from napari_fewshot.ui.review import Review, expected_gain
from napari_fewshot.ui.state import ImageChoice, Order, ReviewRow, Standing
from tests.fakes import BrightnessSegmenter, proposal
from tests.test_controller import SIZE, Dock, FakeRunner, picture, truth


@pytest.fixture
def dock() -> Dock:
    return Dock(a=np.stack([picture(z) for z in range(4)]), b=np.stack([picture(z + 5) for z in range(2)]))


def rows(dock: Dock) -> dict[Any, ReviewRow]:
    return {row.key: row for row in dock.state.review.rows}


def standings(dock: Dock) -> str:
    """The initials of how frames stand, in their order."""
    return "".join(row.standing.value[0] for row in dock.state.review.rows)


def score_of(dock: Dock, key: Any, score: float) -> None:
    """Let the proposal of a frame have this score."""
    run = dock.session.start_run()
    dock.session.record(run, proposal(key, truth(key[1]), score))
    dock.controller.edited()


def test_every_frame_has_a_row_that_tells_how_it_stands(dock: Dock) -> None:
    assert standings(dock) == "uuuuuu"
    dock.propose_all()
    row = rows(dock)["a", 0]
    assert (row.standing, row.score, row.class_ids, row.pixels) == (Standing.TAUGHT, None, (1,), 100)
    assert row.area == 100 / (SIZE[0] * SIZE[1])
    assert standings(dock) == "tppppp" and rows(dock)["b", 1].score == dock.session.proposal(("b", 1)).score
    dock.show(("a", 1))
    dock.layers.proposal_stacks["a"][1, :3, :3] = 1
    dock.controller.edited()
    assert rows(dock)["a", 1].standing is Standing.CORRECTED and rows(dock)["a", 1].pixels == 109
    dock.controller.accept()
    dock.runner.finish()
    dock.show(("a", 2))
    dock.controller.reject()
    assert standings(dock) == "tarppp" and rows(dock)["a", 2].score is None
    dock.controller.undo()
    dock.controller.undo()
    assert standings(dock)[2] == "p" and rows(dock)["a", 1].score is not None


def test_nothing_here_is_said_so(dock: Dock) -> None:
    dock.controller.nothing_here()
    assert rows(dock)["a", 0].standing is Standing.NOTHING_HERE
    dock.paint(("a", 0), truth(0))
    dock.controller.teach()
    assert rows(dock)["a", 0].standing is Standing.TAUGHT


def test_tags_are_in_the_table(dock: Dock) -> None:
    dock.controller.say_contains(1, True)
    assert rows(dock)["a", 0].contains == (1,)
    dock.controller.undo()
    assert rows(dock)["a", 0].contains == ()


def test_only_rows_that_changed_are_other_objects(dock: Dock) -> None:
    dock.propose_all()
    dock.show(("a", 3))
    before = rows(dock)
    dock.controller.reject()
    after = rows(dock)
    assert {key for key in after if after[key] is not before[key]} == {("a", 3)}


def test_rows_follow_images_that_come_go_and_are_renamed(dock: Dock) -> None:
    dock.layers.names["b"] = "other"
    dock.controller.layers_changed()
    assert rows(dock)["b", 0].name == "other [0]"
    dock.controller.choose_image("a", False)
    assert list(rows(dock)) == [("b", 0), ("b", 1)] and rows(dock)["b", 1].place == 1
    dock.controller.choose_image("a", True)
    assert len(rows(dock)) == 6


# ---------------------------------------------------------------- order
def test_the_gain_is_what_may_be_wrong_and_more_of_it_on_an_unlike_frame() -> None:
    assert expected_gain(1.0, 1.0) == 0.0
    assert expected_gain(0.9, 1.0) < expected_gain(0.5, 1.0) < expected_gain(0.5, 0.5) < expected_gain(0.0, 1.0) == 1.0


def test_of_equally_sure_proposals_the_one_on_an_unlike_image_comes_first(dock: Dock) -> None:
    dock.layers.stacks["b"][0] = picture(5) // 2 + np.random.default_rng(0).integers(0, 60, SIZE, np.uint8)
    dock.propose_all()
    for key in list(rows(dock))[1:]:
        score_of(dock, key, 0.8)
    gains = {key: row.gain for key, row in rows(dock).items()}
    assert max((gain, key) for key, gain in gains.items() if gain is not None)[1] == ("b", 0)
    assert gains["a", 0] is None, "what is taught needs no look"
    assert all(gain >= 0.2 - 1e-9 for gain in gains.values() if gain is not None)
    dock.controller.next_to_review()
    assert dock.layers.at == ("b", 0)


def test_teaching_an_unlike_image_takes_the_doubt_from_others_like_it(dock: Dock) -> None:
    dock.layers.stacks["b"] = dock.layers.stacks["b"] // 3
    dock.propose_all()
    before = rows(dock)["b", 1]
    dock.show(("b", 0))
    dock.paint(("b", 0), truth(5))
    dock.controller.teach()
    dock.runner.finish()
    after = rows(dock)["b", 1]
    assert 1 - after.gain > (1 - before.gain) / before.score * after.score


def test_next_goes_through_all_that_wait_and_begins_anew(dock: Dock) -> None:
    dock.propose_all()
    for z, score in ((1, 0.5), (2, 0.9), (3, 0.7)):
        score_of(dock, ("a", z), score)
    dock.controller.choose_image("b", False)
    visited = []
    for _ in range(4):
        dock.controller.next_to_review()
        visited.append(dock.layers.at[1])
    assert visited == [1, 3, 2, 1]
    dock.controller.set_order(Order.PLACE)
    visited = []
    for _ in range(4):
        dock.controller.next_to_review()
        visited.append(dock.layers.at[1])
    assert visited == [2, 3, 1, 2]


def test_previous_goes_back_the_way_one_came(dock: Dock) -> None:
    dock.propose_all()
    assert Action.BACK not in dock.state.enabled
    dock.controller.set_order(Order.PLACE)
    dock.controller.next_to_review()
    dock.controller.reject()
    dock.controller.next_to_review()
    dock.controller.go_to(("b", 1))
    dock.controller.go_to("gone")
    way = [dock.layers.at]
    while Action.BACK in dock.state.enabled:
        dock.controller.go_back()
        way.append(dock.layers.at)
    assert way == [("b", 1), ("a", 2), ("a", 1), ("a", 0)]
    dock.controller.go_back()
    assert dock.state.error == "There is no slice to go back to"


def test_a_correction_is_kept_when_one_goes_elsewhere(dock: Dock) -> None:
    dock.propose_all()
    dock.show(("a", 1))
    dock.layers.proposal_stacks["a"][1, :3, :3] = 1
    dock.controller.go_to(("a", 2))
    assert dock.session.state(("a", 1)) is FrameState.CORRECTED


# ---------------------------------------------------------------- many at once
def test_selected_rows_are_accepted_or_rejected_in_one_step(dock: Dock) -> None:
    dock.propose_all()
    keys = [("a", 0), ("a", 2), ("b", 1)]
    dock.controller.select_rows(keys)
    assert dock.state.review.selection == "3 rows selected, 2 wait for a decision"
    assert {Action.ACCEPT_SELECTED, Action.REJECT_SELECTED} <= dock.state.enabled
    dock.layers.proposal_stacks["a"][2, :3, :3] = 1  # a person's brush
    dock.controller.accept_selected()
    assert standings(dock) == "tpappa"
    assert dock.layers.label_stacks["a"][2, :3, :3].all() and not dock.layers.proposal_stacks["a"][2].any()
    assert dock.session.support.keys == (("a", 0),), "nobody looked at each of them"
    assert Action.ACCEPT_SELECTED not in dock.state.enabled
    dock.controller.undo()
    assert standings(dock) == "tpcppp" and not dock.layers.label_stacks["a"][2].any()
    assert dock.layers.proposal_stacks["a"][2, :3, :3].all(), "the correction is still there"
    dock.controller.reject_selected()
    assert standings(dock) == "tprppr" and not dock.layers.proposal_stacks["b"][1].any()
    dock.controller.undo()
    assert standings(dock) == "tpcppp"
    np.testing.assert_array_equal(dock.layers.proposed(("b", 1)), truth(6))


def test_with_nothing_selected_one_is_told_how_to_select(dock: Dock) -> None:
    dock.propose_all()
    for command in (dock.controller.accept_selected, dock.controller.reject_selected):
        command()
        assert "click on rows with Ctrl or Shift" in dock.state.error


def test_what_a_person_painted_stands_when_many_are_accepted(dock: Dock) -> None:
    dock.propose_all()
    dock.layers.label_stacks["a"][3, :2] = 1
    dock.controller.select_rows([("a", 3)])
    dock.controller.accept_selected()
    assert dock.session.labels(("a", 3))[:2].all()


# ---------------------------------------------------------------- small pictures
def test_pictures_are_made_of_what_is_asked_for_the_last_first(dock: Dock) -> None:
    assert all(row.picture is None for row in dock.state.review.rows)
    dock.controller.look_at([("a", 1), ("a", 2)])
    dock.controller.look_at([("b", 0), ("a", 1), "gone"])
    order = []
    while dock.looker.step():
        dock.controller.edited()
        order += [key for key, row in rows(dock).items() if row.picture is not None and key not in order]
    assert order == [("b", 0), ("a", 1), ("a", 2)]
    assert dock.looker.started == 1
    dock.controller.look_at([("a", 1)])
    assert dock.looker.started == 1, "it is there"


def test_proposing_brings_the_pictures_along(dock: Dock) -> None:
    dock.propose_all()
    assert all(row.picture is not None for row in dock.state.review.rows)


def test_an_image_that_cannot_be_read_has_no_picture_and_is_no_trouble(dock: Dock) -> None:
    def fail(uid: str, z: int) -> np.ndarray:
        raise OSError("the disk is gone")

    dock.layers.read = fail  # type: ignore[method-assign]
    dock.controller.look_at([("a", 1)])
    dock.looker.finish()
    assert rows(dock)["a", 1].picture is None and not dock.state.error and not dock.view.unexpected
    dock.controller.look_at([("a", 1)])
    assert dock.looker.started == 1, "it is not tried for ever"


# ---------------------------------------------------------------- many frames
MANY = 10_000


class Many:
    """A review of 10,000 frames, all proposed."""

    def __init__(self) -> None:
        image = np.random.default_rng(0).integers(0, 255, (16, 16), np.uint8)
        self.session = Session(BrightnessSegmenter(), classes=[LabelClass(1, "cell")])
        self.session.add_frames(Frame(("film", i), image) for i in range(MANY))
        labels = (image > 100).astype(np.int32)
        self.session.teach(Shot(self.session.frame(("film", 0)), labels))
        run = self.session.start_run()
        scores = np.random.default_rng(1).random(MANY)
        for i in range(1, MANY):
            self.session.record(run, proposal(("film", i), labels, float(scores[i])))
        self.review = Review(
            self.session, lambda: [ImageChoice("film", "film")], lambda key: f"film [{key[1]}]", FakeRunner()
        )
        for i in range(0, MANY, 2):
            self.review.add(seen(self.session.frame(("film", i))))
        self.review.follow()
        self.review.rows()


@pytest.fixture(scope="module")
def many() -> Many:
    return Many()


def ms(work: Any) -> float:
    """The shortest of five runs, of processor time: the computer may be busy with other things."""

    def once() -> float:
        begun = time.process_time()
        work()
        return 1000 * (time.process_time() - begun)

    return min(once() for _ in range(5))


def test_one_changed_frame_of_10000_is_in_the_table_within_20_ms(many: Many) -> None:
    key = ("film", 5000)
    before = many.review.rows()

    def change() -> None:
        tag = many.session.support.tag(key)
        if tag is None:
            many.session.tag(Tag(many.session.frame(key), (1,)))
        else:
            many.session.untag(key)
        many.review.rows()

    one = ms(lambda: (many.review._on_frame(key), many.review.rows()))
    assert one < 20, f"{one:.1f} ms"
    change()
    after = many.review.rows()
    assert after[5000].contains == (1,) and [i for i in range(MANY) if after[i] is not before[i]] == [5000]
    change()


def test_a_table_of_10000_frames_in_which_nothing_changed_costs_next_to_nothing(many: Many) -> None:
    assert many.review.rows() is many.review.rows()
    spent = ms(lambda: many.review.table(("film", 3)))
    assert spent < 2, f"{spent:.1f} ms"


def test_the_next_of_10000_is_found_within_50_ms(many: Many) -> None:
    best = max(many.review.rows(), key=lambda row: -1.0 if row.gain is None else row.gain)
    assert many.review.next(None) == best.key
    spent = ms(lambda: many.review.next(("film", 77)))
    assert spent < 50, f"{spent:.1f} ms"
