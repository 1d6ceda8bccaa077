"""Random histories of a session, saved and opened again in between: no pixel of a person is lost, provenance is true.

People paint classes 1 and 2, the model proposes classes 3 and 4, so that every label tells who it is from.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from napari_fewshot import Frame, LabelClass, Session, Shot, open_session
from napari_fewshot.frames import FrameKey
from napari_fewshot.imaging.cleanup import CleanUp
from napari_fewshot.provenance import Origin
from napari_fewshot.session import FrameState
from napari_fewshot.support import UNLABELLED
from tests.fakes import BrightnessSegmenter, proposal

SIDE = 16
KEYS: list[FrameKey] = [("stack", n) for n in range(4)]
HUMAN, MODEL = (1, 2), (3, 4)
BY_PEOPLE = (Origin.HUMAN, Origin.CORRECTED)

keys = st.sampled_from(KEYS)
rows = st.tuples(st.integers(0, SIDE - 1), st.integers(1, 6)).map(lambda at: slice(at[0], at[0] + at[1]))
people, models = st.sampled_from(HUMAN), st.sampled_from(MODEL)

Shown = tuple[Any, ...]


class Labelling(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "session"
        self.numbers = iter(range(10_000))
        self.before: list[
            dict[FrameKey, Shown]
        ] = []  # what was to be seen before the last decision, if nothing came since
        self.after: list[dict[FrameKey, Shown]] = []  # and before the last undo

    @initialize()
    def begin(self) -> None:
        self.session = Session(BrightnessSegmenter(), classes=[LabelClass(i) for i in (*HUMAN, *MODEL)])
        self.session.add_frames(Frame.of_stack("stack", np.zeros((len(KEYS), SIDE, SIDE), np.uint8)))
        self.teach(KEYS[0], 1, slice(0, 3))

    def teardown(self) -> None:
        self.folder.cleanup()

    # ------------------------------------------------------------------ what is to be seen
    def shown(self, session: Session | None = None) -> dict[FrameKey, Shown]:
        session = session or self.session
        return {key: self.of_frame(session, key) for key in KEYS}

    @staticmethod
    def of_frame(session: Session, key: FrameKey) -> Shown:
        labels, origins = session.labels(key, with_proposals=True), session.origins(key)
        tell = (None if labels is None else labels.tobytes(), None if origins is None else origins.tobytes())
        return session.state(key), *tell

    def human(self) -> dict[FrameKey, np.ndarray]:
        """Where people said something, and what: 255 elsewhere."""
        said = {}
        for key in KEYS:
            labels, origins = self.session.labels(key, with_proposals=True), self.session.origins(key)
            if labels is not None and origins is not None:
                said[key] = np.where(np.isin(origins, BY_PEOPLE), labels, UNLABELLED)
        return said

    def keeps(self, before: dict[FrameKey, np.ndarray], changed: FrameKey | None = None, where: Any = None) -> None:
        """Nothing that people said is lost or changed, but for where they said something else now."""
        now = self.human()
        for key, said in before.items():
            there = said != UNLABELLED
            if key == changed and where is not None:
                there[where] = False
            if there.any():
                np.testing.assert_array_equal(now[key][there], said[there])

    def decided(self, before: dict[FrameKey, Shown]) -> None:
        self.before, self.after = [before], []

    def moved(self) -> None:
        """Something came that is no decision: undo does not lead back to what was to be seen before."""
        self.before, self.after = [], []

    # ------------------------------------------------------------------ people
    @rule(key=keys, value=people, where=rows)
    def teach(self, key: FrameKey, value: int, where: slice) -> None:
        """Strokes on what was taught before; all the rest of an accepted frame stays as it is, as in the dock."""
        before, said = self.shown(), self.human()
        state = self.session.state(key)
        labels = np.full((SIDE, SIDE), UNLABELLED)
        shot = next((shot for shot in self.session.support if shot.key == key), None)
        accepted = self.session.labels(key) if state is FrameState.ACCEPTED else None
        if accepted is not None:
            labels = accepted.copy()
        elif shot is not None:
            labels = shot.labels.copy()
        labels[where] = value
        self.session.teach(Shot(self.session.frame(key), labels))
        self.keeps(said, key, where)
        self.decided(before)

    @rule(key=keys)
    def forget(self, key: FrameKey) -> None:
        before, taught = (
            self.shown(),
            key in self.session.support.keys or self.session.state(key) is FrameState.ACCEPTED,
        )
        said = self.human()
        said.pop(key, None)
        self.session.forget(key)
        self.keeps(said)
        if taught:
            self.decided(before)

    @rule(key=keys, value=people, where=rows)
    def correct(self, key: FrameKey, value: int, where: slice) -> None:
        if self.session.proposal(key) is None:
            return
        said = self.human()
        labels = self.session.labels(key, with_proposals=True)
        assert labels is not None
        labels[where] = value
        self.session.correct(key, labels)
        self.keeps(said, key, where)
        self.moved()

    @rule(key=keys)
    def accept(self, key: FrameKey) -> None:
        if self.session.proposal(key) is None:
            return
        before, said = self.shown(), self.human()
        self.session.accept(key)
        self.keeps(said)
        self.decided(before)

    @rule()
    def accept_many(self) -> None:
        before, said = self.shown(), self.human()
        if self.session.accept_above(0.5):
            self.decided(before)
        self.keeps(said)

    @rule(key=keys)
    def reject(self, key: FrameKey) -> None:
        if self.session.proposal(key) is None:
            return
        before, said = self.shown(), self.human()
        said.pop(key, None)
        self.session.reject(key)
        self.keeps(said)
        self.decided(before)

    @rule(min_area=st.sampled_from([2, 30, 200]), largest=st.booleans())
    def clean_up(self, min_area: int, largest: bool) -> None:
        before, said = self.shown(), self.human()
        if self.session.clean_up(steps=CleanUp(min_area=min_area, largest_only=largest)):
            self.decided(before)
        self.keeps(said)

    @rule(key=keys, aside=st.booleans())
    def set_aside_or_take_back(self, key: FrameKey, aside: bool) -> None:
        before, was = self.shown(), self.session.aside
        if aside and key in self.session.support.keys:
            self.session.set_aside(key)
        else:
            self.session.take_back(key)
        assert self.shown() == before
        assert self.session.learnt_from.keys == tuple(
            k for k in self.session.support.keys if k not in self.session.aside
        )
        if self.session.aside != was:
            self.decided(before)

    @rule(name=st.sampled_from(["a", "b", "细胞"]))
    def rename(self, name: str) -> None:
        before = self.shown()
        self.session.set_classes([LabelClass(c.id, name if c.id == 1 else c.name) for c in self.session.classes])
        assert self.shown() == before

    @precondition(lambda self: all(c.id != 9 for c in self.session.classes))
    @rule()
    def add_class(self) -> None:
        self.session.set_classes([*self.session.classes, LabelClass(9, "new")])

    @precondition(lambda self: any(c.id == 9 for c in self.session.classes))
    @rule()
    def delete_class(self) -> None:
        before = self.shown()
        self.session.set_classes([c for c in self.session.classes if c.id != 9])
        self.session.undo()
        assert any(c.id == 9 for c in self.session.classes)
        self.session.redo()
        assert all(c.id != 9 for c in self.session.classes)
        self.decided(before)

    # ------------------------------------------------------------------ back and forth
    @rule()
    def undo(self) -> None:
        before, could = self.shown(), self.session.can_undo
        self.session.undo()
        if self.before:
            assert self.shown() == self.before.pop()
            self.after.append(before)
        elif could:
            self.moved()

    @rule()
    def redo(self) -> None:
        could = self.session.can_redo
        before = self.shown()
        self.session.redo()
        if self.after:
            assert self.shown() == self.after.pop()
            self.before = [before]
        elif could:
            self.moved()

    @rule(key=keys)
    def delete_layer_and_open_it_again(self, key: FrameKey) -> None:
        frame = self.session.frame(key)
        self.session.remove_frames([key])
        self.session.add_frames([frame])
        self.session.add_frames([self.session.frame(each) for each in KEYS])
        self.moved()

    # ------------------------------------------------------------------ the model
    @rule(key=keys, value=models, where=rows, other=models)
    def propose(self, key: FrameKey, value: int, where: slice, other: int) -> None:
        if not self.session.learnt_from.class_ids:
            return
        said = self.human()
        labels = np.full((SIDE, SIDE), value)
        labels[where] = other
        state = self.session.state(key)
        run = self.session.start_run()
        recorded = self.session.record(run, proposal(key, labels, score=0.5 + 0.1 * (next(self.numbers) % 3)))
        assert not (recorded and state is FrameState.ACCEPTED)
        self.keeps(said)
        if recorded:
            self.moved()

    # ------------------------------------------------------------------ the disk
    @rule()
    def save(self) -> None:
        self.session.save(self.path)
        self.check(open_session(self.path))

    @rule()
    def close_and_open_again(self) -> None:
        self.session.save(self.path)
        again = open_session(self.path, BrightnessSegmenter())
        self.check(again)
        self.session = again
        self.moved()

    @precondition(lambda self: (self.path / "session.json").exists())
    @rule(key=keys, value=people)
    def be_killed_while_saving(self, key: FrameKey, value: int) -> None:
        """A later change has written some of its arrays, half of one, but no head."""
        self.session.save(self.path)
        head = (self.path / "session.json").read_bytes()
        labels = np.full((SIDE, SIDE), value)
        copy = open_session(self.path)
        copy.teach(Shot(copy.frame(key), labels))
        copy.save(self.path)
        (self.path / "session.json").write_bytes(head)
        (self.path / "data" / "00").mkdir(exist_ok=True)
        (self.path / "data" / "00" / f".{'0' * 32}.tif.1234.partial").write_bytes(b"II*")
        again = open_session(self.path, BrightnessSegmenter())
        self.check(again)
        self.session = again
        self.moved()

    def check(self, again: Session) -> None:
        assert self.shown(again) == self.shown()
        assert again.classes == self.session.classes
        assert again.support.keys == self.session.support.keys
        assert again.aside == self.session.aside <= set(again.support.keys)

    # ------------------------------------------------------------------ always
    @invariant()
    def provenance_is_true(self) -> None:
        session: Session | None = getattr(self, "session", None)
        if session is None:
            return
        for key in KEYS:
            labels, origins = session.labels(key, with_proposals=True), session.origins(key)
            assert (labels is None) == (origins is None)
            if labels is None or origins is None:
                assert session.state(key) in (FrameState.UNTOUCHED, FrameState.REJECTED)
                continue
            said_by_people = np.isin(labels, HUMAN)
            assert np.isin(origins[said_by_people], BY_PEOPLE).all()
            expected = Origin.ACCEPTED, Origin.MODEL
            assert np.isin(origins[np.isin(labels, MODEL)], expected).all()
            assert np.isin(origins[labels == 0], (Origin.NONE, *expected)).all(), "by clean-up"
            open_now = session.proposal(key) is not None
            assert not (origins == (Origin.ACCEPTED if open_now else Origin.MODEL)).any()


TestLabelling = Labelling.TestCase
TestLabelling.settings = settings(
    max_examples=20,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
