"""Random histories of the dock, without a window: no pixel of a person is lost, and table, session and layers agree.

People paint classes 1 and 2, the model proposes classes 3 and 4, so that every label tells who it is from.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from napari_fewshot.frames import Frame, FrameKey
from napari_fewshot.io.image_places import ImagePlace
from napari_fewshot.proposals import Proposal
from napari_fewshot.provenance import Origin
from napari_fewshot.session import FrameState
from napari_fewshot.session.folder import SessionFolder
from napari_fewshot.support import UNLABELLED, LabelClass, SupportSet
from napari_fewshot.ui.ports import PAINTED_BACKGROUND
from napari_fewshot.ui.saving import Saving
from napari_fewshot.ui.state import Standing
from tests.fakes import proposal
from tests.test_controller import Dock, FakeLayers

SIDE = 16
SLICES = {"a": 3, "b": 2}
KEYS: list[FrameKey] = [(uid, z) for uid, count in SLICES.items() for z in range(count)]
HUMAN, MODEL = (1, 2), (3, 4)
BY_PEOPLE = (Origin.HUMAN, Origin.CORRECTED)

numbers = st.integers(0, 9)
keys, uids = st.sampled_from(KEYS), st.sampled_from(list(SLICES))
rows = st.tuples(st.integers(0, SIDE - 1), st.integers(1, 6)).map(lambda at: slice(at[0], at[0] + at[1]))
brushes = st.sampled_from((*HUMAN, PAINTED_BACKGROUND))
PictureOf = dict[FrameKey, tuple[Any, ...]]


ACTIONS: dict[str, tuple[st.SearchStrategy[Any], ...]] = {
    "paint": (
        keys,
        brushes,
        rows,
    ),
    "correct": (
        numbers,
        st.sampled_from((*HUMAN, 0)),
        rows,
    ),
    "teach": (
        keys,
        brushes,
        rows,
    ),
    "nothing_here": (keys,),
    "accept": (numbers,),
    "accept_above": (st.sampled_from((0.0, 0.6, 0.8)),),
    "accept_selected": (st.sets(keys),),
    "reject": (numbers,),
    "undo": (st.integers(1, 3),),
    "redo": (),
    "add_and_remove_a_class": (),
    "propose": (st.sampled_from((3, 9, 60)),),
    "receive": (st.integers(1, 12),),
    "choose_whether_to_refresh": (st.booleans(),),
    "delete_image_and_open_it_again": (uids,),
    "delete_proposal_layer": (uids,),
    "delete_labels_layer": (uids,),
    "rename": (
        uids,
        st.sampled_from(["Ü", "b", "a"]),
    ),
    "untick_and_tick": (uids,),
    "close_and_open_again": (st.booleans(),),
}
"""What can happen, with what."""


@dataclass
class Stripes:
    """A model that proposes something else each time, in classes that no person paints."""

    name: str = "stripes"
    number: int = 0

    def learn(self, support: SupportSet, *, progress: Any = None) -> "Stripes":
        support.check()
        return self

    def propose(self, frame: Frame, *, progress: Any = None) -> Proposal:
        self.number += 1
        labels = np.zeros((SIDE, SIDE), np.int32)
        labels[self.number % SIDE :: 3] = MODEL[self.number % 2]
        return proposal(frame.key, labels, score=0.5 + 0.1 * (self.number % 5))


class FakeImages:
    """Images that lie in no file."""

    def __init__(self, layers: FakeLayers) -> None:
        self._layers = layers

    def places(self) -> dict[str, ImagePlace | None]:
        return dict.fromkeys(self._layers.stacks)

    def open(self, name: str, place: ImagePlace) -> str:
        raise AssertionError("there are no files")

    def show(self, name: str, frames: Sequence[Frame]) -> str:
        if name not in self._layers.stacks:
            self._layers.stacks[name] = np.stack([frame.read() for frame in frames])
            self._layers.names[name] = name
        return name

    def lie_along(self, uid: str, axes: str) -> None:
        raise AssertionError("nothing is known of axes")

    def frames(self) -> dict[FrameKey, Frame]:
        return {frame.key: frame for frame in self._layers.frames()}


class Reviewing(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "session"
        self.strokes: dict[FrameKey, np.ndarray] = {}  # on labels layers: what people painted there last, 0 elsewhere

    @initialize()
    def begin(self) -> None:
        stacks = {uid: np.full((count, SIDE, SIDE), 7, np.uint8) for uid, count in SLICES.items()}
        self.dock = Dock(Stripes(), **stacks)
        self.dock.session.set_classes([LabelClass(i) for i in (*HUMAN, *MODEL)])
        self.watch()
        self.teach(KEYS[0], 1, slice(0, 3))
        self.propose(60)

    def watch(self) -> None:
        self.saving = Saving(self.dock.session, self.dock.layers, FakeImages(self.dock.layers), enabled=False)
        self.saving.enabled = True  # strokes are taken note of; the machine itself says when to save

    def teardown(self) -> None:
        if hasattr(self, "saving"):
            self.saving.close()
        self.folder.cleanup()

    # ------------------------------------------------------------------ what is to be seen
    def there(self) -> list[FrameKey]:
        return list(self.dock.session.frames)

    def picture(self) -> PictureOf:
        session, found = self.dock.session, {}
        for key in self.there():
            labels, origins = session.labels(key, with_proposals=True), session.origins(key)
            told = [None if each is None else each.tobytes() for each in (labels, origins)]
            found[key] = (session.state(key), *told)
        return found

    def human(self) -> dict[FrameKey, np.ndarray]:
        """Where people said something to the session, and what: 255 elsewhere."""
        said, session = {}, self.dock.session
        for key in self.there():
            labels, origins = session.labels(key, with_proposals=True), session.origins(key)
            if labels is not None and origins is not None:
                said[key] = np.where(np.isin(origins, BY_PEOPLE), labels, UNLABELLED)
        return said

    def keeps(self, before: dict[FrameKey, np.ndarray], *, but: FrameKey | None = None) -> None:
        now = self.human()
        for key, said in before.items():
            if key != but and key in self.dock.session.frames:
                stood = said != UNLABELLED
                assert not stood.any() or key in now, f"what a person said on {key} is gone"
                same = now.get(key) == said
                # what is painted on a labels layer stands over corrections; of a deleted one it is there when reopened
                for strokes in (self.strokes.get(key), self.dock.session.painted.get(key)):
                    if strokes is not None:
                        latest = np.where(strokes == PAINTED_BACKGROUND, 0, strokes)
                        same = same | ((strokes != 0) & (now.get(key) == latest))
                assert same[stood].all() if stood.any() else True, f"other pixels on {key}"

    def go(self, key: FrameKey) -> bool:
        """Show a slice; its image may be gone."""
        if key not in self.dock.session.frames:
            return False
        self.dock.show(key)
        return True

    # ------------------------------------------------------------------ people
    def paint(self, key: FrameKey, value: int, where: slice) -> None:
        if not self.go(key):
            return
        layers, uid = self.dock.layers, key[0]
        self.dock.controller.sync.ensure_labels(uid)
        layers.label_stacks[uid][key[1], where] = value
        layers.written.get(key, np.zeros((SIDE, SIDE)))[where] = 0
        self.strokes.setdefault(key, np.zeros((SIDE, SIDE), np.uint8))[where] = value
        self.dock.controller.edited()
        self.saving.note_strokes(key)

    def correct(self, number: int, value: int, where: slice) -> None:
        key = self.an_open_one(number)
        if not self.go(key) or self.dock.session.proposal(key) is None:
            return
        before = self.human()
        self.dock.controller.sync.ensure_proposals(key[0])
        stack = self.dock.layers.proposal_stacks[key[0]]
        changed = stack[key[1], where] != value
        stack[key[1], where] = value
        self.dock.controller.edited()
        assert (self.dock.session.origins(key)[where][changed] == Origin.CORRECTED).all()
        self.keeps(before, but=key)

    def teach(self, key: FrameKey, value: int, where: slice) -> None:
        self.paint(key, value, where)
        if self.go(key):
            before = self.human()
            self.dock.controller.teach()
            self.keeps(before, but=key)

    def nothing_here(self, key: FrameKey) -> None:
        if self.go(key):
            before = self.human()
            self.dock.controller.nothing_here()
            self.keeps(before, but=key)

    def an_open_one(self, number: int) -> FrameKey:
        """A frame with an open proposal, where there is one."""
        waiting = self.dock.session.review_queue() or KEYS
        return waiting[number % len(waiting)]

    def accept(self, number: int) -> None:
        key = self.an_open_one(number)
        if self.go(key):
            before = self.human()
            had_one = self.dock.session.proposal(key) is not None
            self.dock.controller.accept()
            self.keeps(before)
            assert not had_one or self.dock.session.state(key) is FrameState.ACCEPTED

    def accept_above(self, score: float) -> None:
        before = self.human()
        self.dock.controller.set_accept_score(score)
        self.dock.controller.accept_above()
        self.keeps(before)

    def accept_selected(self, chosen: set[FrameKey]) -> None:
        before = self.human()
        self.dock.controller.select_rows(sorted(chosen))
        self.dock.controller.accept_selected()
        self.keeps(before)

    def reject(self, number: int) -> None:
        key = self.an_open_one(number)
        if self.go(key):
            before = self.human()
            self.dock.controller.reject()
            self.keeps(before, but=key)

    def undo(self, times: int) -> None:
        for _ in range(times):
            self.undo_once()

    def undo_once(self) -> None:
        before, could = self.picture(), self.dock.session.can_undo
        self.dock.controller.cancel()
        self.dock.controller.undo()
        if could and self.dock.session.can_redo and self.dock.runner.stopped:
            undone = self.picture()
            self.dock.controller.redo()
            assert self.picture() == before, "redo is the way back of undo"
            self.dock.controller.undo()
            assert self.picture() == undone

    def redo(self) -> None:
        self.dock.controller.redo()

    def add_and_remove_a_class(self) -> None:
        before, classes = self.picture(), self.dock.session.classes
        self.dock.controller.add_class()
        assert len(self.dock.session.classes) == len(classes) + 1
        self.dock.controller.remove_brush_class()
        assert self.dock.session.classes == classes and self.picture() == before
        for class_id in HUMAN:  # which may be painted somewhere
            self.dock.controller.select_brush(class_id)
            self.dock.controller.remove_brush_class()
            if any(class_id in strokes for strokes in self.strokes.values()):
                assert class_id in {c.id for c in self.dock.session.classes}
        self.dock.session.set_classes([LabelClass(i) for i in (*HUMAN, *MODEL)])

    # ------------------------------------------------------------------ the model
    def propose(self, steps: int) -> None:
        before = self.human()
        self.dock.controller.propose()
        self.receive(steps)
        self.keeps(before)

    def receive(self, steps: int) -> None:
        before = self.human()
        for _ in range(steps):
            if self.dock.runner.stopped or not self.dock.runner.step():
                break
        self.keeps(before)

    def choose_whether_to_refresh(self, refresh: bool) -> None:
        self.dock.controller.set_refresh_after_decision(refresh)

    # ------------------------------------------------------------------ layers
    def delete_image_and_open_it_again(self, uid: str) -> None:
        layers, before, said = self.dock.layers, self.picture(), self.human()
        self.dock.controller.sync.take_all_corrections()
        stack = layers.stacks.pop(uid)
        layers.proposal_stacks.pop(uid, None)
        layers.at = next(((other, 0) for other in layers.stacks), None)
        self.dock.controller.layers_changed()
        assert {key[0] for key in self.there()} == set(layers.stacks)
        self.agrees()
        layers.stacks[uid] = stack
        layers.stacks = {each: layers.stacks[each] for each in SLICES}
        layers.at = layers.at or (uid, 0)
        self.dock.controller.layers_changed()
        assert self.picture() == before
        self.keeps(said)

    def delete_proposal_layer(self, uid: str) -> None:
        self.dock.controller.sync.take_all_corrections()
        before = self.picture()
        self.dock.layers.proposal_stacks.pop(uid, None)
        self.dock.controller.layers_changed()
        assert self.picture() == before

    def delete_labels_layer(self, uid: str) -> None:
        """What was only painted goes with it, since a person wanted it to; what was taught stays known."""
        before = self.human()
        self.dock.layers.label_stacks.pop(uid, None)
        for key in KEYS:
            if key[0] == uid:
                self.dock.layers.written.pop(key, None)
                self.strokes.pop(key, None)
        self.dock.controller.layers_changed()
        self.keeps(before)

    def rename(self, uid: str, name: str) -> None:
        before = self.picture()
        self.dock.layers.names[uid] = name
        self.dock.controller.layers_changed()
        assert self.picture() == before
        assert {image.name for image in self.dock.state.images} == set(self.dock.layers.names.values())

    def untick_and_tick(self, uid: str) -> None:
        self.dock.controller.sync.take_all_corrections()
        before = self.picture()
        self.dock.controller.choose_image(uid, False)
        self.agrees()
        self.dock.controller.choose_image(uid, True)
        assert {**before, **self.picture()} == before

    # ------------------------------------------------------------------ the disk
    def close_and_open_again(self, killed: bool) -> None:
        """In a new window; killed, half of an array of a later change lies there as well."""
        self.dock.controller.cancel()
        self.dock.controller.sync.take_all_corrections()
        self.dock.session.save(self.path)
        before, classes = self.picture(), self.dock.session.classes
        if killed:
            (self.path / "data" / "00").mkdir(exist_ok=True)
            (self.path / "data" / "00" / f".{'0' * 32}.tif.1234.partial").write_bytes(b"II*")
        self.saving.close()
        self.dock = Dock(Stripes(number=self.dock.segmenter.number))
        self.watch()
        self.saving.enabled = False
        folder = SessionFolder(self.path)
        self.saving.take_up(folder.read(with_pixels=False), folder)
        self.saving.enabled = True
        layers = self.dock.layers
        layers.stacks = {uid: layers.stacks[uid] for uid in SLICES}
        layers.at = KEYS[0]
        self.dock.controller.layers_changed()
        assert {key: seen for key, seen in self.picture().items() if key in before} == before
        assert self.dock.session.classes == classes

    # ------------------------------------------------------------------ at random
    @rule(data=st.data(), name=st.sampled_from(list(ACTIONS)))
    def act(self, data: Any, name: str) -> None:
        """Do any of it: one rule for all, since of many rules some would never be tried together."""
        getattr(self, name)(*(data.draw(strategy) for strategy in ACTIONS[name]))

    # ------------------------------------------------------------------ always
    @invariant()
    def agrees(self) -> None:
        """What people painted is there; table, session and layers say the same."""
        if not hasattr(self, "dock"):
            return
        dock, session, layers = self.dock, self.dock.session, self.dock.layers
        assert not dock.view.unexpected
        for key, strokes in self.strokes.items():
            if key[0] in layers.label_stacks:
                there = layers.label_stacks[key[0]][key[1]]
                assert (there[strokes != 0] == strokes[strokes != 0]).all(), f"strokes on {key} are gone"
        table = {row.key: row for row in dock.controller.review.rows()}
        assert list(table) == list(session.frames)
        for key in session.frames:
            waiting, state, row = session.proposal(key), session.state(key), table[key]
            assert row.score == (None if waiting is None else waiting.score)
            assert row.standing.value == state.value or (row.standing, state) == (
                Standing.NOTHING_HERE,
                FrameState.TAUGHT,
            )
            shown = layers.proposed(key)
            if shown is not None:
                np.testing.assert_array_equal(shown, 0 if waiting is None else waiting.labels)
            by_hand = layers.painted_by_hand(key)
            if state is not FrameState.ACCEPTED and key not in session.support.keys and by_hand is not None:
                assert not np.isin(by_hand, MODEL).any(), f"no person painted that on {key}"
            labels = session.labels(key)
            if state is FrameState.ACCEPTED and key[0] in layers.label_stacks and labels is not None:
                there = layers.label_stacks[key[0]][key[1]]
                assert (there[labels != 0] != 0).all(), f"what was accepted on {key} is not to be seen"

    @invariant()
    def provenance_is_true(self) -> None:
        if not hasattr(self, "dock"):
            return
        for key in self.there():
            labels = self.dock.session.labels(key, with_proposals=True)
            origins = self.dock.session.origins(key)
            if labels is None:
                continue
            assert origins is not None
            assert np.isin(origins[np.isin(labels, HUMAN)], BY_PEOPLE).all(), f"on {key} a person painted it"
            by_model = origins[np.isin(labels, MODEL)]
            assert np.isin(by_model, (Origin.ACCEPTED, Origin.MODEL)).all(), f"on {key} no person painted it"


TestReviewing = Reviewing.TestCase
TestReviewing.settings = settings(
    max_examples=10,
    stateful_step_count=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
