"""What the dock does when something is pressed, without a window."""

import csv
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_fewshot.boxes import Box, box_labels
from napari_fewshot.errors import FewShotError, ImageError, SettingsError
from napari_fewshot.frames import Frame, frame_name
from napari_fewshot.models.cache_settings import CacheSettings, CacheUsage
from napari_fewshot.proposals import Proposal
from napari_fewshot.provenance import Origin
from napari_fewshot.segmenter import SegmenterSettings
from napari_fewshot.session import FrameState, Session
from napari_fewshot.session.loading import LoadedSegmenter
from napari_fewshot.support import LabelClass
from napari_fewshot.ui.actions import OF_COMPANIONS, OF_THE_WINDOW, Action
from napari_fewshot.ui.axes import Cut
from napari_fewshot.ui.controller import Controller
from napari_fewshot.ui.forecast import Forecast, duration
from napari_fewshot.ui.machine import Room
from napari_fewshot.ui.model_choice import ModelChoice
from napari_fewshot.ui.ports import PAINTED_BACKGROUND, ExportChoice, ExportRequest, ExportStack
from napari_fewshot.ui.preferences import Preferences
from napari_fewshot.ui.state import DockState, ImageChoice, OverlayPicture
from napari_fewshot.ui.teaching import shot_labels
from napari_fewshot.ui.upkeep import Upkeep
from tests.fakes import Brightness, BrightnessSegmenter

SIZE = (24, 32)


def picture(level: int) -> np.ndarray:
    """A bright square on dark ground; ``level`` moves it."""
    image = np.full(SIZE, 20, np.uint8)
    image[4:14, 4 + level : 14 + level] = 200
    return image


def truth(level: int) -> np.ndarray:
    return (picture(level) == 200).astype(np.int32)


class FakeView:
    def __init__(self) -> None:
        self.state = DockState()
        self.messages: list[str] = []
        self.unexpected: list[BaseException] = []
        self.request: ExportRequest | None = None
        self.choices: Sequence[ExportChoice] = ()
        self.questions: list[str] = []
        self.agrees = True

    def confirm(self, question: str) -> bool:
        self.questions.append(question)
        return self.agrees

    def show_state(self, state: DockState) -> None:
        self.state = state

    def notify(self, message: str, *, error: BaseException | None = None, is_error: bool = False) -> None:
        self.messages.append(message)
        if error is not None:
            self.unexpected.append(error)

    def ask_export(self, choices: Sequence[ExportChoice]) -> ExportRequest | None:
        self.choices = choices
        return self.request


class FakeSlice:
    """Knows its shape, is read when it is called."""

    def __init__(self, layers: "FakeLayers", uid: str, z: int) -> None:
        self._layers, self._uid, self._z = layers, uid, z

    @property
    def shape(self) -> tuple[int, ...]:
        return self._layers.stacks[self._uid].shape[1:]

    def __call__(self) -> np.ndarray:
        return self._layers.read(self._uid, self._z)


class FakeLayers:
    """Stacks of slices in dictionaries instead of layers."""

    def __init__(self, **stacks: np.ndarray) -> None:
        self.stacks = stacks
        self.unchosen: set[str] = set()
        self.names = {uid: uid for uid in stacks}
        self.label_stacks: dict[str, np.ndarray] = {}
        self.proposal_stacks: dict[str, np.ndarray] = {}
        self.object_stacks: dict[str, np.ndarray] = {}
        self.objects_are_hidden = False
        self.tool_on = ""
        self.written: dict[Any, np.ndarray] = {}
        self.at: Any = next(((uid, 0) for uid in stacks), None)
        self.trouble = ""
        self.seen_cut: Cut | None = None
        self.brush: tuple[Any, int, bool] | None = None
        self.depth_axes: dict[str, int | None] = {}
        self.drawn: dict[Any, list[Box]] = {}
        self.drawing: tuple[Any, int] | None = None
        self.kept_boxes: list[Any] = []
        self.classes: Sequence[LabelClass] = ()
        self.overlay: tuple[Any, OverlayPicture] | None = None
        self.overlays_drawn = 0

    def ensure_objects(self, uid: str) -> bool:
        if uid in self.object_stacks:
            return False
        self.object_stacks[uid] = np.zeros(self.stacks[uid].shape[:3], np.int32)
        return True

    def objects(self, key: Any) -> np.ndarray | None:
        return self.object_stacks[key[0]][key[1]].copy() if key[0] in self.object_stacks else None

    def show_objects(self, key: Any, ids: np.ndarray) -> None:
        self.object_stacks[key[0]][key[1]] = ids

    def hide_objects(self) -> None:
        self.objects_are_hidden = True

    def write_objects(self, key: Any, ids: np.ndarray) -> None:
        self.object_stacks[key[0]][key[1]] = ids

    def take_tool(self, key: Any) -> None:
        self.tool_on = key[0]

    def drop_tool(self) -> None:
        self.tool_on = ""

    def show_overlay(self, key: Any, picture: OverlayPicture) -> None:
        self.overlay = (key, picture)
        self.overlays_drawn += 1

    def hide_overlay(self) -> None:
        self.overlay = None

    def has_overlay(self) -> bool:
        return self.overlay is not None

    def images(self) -> list[ImageChoice]:
        return [ImageChoice(uid, self.names[uid], uid not in self.unchosen, stack_axes="Z") for uid in self.stacks]

    def choose(self, uid: str, chosen: bool) -> None:
        (self.unchosen.discard if chosen else self.unchosen.add)(uid)

    def set_depth_axis(self, uid: str, axis: int | None) -> None:
        self.depth_axes[uid] = axis

    def set_channel_axis(self, uid: str, axis: int | None) -> None:
        self.stacks[uid] = np.moveaxis(self.stacks[uid], axis, -1) if axis is not None else self.stacks[uid]

    def frames(self) -> list[Frame]:
        return [
            Frame((uid, z), FakeSlice(self, uid, z))
            for uid, stack in self.stacks.items()
            if uid not in self.unchosen
            for z in range(len(stack))
        ]

    def read(self, uid: str, z: int) -> np.ndarray:
        if uid not in self.stacks:
            raise ImageError(f"the layer '{uid}' was deleted")
        return self.stacks[uid][z]

    def name(self, key: Any) -> str:
        return f"{self.names.get(key[0], key[0])} [{key[1]}]"

    def shown(self) -> Any:
        if self.trouble:
            raise ImageError(self.trouble)
        return self.at

    def cut(self) -> Cut | None:
        return self.seen_cut

    def is_cut_painted(self, cut: Cut) -> bool:
        return any(bool(cut.line_of(painted).any()) for key in cut.keys if (painted := self.painted(key)) is not None)

    def go_to(self, key: Any) -> None:
        self.at = key

    def ensure_labels(self, uid: str) -> bool:
        return self._ensure(self.label_stacks, uid)

    def ensure_proposals(self, uid: str) -> bool:
        return self._ensure(self.proposal_stacks, uid)

    def _ensure(self, stacks: dict[str, np.ndarray], uid: str) -> bool:
        if uid in stacks:
            return False
        stacks[uid] = np.zeros(self.stacks[uid].shape[:3], np.uint8)
        return True

    def painted(self, key: Any) -> np.ndarray | None:
        stack = self.label_stacks.get(key[0])
        return None if stack is None else stack[key[1]].astype(np.int32)

    def is_painted(self, key: Any) -> bool:
        painted = self.painted(key)
        return painted is not None and bool(painted.any())

    def paints_anywhere(self, value: int) -> str:
        return next((f"{uid} labels" for uid, stack in self.label_stacks.items() if (stack == value).any()), "")

    def draw_boxes(self, key: Any, class_id: int) -> None:
        self.drawing = (key, class_id)

    def is_drawing_boxes(self, key: Any) -> bool:
        return self.drawing is not None and self.drawing[0] == key

    def boxes(self, key: Any, class_id: int) -> list[Box]:
        return [replace(box, class_id=class_id) if box.class_id == 254 else box for box in self.drawn.get(key, [])]

    def keep_boxes(self, key: Any, class_id: int) -> None:
        self.kept_boxes.append((key, class_id))

    def restore_painted(self, key: Any, labels: np.ndarray) -> None:
        self.label_stacks[key[0]][key[1]] = labels

    def painted_by_hand(self, key: Any) -> np.ndarray | None:
        painted, written = self.painted(key), self.written.get(key)
        return painted if painted is None or written is None else np.where(painted == written, 0, painted)

    def write_accepted(self, accepted: Sequence[tuple[Any, np.ndarray]]) -> None:
        for key, labels in accepted:
            there, before = self.label_stacks[key[0]][key[1]], self.written.get(key, 0)
            self.written[key] = np.where(there == 0, labels, np.where(there == before, before, 0))
            there[there == 0] = labels[there == 0]

    def unwrite(self, keys: Sequence[Any]) -> None:
        for key in keys:
            written = self.written.pop(key, None)
            if written is None or key[0] not in self.label_stacks:
                continue
            there = self.label_stacks[key[0]][key[1]]
            there[(written != 0) & (there == written)] = 0

    def proposed(self, key: Any) -> np.ndarray | None:
        stack = self.proposal_stacks.get(key[0])
        return None if stack is None else stack[key[1]].astype(np.int32)

    def show_proposal(self, key: Any, labels: np.ndarray) -> None:
        self.proposal_stacks[key[0]][key[1]] = labels

    def clear_proposals(self, keys: Sequence[Any]) -> None:
        for key in keys:
            if key[0] in self.proposal_stacks:
                self.proposal_stacks[key[0]][key[1]] = 0

    def take_brush(self, key: Any, value: int, *, on_proposal: bool) -> None:
        self.brush = (key, value, on_proposal)

    def set_classes(self, classes: Sequence[LabelClass]) -> None:
        self.classes = classes

    def label_layers(self) -> list[tuple[str, str]]:
        return [(uid, self.names[uid]) for uid in self.label_stacks]

    def source_of(self, uid: str) -> Path | None:
        return None

    def export_stack(self, uid: str) -> ExportStack:
        return ExportStack(self.label_stacks[uid].copy(), (2.0, 0.5, 0.5), ("µm",) * 3, ("z", "y", "x"))


class FakeRunner:
    """Keeps the job; the test says when it makes a step."""

    def __init__(self) -> None:
        self.job: deque[Any] | None = None
        self.items: Any = iter(())
        self.stopped = False
        self.started = 0

    def start(self, job: Any, receive: Callable[[object], None], total: int) -> None:
        self.started += 1
        self.stopped = False
        self.receive, self.total = receive, total
        self.items = job(self)

    def stop(self) -> None:
        self.stopped = True

    def gave_up(self) -> bool:
        return self.stopped

    def tell(self, item: object) -> None:
        """What the thread says in the middle of a step arrives at once here."""
        if not self.stopped:
            self.receive(item)

    def step(self) -> bool:
        """Run the thread up to its next result. Returns whether there was one."""
        item = next(self.items, None)
        if item is None:
            return False
        self.receive(item)
        return True

    def finish(self) -> None:
        while not self.stopped and self.step():
            pass


class FakeFeatures:
    """Says what it was asked for."""

    def __init__(self) -> None:
        self.settings = CacheSettings()
        self.notice = ""
        self.cleared = 0
        self.lacks_weights = False
        self.has_timm = True

    def limit(self, settings: CacheSettings) -> None:
        self.settings = settings

    def clear(self) -> None:
        self.cleared += 1

    def tidy(self) -> CacheUsage:
        return CacheUsage(0, 0, 0) if self.cleared else CacheUsage(3 << 29, 5 << 30, 7)

    def needs_download(self, settings: SegmenterSettings) -> bool:
        return self.lacks_weights

    def model_names(self) -> list[str]:
        if not self.has_timm:
            raise SettingsError("backbones 'timm:...' need timm, which is not installed: pip install timm")
        return ["convnext_tiny", "resnet18"]

    def terms(self, backbone: str) -> str:
        if backbone.partition("@")[0] not in ("timm:convnext_tiny", "timm:resnet18"):
            raise SettingsError(f"timm has no model {backbone}")
        return f"The weights of {backbone} are under a licence."


class PreparingSegmenter(BrightnessSegmenter):
    """Prepares in two steps, and says what."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[Any] = []

    def prepare(self, frame: Frame) -> Iterator[None]:
        yield
        self.prepared.append(frame.key)
        yield


class Dock:
    """A controller with everything around it faked."""

    def __init__(self, segmenter: Any = None, **stacks: np.ndarray) -> None:
        self.segmenter = segmenter or PreparingSegmenter()
        self.view, self.layers = FakeView(), FakeLayers(**stacks)
        self.runner, self.exporter, self.preparer, self.keeper, self.librarian = (FakeRunner() for _ in range(5))
        self.looker = FakeRunner()
        self.features, self.room, self.remembered = FakeFeatures(), Room(16 << 30, 100 << 30), Preferences()
        self.session = Session(self.segmenter, classes=[LabelClass(1, "cell")])
        self.seconds = 0.0
        forecast = Forecast(lambda limits: self.room)
        upkeep = Upkeep(self.session, forecast, self.features, self.preparer, self.keeper, Preferences(), self.remember)
        models = ModelChoice(self.features, self.librarian)
        self.controller = Controller(
            self.session,
            self.view,
            self.layers,
            self.runner,
            self.exporter,
            forecast,
            upkeep,
            models,
            self.looker,
            clock=lambda: self.seconds,
        )

    def remember(self, preferences: Preferences) -> None:
        self.remembered = preferences

    @property
    def state(self) -> DockState:
        return self.view.state

    def paint(self, key: Any, mask: np.ndarray, value: int = 1) -> None:
        self.layers.ensure_labels(key[0])
        self.layers.label_stacks[key[0]][key[1]][mask.astype(bool)] = value
        self.controller.edited()

    def teach_first(self) -> None:
        self.paint(("a", 0), truth(0))
        self.controller.teach()

    def propose_all(self) -> None:
        self.teach_first()
        self.controller.propose()
        self.runner.finish()

    def show(self, key: Any) -> None:
        self.layers.at = key
        self.controller.slice_changed()


@pytest.fixture
def dock() -> Dock:
    return Dock(a=np.stack([picture(z) for z in range(4)]), b=np.stack([picture(z + 5) for z in range(2)]))


# ------------------------------------------------------------------------------------------- the main job
def test_the_whole_path_paint_teach_propose_correct_accept_export(dock: Dock, tmp_path: Path) -> None:
    assert dock.state.next_step.startswith("Paint 'cell' on 'a [0]'")
    dock.teach_first()
    assert dock.state.next_step.startswith("Press Propose")
    dock.controller.propose()
    assert dock.state.progress is not None and dock.state.progress.text == "Loading the model ..."
    dock.runner.finish()
    assert dock.state.progress is None
    for z in range(1, 4):
        np.testing.assert_array_equal(dock.layers.proposed(("a", z)), truth(z))
    assert dock.state.next_step.startswith("5 proposals wait for you")

    dock.show(("a", 1))
    dock.layers.proposal_stacks["a"][1, :3, :3] = 1  # a person's brush
    dock.controller.accept()
    expected = truth(1)
    expected[:3, :3] = 1
    np.testing.assert_array_equal(dock.layers.label_stacks["a"][1], expected)
    assert not dock.layers.proposal_stacks["a"][1].any()
    assert ("a", 1) in dock.session.support.keys, "what was accepted is a further shot"

    dock.view.request = ExportRequest((("a", tmp_path / "a.tif"),))
    dock.controller.export()
    dock.exporter.finish()
    assert [choice.file_name for choice in dock.view.choices] == ["a_labels.tif"]
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), dock.layers.label_stacks["a"])
    assert not dock.state.error


def test_the_slice_on_screen_comes_first_then_its_neighbours(dock: Dock) -> None:
    dock.teach_first()
    dock.show(("b", 1))
    dock.controller.propose()
    order = []
    while dock.runner.step():
        order += [key for key in dock.session.review_queue() if key not in order]
    assert order[:2] == [("b", 1), ("b", 0)]


def test_accepting_makes_the_open_proposals_anew_with_the_new_shot(dock: Dock) -> None:
    dock.propose_all()
    dock.show(("a", 1))
    dock.controller.accept()
    assert dock.runner.started == 2
    dock.runner.finish()
    assert [set(s.keys) for s in dock.segmenter.learnt] == [{("a", 0)}, {("a", 0), ("a", 1)}]


def test_proposals_are_not_made_anew_when_somebody_does_not_want_it(dock: Dock) -> None:
    dock.controller.set_refresh_after_decision(False)
    dock.propose_all()
    dock.show(("a", 1))
    dock.controller.accept()
    assert dock.runner.started == 1


def test_a_rejected_proposal_stays_away_until_one_asks_again(dock: Dock) -> None:
    dock.propose_all()
    dock.show(("a", 1))
    dock.controller.reject()
    assert not dock.layers.proposal_stacks["a"][1].any()
    dock.show(("a", 2))
    dock.controller.accept()
    dock.runner.finish()
    assert dock.session.state(("a", 1)) is FrameState.REJECTED
    dock.controller.propose()
    dock.runner.finish()
    assert dock.session.state(("a", 1)) is FrameState.PROPOSED


def test_next_to_review_goes_to_the_lowest_score(dock: Dock) -> None:
    dock.layers.stacks["b"][1] = np.random.default_rng(0).integers(80, 140, SIZE)  # hard: between dark and bright
    dock.propose_all()
    dock.controller.next_to_review()
    assert dock.layers.at == ("b", 1)
    assert dock.state.slice_line.startswith("b [1]: proposed, score")


def test_accept_all_above_counts_and_takes_only_good_ones(dock: Dock) -> None:
    dock.layers.stacks["b"][1] = np.random.default_rng(0).integers(80, 140, SIZE)
    dock.propose_all()
    dock.controller.set_accept_score(0.95)
    assert dock.state.above == 4
    dock.controller.accept_above()
    assert dock.session.state(("b", 1)) is FrameState.PROPOSED
    np.testing.assert_array_equal(dock.layers.label_stacks["a"][3], truth(3))
    assert dock.session.support.keys == (("a", 0),), "nobody looked at them, so they are no shots"


# ------------------------------------------------------------------------------------------- what a person painted
def test_what_a_person_painted_on_an_untaught_slice_survives_acceptance_and_is_part_of_it(dock: Dock) -> None:
    dock.propose_all()
    dock.controller.add_class()
    cross = np.zeros(SIZE, bool)
    cross[6:9, 6:9] = True  # inside the proposed square
    dock.paint(("a", 1), cross, value=2)
    dock.paint(("a", 1), np.roll(cross, 4, axis=0), value=PAINTED_BACKGROUND)
    dock.show(("a", 1))
    dock.controller.accept()
    layer = dock.layers.label_stacks["a"][1]
    assert (layer[cross] == 2).all()
    assert (layer[np.roll(cross, 4, axis=0)] == PAINTED_BACKGROUND).all()
    accepted = dock.session.labels(("a", 1))
    assert (accepted[cross] == 2).all() and not accepted[np.roll(cross, 4, axis=0)].any()


def test_proposals_never_reach_the_labels_layer_by_themselves(dock: Dock) -> None:
    dock.propose_all()
    np.testing.assert_array_equal(dock.layers.label_stacks["a"][0], truth(0))
    assert not dock.layers.label_stacks["a"][1:].any() and "b" not in dock.layers.label_stacks


def test_corrections_survive_a_new_proposal_even_when_nobody_told_about_them(dock: Dock) -> None:
    dock.propose_all()
    dock.layers.proposal_stacks["a"][2, 20:, 20:] = 1  # as after napari's own redo: no event at all
    dock.show(("a", 1))
    dock.controller.accept()
    dock.runner.finish()
    assert (dock.layers.proposal_stacks["a"][2, 20:, 20:] == 1).all()
    assert dock.session.state(("a", 2)) is FrameState.CORRECTED


def test_corrections_made_while_the_new_proposal_is_computed_survive_it(dock: Dock) -> None:
    dock.propose_all()
    dock.controller.propose()
    dock.layers.proposal_stacks["a"][2, 20:, 20:] = 1
    dock.runner.finish()
    assert (dock.layers.proposal_stacks["a"][2, 20:, 20:] == 1).all()


def test_background_brushed_on_a_proposal_means_nothing_is_there(dock: Dock) -> None:
    dock.propose_all()
    dock.layers.proposal_stacks["a"][1, 4:8] = PAINTED_BACKGROUND
    dock.show(("a", 1))
    dock.controller.accept()
    assert not dock.session.labels(("a", 1))[4:8].any()


def test_undo_takes_back_an_acceptance_and_no_pixel_of_a_person(dock: Dock) -> None:
    dock.propose_all()
    mine = np.zeros(SIZE, bool)
    mine[5, 5:9] = True
    dock.paint(("a", 1), mine)
    dock.show(("a", 1))
    dock.controller.accept()
    later = np.zeros(SIZE, bool)
    later[8, 8] = True
    dock.paint(("a", 1), later, value=2)  # over an accepted pixel
    dock.controller.undo()
    layer = dock.layers.label_stacks["a"][1]
    np.testing.assert_array_equal(layer != 0, mine | later)
    assert dock.session.state(("a", 1)) in (FrameState.PROPOSED, FrameState.CORRECTED)
    assert dock.layers.proposal_stacks["a"][1].any(), "the proposal is back"


def test_undo_takes_back_a_teaching_and_leaves_the_paint(dock: Dock) -> None:
    dock.teach_first()
    dock.controller.undo()
    assert len(dock.session.support) == 0
    np.testing.assert_array_equal(dock.layers.label_stacks["a"][0], truth(0))


def test_undo_takes_back_all_that_were_accepted_at_once(dock: Dock) -> None:
    dock.propose_all()
    dock.controller.set_accept_score(0.0)
    dock.controller.accept_above()
    dock.controller.undo()
    assert not dock.layers.label_stacks["a"][1:].any()
    assert len(dock.session.review_queue()) == 5


def test_a_deleted_labels_layer_comes_back_with_what_was_taught_and_accepted(dock: Dock) -> None:
    dock.propose_all()
    dock.show(("a", 1))
    dock.controller.accept()
    del dock.layers.label_stacks["a"]
    dock.controller.layers_changed()
    dock.show(("a", 0))
    dock.controller.paint()
    np.testing.assert_array_equal(dock.layers.label_stacks["a"][0], truth(0))
    np.testing.assert_array_equal(dock.layers.label_stacks["a"][1], truth(1))


def test_a_deleted_proposal_layer_comes_back_and_is_not_taken_for_erased_pixels(dock: Dock) -> None:
    dock.propose_all()
    del dock.layers.proposal_stacks["a"]
    dock.show(("a", 1))
    dock.controller.paint()
    np.testing.assert_array_equal(dock.layers.proposal_stacks["a"][2], truth(2))
    assert dock.session.state(("a", 2)) is FrameState.PROPOSED


# ------------------------------------------------------------------------------------------- runs
def test_results_of_an_overtaken_run_are_dropped(dock: Dock) -> None:
    dock.teach_first()
    dock.controller.propose()
    overtaken = (dock.runner.items, dock.runner.receive)
    dock.controller.propose()
    for item in overtaken[0]:
        overtaken[1](item)
    assert dock.session.review_queue() == [] and not dock.layers.proposal_stacks
    dock.runner.finish()
    assert len(dock.session.review_queue()) == 5


def test_cancelling_keeps_what_is_there_and_hears_nothing_more(dock: Dock) -> None:
    dock.teach_first()
    dock.controller.propose()
    for _ in range(3):  # two stages, one proposal
        dock.runner.step()
    dock.controller.cancel()
    dock.runner.step()
    assert len(dock.session.review_queue()) == 1
    assert dock.state.progress is None and Action.CANCEL not in dock.state.enabled


def test_progress_says_how_far_it_is_and_how_long_it_takes(dock: Dock) -> None:
    dock.teach_first()
    dock.controller.propose()
    for _ in range(5):
        dock.seconds += 2.0
        dock.runner.step()
    assert dock.state.progress is not None
    assert dock.state.progress.text == "3 of 5, about 4 s left"


def test_within_a_large_image_progress_goes_on_by_tiles(dock: Dock) -> None:
    """A tile takes a second. Two images have been taught, five are proposed for."""
    heard: list[tuple[str, float]] = []
    dock.segmenter.tiles = 10

    def on_tile(key: Any) -> None:
        assert dock.state.progress is not None
        heard.append((dock.state.progress.text, dock.state.progress.done + dock.state.progress.part))
        dock.seconds += 1.0

    dock.segmenter.on_tile = on_tile  # type: ignore[method-assign]
    dock.propose_all()
    texts = [text.replace("\u00a0", " ") for text, _ in heard]
    assert texts[0] == "Learning from what you taught ..."
    assert texts[9] == "Learning from what you taught ... 90 %"
    assert texts[10] == "0 of 5"
    assert texts[15] == "0 of 5, 50 % of the next, about 45 s left"
    assert texts[57] == "4 of 5, 70 % of the next, about 3 s left"
    assert [at for _, at in heard[10:]] == pytest.approx(np.arange(50) / 10)
    assert dock.state.progress is None and len(dock.session.review_queue()) == 5


def test_progress_on_a_single_large_image_is_told_without_counting_to_one() -> None:
    dock = Dock(a=np.stack([picture(0), picture(1)]))
    heard = []
    dock.segmenter.tiles = 4

    def on_tile(key: Any) -> None:
        heard.append(dock.state.progress.text)  # type: ignore[union-attr]
        dock.seconds += 30.0

    dock.segmenter.on_tile = on_tile  # type: ignore[method-assign]
    dock.propose_all()
    assert heard[-2:] == ["50\u00a0%, about 1 min 0 s left", "75\u00a0%, about 30 s left"]


@pytest.mark.parametrize("stage", ["learning", "proposing"])
def test_a_stop_takes_effect_within_one_tile(dock: Dock, stage: str) -> None:
    key = ("a", 0) if stage == "learning" else ("a", 1)
    dock.segmenter.tiles = 50

    def on_tile(seen: Any) -> None:
        if seen == key and dock.segmenter.tiles_seen.count(key) == 20:
            dock.controller.cancel()

    dock.teach_first()
    dock.segmenter.on_tile = on_tile  # type: ignore[method-assign]
    dock.controller.propose()
    while dock.runner.step():
        pass
    assert dock.segmenter.tiles_seen.count(key) == 20, "none after the stop"
    assert dock.segmenter.tiles_seen[-1] == key
    assert dock.session.review_queue() == [] and dock.state.progress is None and not dock.state.error

    dock.segmenter.on_tile = lambda key: None  # type: ignore[method-assign]
    dock.controller.propose()
    dock.runner.finish()
    assert len(dock.session.review_queue()) == 5
    np.testing.assert_array_equal(dock.layers.proposed(("a", 1)), truth(1))


def test_a_layer_deleted_during_a_run_stops_nothing(dock: Dock) -> None:
    dock.teach_first()
    dock.controller.propose()
    for _ in range(3):
        dock.runner.step()
    del dock.layers.stacks["b"]
    dock.controller.layers_changed()
    dock.runner.finish()
    assert {key[0] for key in dock.session.review_queue()} == {"a"}
    assert len(dock.session.review_queue()) == 3 and not dock.state.error


def test_what_was_taught_on_a_deleted_layer_is_not_forgotten(dock: Dock) -> None:
    dock.teach_first()
    del dock.layers.stacks["a"]
    dock.layers.at = ("b", 0)
    dock.controller.layers_changed()
    dock.controller.propose()
    dock.runner.finish()
    np.testing.assert_array_equal(dock.layers.proposal_stacks["b"][0], truth(5))


def test_one_bad_slice_is_told_about_and_the_others_go_on() -> None:
    images = np.stack([picture(z) for z in range(4)]).astype(np.float32)
    images[2, 0, 0] = np.nan
    dock = Dock(a=images)
    dock.layers.names["a"] = "wing"
    dock.propose_all()
    assert len(dock.session.review_queue()) == 2
    assert "'wing [2]' has 1 pixel value(s) that are NaN" in dock.state.error


def test_a_failing_segmenter_is_shown_and_nothing_is_lost(dock: Dock) -> None:
    dock.teach_first()

    def broken(support: Any, **_: Any) -> Any:
        raise RuntimeError("out of memory")

    dock.segmenter.learn = broken  # type: ignore[method-assign]
    dock.controller.propose()
    dock.runner.finish()
    assert "RuntimeError: out of memory" in dock.state.error
    assert isinstance(dock.view.unexpected[0], RuntimeError)
    assert dock.state.progress is None and len(dock.session.support) == 1


def test_a_defect_in_a_command_is_shown_and_raised(dock: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(dock.layers, "painted", lambda key: None)
    monkeypatch.setattr(dock.layers, "ensure_labels", broken)
    with pytest.raises(ZeroDivisionError):
        dock.controller.teach()
    assert "ZeroDivisionError: oops" in dock.state.error


# ------------------------------------------------------------------------------------------- messages
@pytest.mark.parametrize(
    ("press", "message"),
    [
        ("teach", "Nothing is painted on 'a [0]'"),
        ("propose", "Nothing has been taught yet"),
        ("accept", "There is no open proposal on 'a [0]'"),
        ("reject", "There is no open proposal on 'a [0]'"),
        ("next_to_review", "No proposal waits for a decision"),
        ("accept_above", "No open proposal scores 90\u00a0% or more"),
        ("undo", "There is nothing to take back"),
        ("redo", "There is nothing to do again"),
        ("export", "There are no labels to export yet"),
    ],
)
def test_every_button_pressed_too_early_says_what_to_do(press: str, message: str) -> None:
    dock = Dock(a=np.stack([picture(0)]))
    getattr(dock.controller, press)()
    assert dock.state.error.startswith(message)
    assert dock.view.messages[-1] == dock.state.error


_WITHOUT_AN_IMAGE = {Action.CANCEL, Action.UNDO, Action.REDO, Action.EXPORT, Action.REMOVE_CLASS, Action.CLEAR_KEPT}
_OF_OTHERS = OF_THE_WINDOW | OF_COMPANIONS


@pytest.mark.parametrize("press", [a.value for a in Action if a not in _WITHOUT_AN_IMAGE | _OF_OTHERS])
def test_no_button_needs_an_image_to_be_there(press: str) -> None:
    dock = Dock()
    getattr(dock.controller, press)()
    assert dock.state.error


def test_redo_does_again_what_undo_took_back_on_the_layers_as_well(dock: Dock) -> None:
    dock.controller.set_refresh_after_decision(False)
    dock.propose_all()
    dock.show(("a", 1))
    dock.controller.accept()
    accepted = dock.layers.label_stacks["a"][1].copy()
    assert accepted.any()
    dock.controller.undo()
    assert not dock.layers.label_stacks["a"][1].any() and dock.session.state(("a", 1)) is FrameState.PROPOSED
    assert Action.REDO in dock.state.enabled
    dock.controller.redo()
    np.testing.assert_array_equal(dock.layers.label_stacks["a"][1], accepted)
    assert not dock.layers.proposal_stacks["a"][1].any()
    assert dock.session.state(("a", 1)) is FrameState.ACCEPTED and Action.REDO not in dock.state.enabled


def test_what_was_done_since_makes_redo_impossible_and_stays(dock: Dock) -> None:
    dock.controller.set_refresh_after_decision(False)
    dock.propose_all()
    dock.show(("a", 1))
    dock.controller.reject()
    dock.controller.undo()
    dock.layers.proposal_stacks["a"][1, 0, 0] = 1  # a person's brush, which redo would lose
    dock.controller.redo()
    assert dock.state.error == "There is nothing to do again"
    assert dock.session.proposal(("a", 1)).labels[0, 0] == 1


def test_the_next_class_is_the_next_in_the_list_and_background_after_the_last(dock: Dock) -> None:
    dock.controller.add_class()
    dock.controller.select_brush(1)
    seen = []
    for _ in range(3):
        dock.controller.next_class()
        seen.append(dock.state.brush)
    assert seen == [2, PAINTED_BACKGROUND, 1]
    assert dock.layers.brush == (("a", 0), 1, False)


def test_an_error_goes_away_with_the_next_success(dock: Dock) -> None:
    dock.controller.teach()
    assert dock.state.error
    dock.teach_first()
    assert not dock.state.error


def test_an_error_can_be_dismissed(dock: Dock) -> None:
    dock.controller.teach()
    dock.controller.dismiss_error()
    assert not dock.state.error


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((1, *SIZE), np.nan, np.float32), "NaN or infinite"),
        (np.full((1, *SIZE), np.inf), "NaN or infinite"),
        (np.zeros((1, *SIZE), np.complex64), "holds values of type complex64"),
        (np.full((1, *SIZE), None, object), "holds values of type object"),
        (np.zeros((1, 8, 32)), "at least 16 x 16 are needed"),
    ],
)
def test_an_image_that_cannot_be_used_says_why_when_it_is_taught(image: np.ndarray, message: str) -> None:
    dock = Dock(a=image)
    dock.layers.ensure_labels("a")
    dock.layers.label_stacks["a"][0, 2:5, 2:5] = 1
    dock.controller.teach()
    assert message in dock.state.error and "'a [0]'" in dock.state.error
    assert dock.layers.label_stacks["a"].sum() == 9, "the paint is still there"


def test_labels_with_values_out_of_range_say_so(dock: Dock) -> None:
    dock.layers.label_stacks["a"] = np.full((4, *SIZE), 300, np.uint16)
    dock.controller.teach()
    assert "hold the value 300" in dock.state.error


def test_a_view_in_which_nothing_can_be_painted_is_the_next_step_to_mend(dock: Dock) -> None:
    dock.layers.trouble = "this is the 3D view; switch to 2D"
    dock.controller.slice_changed()
    assert dock.state.next_step == "This is the 3D view; switch to 2D"
    dock.controller.teach()
    assert dock.state.error == "This is the 3D view; switch to 2D"


def test_a_class_painted_nowhere_is_named(dock: Dock) -> None:
    dock.controller.add_class()
    dock.controller.change_class(LabelClass(2, "nucleus"))
    dock.teach_first()
    assert any("'nucleus' is painted nowhere yet" in message for message in dock.view.messages)
    assert "'nucleus' is painted nowhere yet" in dock.state.next_step


def test_strokes_without_any_background_ask_for_some(dock: Dock) -> None:
    dock.controller.set_unpainted("unknown")
    dock.teach_first()
    assert "brush some of it" in dock.state.next_step


def test_a_single_painted_pixel_is_enough(dock: Dock) -> None:
    dot = np.zeros(SIZE, bool)
    dot[6, 6] = True
    dock.paint(("a", 0), dot)
    dock.controller.teach()
    dock.controller.propose()
    dock.runner.finish()
    assert len(dock.session.review_queue()) == 5 and not dock.state.error


# ------------------------------------------------------------------------------------------- teaching
def test_nothing_here_teaches_an_empty_slice(dock: Dock) -> None:
    dock.show(("a", 3))
    dock.controller.nothing_here()
    (shot,) = dock.session.support
    assert shot.key == ("a", 3) and not shot.labels.any()
    assert dock.state.next_step.startswith("Only empty slices are taught so far")


def test_nothing_here_does_not_contradict_what_is_painted(dock: Dock) -> None:
    dock.paint(("a", 0), truth(0))
    dock.controller.nothing_here()
    assert "there is something painted on 'a [0]'" in dock.state.error.lower()
    assert not dock.session.support.shots


@pytest.mark.parametrize(
    ("meaning", "brushed", "expected"),
    [
        ("automatic", False, [0, 1, 0]),
        ("automatic", True, [255, 1, 0]),
        ("background", True, [0, 1, 0]),
        ("unknown", False, [255, 1, 255]),
    ],
)
def test_what_unpainted_pixels_mean(meaning: Any, brushed: bool, expected: list[int]) -> None:
    painted = np.array([[0, 1, PAINTED_BACKGROUND if brushed else 0]])
    assert shot_labels(painted, meaning).tolist() == [expected]


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int64])
def test_what_is_painted_on_a_layer_of_any_kind_is_understood_and_left_alone(kind: type) -> None:
    painted = np.array([[0, 1, 2]]).astype(kind)
    assert shot_labels(painted, "unknown").tolist() == [[255, 1, 2]]
    assert painted.tolist() == [[0, 1, 2]]


def test_teaching_again_makes_open_proposals_anew(dock: Dock) -> None:
    dock.propose_all()
    dock.show(("a", 3))
    dock.paint(("a", 3), truth(3))
    dock.controller.teach()
    assert dock.runner.started == 2
    assert not dock.layers.proposal_stacks["a"][3].any(), "a taught slice has no proposal"


# ------------------------------------------------------------------------------------------- classes and images
def test_the_brush_goes_to_the_proposal_where_one_is_open_and_to_the_labels_elsewhere(dock: Dock) -> None:
    dock.controller.paint()
    assert dock.layers.brush == (("a", 0), 1, False)
    dock.propose_all()
    dock.show(("a", 1))
    assert dock.state.correcting
    dock.controller.paint()
    assert dock.layers.brush == (("a", 1), 1, True)
    dock.controller.select_brush(PAINTED_BACKGROUND)
    assert dock.layers.brush == (("a", 1), 0, True), "background of a proposal is 0"


def test_a_class_that_is_painted_cannot_be_removed(dock: Dock) -> None:
    dock.paint(("a", 0), truth(0))
    dock.controller.remove_brush_class()
    assert "'cell' is painted on 'a labels'" in dock.state.error
    dock.controller.teach()
    dock.controller.remove_brush_class()
    assert "'cell' is painted on a taught image" in dock.state.error
    assert [c.name for c in dock.state.classes] == ["cell"]


def test_a_class_that_is_painted_nowhere_can_be_removed(dock: Dock) -> None:
    dock.controller.add_class()
    assert [c.id for c in dock.state.classes] == [1, 2] and dock.state.brush == 2
    dock.controller.remove_brush_class()
    assert [c.id for c in dock.state.classes] == [1] and dock.state.brush == 1
    assert list(dock.layers.classes) == list(dock.state.classes)


def test_an_unticked_image_gets_no_proposals_and_loses_none_of_its_paint(dock: Dock) -> None:
    dock.paint(("b", 0), truth(5))
    dock.controller.choose_image("b", False)
    dock.propose_all()
    assert {key[0] for key in dock.session.review_queue()} == {"a"}
    assert dock.layers.label_stacks["b"].any()
    dock.controller.choose_image("b", True)
    assert ("b", 0) in dock.session.frames


def test_another_channel_axis_forgets_the_shots_that_no_longer_fit() -> None:
    dock = Dock(a=np.stack([picture(z) for z in range(4)]))
    dock.teach_first()
    dock.controller.set_channel_axis("a", 0)
    assert not dock.session.support.shots


# ------------------------------------------------------------------------------------------- exporting
def test_open_proposals_are_exported_only_when_asked_for(dock: Dock, tmp_path: Path) -> None:
    dock.propose_all()
    dock.paint(("a", 2), np.eye(*SIZE), value=PAINTED_BACKGROUND)
    for with_proposals in (False, True):
        path = tmp_path / f"{with_proposals}.tif"
        dock.view.request = ExportRequest((("a", path),), with_proposals=with_proposals)
        dock.controller.export()
        dock.exporter.finish()
    without, with_them = tifffile.imread(tmp_path / "False.tif"), tifffile.imread(tmp_path / "True.tif")
    np.testing.assert_array_equal(without, np.stack([truth(0), *np.zeros((3, *SIZE))]))
    np.testing.assert_array_equal(with_them[3], truth(3))
    assert not with_them[2][np.eye(*SIZE, dtype=bool)].any(), "what a person called background stays background"


def test_a_table_of_objects_lists_decided_slices_and_who_decided(dock: Dock, tmp_path: Path) -> None:
    dock.propose_all()
    for with_proposals in (False, True):
        path = tmp_path / f"{with_proposals}.csv"
        dock.view.request = ExportRequest((("a", path),), with_proposals=with_proposals, format="csv")
        dock.controller.export()
        dock.exporter.finish()
    texts = [(tmp_path / f"{name}.csv").read_text("utf-8") for name in (False, True)]
    without, with_them = (list(csv.DictReader(text.splitlines())) for text in texts)
    assert {row["provenance"] for row in without} == {"painted"} and {row["score"] for row in without} == {""}
    assert {row["provenance"] for row in with_them} == {"painted", "proposed"}
    assert len({row["plane"] for row in without}) == 1 < len({row["plane"] for row in with_them})
    assert all(0 <= float(row["score"]) <= 1 for row in with_them if row["provenance"] == "proposed")


def test_who_labelled_what_is_exported_as_an_image_and_as_a_table(dock: Dock, tmp_path: Path) -> None:
    dock.propose_all()
    dock.show(("a", 1))
    dock.layers.proposal_stacks["a"][1, :3, :3] = 1  # a person's brush
    dock.controller.accept()
    dock.paint(("a", 3), np.eye(*SIZE))  # and not taught
    dock.view.request = ExportRequest((("a", tmp_path / "mine.nii.gz"),), format="nifti", with_origins=True)
    dock.controller.export()
    dock.exporter.finish()
    assert not dock.state.error
    origins = tifffile.imread(tmp_path / "a_labels_provenance.tif")
    assert origins.shape == (4, *SIZE) and origins.dtype == np.uint8
    session, painted = dock.session, np.eye(*SIZE, dtype=bool)
    for z in (0, 1, 2):
        np.testing.assert_array_equal(origins[z], session.origins(("a", z)))
    assert set(np.unique(origins[1])) == {Origin.CORRECTED, Origin.ACCEPTED}
    assert (origins[3][painted] == Origin.HUMAN).all() and (origins[3][~painted] == Origin.MODEL).all()
    with (tmp_path / "provenance.csv").open(encoding="utf-8") as file:
        rows = {row["frame"]: row for row in csv.DictReader(file)}
    assert set(rows) == {frame_name(key) for key in session.frames}
    for z in range(4):
        row = rows[frame_name(("a", z))]
        assert {o: int(row[f"pixels {o.title}"]) for o in Origin} == {o: int((origins[z] == o).sum()) for o in Origin}
    assert any("provenance.csv" in message for message in dock.view.messages)


def test_an_existing_file_is_not_overwritten_unless_that_was_agreed(dock: Dock, tmp_path: Path) -> None:
    dock.teach_first()
    path = tmp_path / "a.tif"
    path.write_bytes(b"precious")
    dock.view.request = ExportRequest((("a", path),))
    dock.controller.export()
    dock.exporter.finish()
    assert path.read_bytes() == b"precious" and "a.tif" in dock.state.error
    dock.view.request = ExportRequest((("a", path),), overwrite=True)
    dock.controller.export()
    dock.exporter.finish()
    assert tifffile.imread(path).shape == (4, *SIZE) and not dock.state.error


def test_changing_ones_mind_in_the_export_dialog_writes_nothing(dock: Dock) -> None:
    dock.teach_first()
    dock.view.request = None
    dock.controller.export()
    assert dock.exporter.started == 0 and not dock.state.error


def test_a_full_disk_is_told_about(dock: Dock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dock.teach_first()

    def full(*args: Any, **kwargs: Any) -> None:
        raise FewShotError("the disk is full; free some space")

    monkeypatch.setattr("napari_fewshot.ui.jobs.write_labels", full)
    dock.view.request = ExportRequest((("a", tmp_path / "a.tif"),))
    dock.controller.export()
    dock.exporter.finish()
    assert dock.state.error == "The disk is full; free some space"


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "1 s"), (59.4, "59 s"), (75, "1 min 15 s"), (7300, "2 h 1 min")])
def test_a_time_span_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


# ------------------------------------------------------------------------------------------- what a run will cost
def test_the_cost_of_a_run_is_told_before_it_starts_and_measured_while_it_goes_on(dock: Dock) -> None:
    assert dock.state.estimate.startswith("6 slices of 24 x 32: roughly 1 s, ")
    assert dock.state.estimate.endswith(" memory, 1 MiB disk") and not dock.state.warning
    dock.teach_first()
    assert dock.state.estimate.startswith("5 slices of 24 x 32: roughly"), "a taught slice costs nothing"
    dock.controller.propose()
    assert dock.state.estimate == "", "the progress tells"
    while dock.runner.step():
        dock.seconds += 20.0
    assert dock.state.estimate.startswith("5 slices of 24 x 32: roughly 15 s"), "features are kept: it is quicker"
    dock.features.cleared += 1
    dock.controller.clear_features()
    assert dock.state.estimate.startswith("5 slices of 24 x 32: about 1 min 40 s")


def test_nothing_is_told_where_nothing_is_left_to_propose() -> None:
    dock = Dock(a=np.stack([picture(0)]))
    dock.teach_first()
    assert dock.state.estimate == ""


@pytest.mark.parametrize(
    ("room", "limits", "message"),
    [
        (Room(1 << 10, 100 << 30), (1.0, 10.0), "Close other programs"),
        (Room(None, 1 << 30), (1.0, 10.0), "Free some space"),
        (Room(None, 100 << 30), (0.0001, 0.0001), "raise the limit for disk space"),
        (Room(None, 1 << 30), (0.0001, 0.0001), "tick fewer images at a time"),
        (Room(None, None), (1.0, 10.0), ""),
    ],
)
def test_what_there_is_not_enough_of_is_told_with_what_to_do_and_nothing_is_refused(
    dock: Dock, room: Room, limits: tuple[float, float], message: str
) -> None:
    dock.room = room
    dock.controller.set_limits(*limits)
    if message:
        assert message in dock.state.warning
    else:
        assert not dock.state.warning
    dock.propose_all()
    assert len(dock.session.review_queue()) == 5


# ------------------------------------------------------------------------------------------- kept features
def test_what_is_kept_is_told_after_a_run(dock: Dock) -> None:
    assert dock.state.kept == "Kept: 0 MiB in memory, 0 MiB on disk"
    dock.propose_all()
    dock.keeper.finish()
    assert dock.state.kept == "Kept: 1.5 GiB in memory, 5.0 GiB on disk"


def test_limits_take_effect_and_are_remembered(dock: Dock) -> None:
    dock.controller.set_limits(2.5, 0.0)
    assert dock.features.settings == CacheSettings(2.5, 0.0)
    assert dock.remembered == Preferences(2.5, 0.0)
    assert dock.keeper.started == 1


def test_kept_features_are_removed_only_when_a_person_is_sure(dock: Dock) -> None:
    dock.view.agrees = False
    dock.controller.clear_features()
    assert "Nothing that you painted" in dock.view.questions[0] and not dock.features.cleared
    dock.view.agrees = True
    dock.controller.clear_features()
    dock.keeper.finish()
    assert dock.features.cleared == 1 and dock.state.kept.startswith("Kept: 0 MiB")


# ------------------------------------------------------------------------------------------- preparing
def test_images_are_prepared_from_the_first_brush_on_the_shown_one_and_its_neighbours_first(dock: Dock) -> None:
    dock.show(("a", 2))
    assert dock.preparer.started == 0, "nobody has begun to work"
    dock.controller.paint()
    dock.preparer.finish()
    assert dock.segmenter.prepared == [("a", 2), ("a", 1), ("a", 3), ("a", 0), ("b", 0), ("b", 1)]
    dock.show(("b", 0))
    assert dock.preparer.started == 1, "all is ready"


def test_the_slice_that_comes_on_screen_is_prepared_next(dock: Dock) -> None:
    dock.controller.paint()
    dock.preparer.step()
    dock.show(("b", 1))
    dock.preparer.finish()
    assert dock.segmenter.prepared[:3] == [("a", 0), ("b", 1), ("b", 0)]
    assert sorted(dock.segmenter.prepared) == sorted(dock.session.frames), "each once"


def test_proposing_stops_preparing_and_what_it_computed_needs_none(dock: Dock) -> None:
    dock.teach_first()
    dock.preparer.step()
    dock.controller.propose()
    assert dock.preparer.stopped
    dock.show(("b", 0))
    assert dock.preparer.stopped, "not while proposals are made"
    dock.runner.finish()
    dock.preparer.finish()
    assert set(dock.segmenter.prepared) <= {("a", 0)}


@pytest.mark.parametrize("why", ["unticked", "no room", "no weights"])
def test_images_are_not_prepared_where_that_is_not_wanted_or_of_no_use(dock: Dock, why: str) -> None:
    if why == "unticked":
        dock.controller.set_prepare(False)
        assert not dock.remembered.prepare
    elif why == "no room":
        dock.controller.set_limits(0.0001, 0.0001)
        assert "more than the limits below allow to keep" in dock.state.not_preparing
    else:
        dock.features.lacks_weights = True  # nobody has agreed to a download
    dock.controller.paint()
    dock.preparer.finish()
    assert dock.segmenter.prepared == [] and not dock.state.error


def test_unticking_stops_preparing_and_ticking_goes_on(dock: Dock) -> None:
    dock.controller.paint()
    dock.preparer.step()
    dock.controller.set_prepare(False)
    assert dock.preparer.stopped
    dock.controller.set_prepare(True)
    dock.preparer.finish()
    assert len(dock.segmenter.prepared) == 6


def test_an_image_that_cannot_be_used_is_passed_over_while_preparing(dock: Dock) -> None:
    def prepare(frame: Frame) -> Iterator[None]:
        dock.segmenter.prepared.append(frame.key)
        if frame.key == ("a", 1):
            raise ImageError("it is not there")
        yield

    dock.segmenter.prepare = prepare  # type: ignore[method-assign]
    dock.controller.paint()
    dock.preparer.finish()
    assert len(dock.segmenter.prepared) == 6 and not dock.state.error and not dock.state.notices


def test_a_defect_while_preparing_is_told_and_stops_nothing_else(dock: Dock) -> None:
    def prepare(frame: Frame) -> Iterator[None]:
        raise ZeroDivisionError("oops")
        yield

    dock.segmenter.prepare = prepare  # type: ignore[method-assign]
    dock.controller.paint()
    dock.preparer.finish()
    assert dock.state.notices == ("Images are not prepared in the background: ZeroDivisionError: oops",)
    dock.propose_all()
    assert len(dock.session.review_queue()) == 5


# ------------------------------------------------------------------------------------------- a model by name
def test_a_model_that_is_named_is_used_when_its_terms_are_on_screen(dock: Dock) -> None:
    dock.controller.want_model(True)
    assert dock.state.model.text.startswith("Type the name") and dock.state.model.names == ()
    dock.librarian.finish()
    assert dock.state.model.names == ("convnext_tiny", "resnet18")
    dock.features.lacks_weights = True
    dock.controller.name_model(" convnext_tiny@2,3 ")
    assert dock.state.model.text == "Looking for convnext_tiny@2,3 ..." and dock.state.backbone == "auto"
    dock.librarian.finish()
    assert dock.state.backbone == dock.session.settings.backbone == "timm:convnext_tiny@2,3"
    assert "timm:convnext_tiny@2,3 are under a licence" in dock.state.model.text
    assert dock.state.model.text.endswith("downloaded once, the first time you press Propose.")
    assert not dock.state.model.is_trouble


def test_other_choices_stay_when_a_model_is_named(dock: Dock) -> None:
    dock.controller.want_model(True)
    dock.controller.use_settings(SegmenterSettings("panet", device="cpu"))
    dock.controller.name_model("timm:resnet18")
    dock.librarian.finish()
    assert dock.session.settings == SegmenterSettings("panet", "timm:resnet18", "cpu")
    assert dock.state.model.names, "asked for with the first name as well"


def test_a_name_that_nothing_has_changes_nothing_but_the_text(dock: Dock) -> None:
    dock.controller.want_model(True)
    dock.controller.name_model("resnet18")
    dock.librarian.finish()
    dock.controller.name_model("resnet81")
    dock.librarian.finish()
    assert dock.state.model.text == "Timm has no model timm:resnet81" and dock.state.model.is_trouble
    assert dock.session.settings.backbone == "timm:resnet18" and not dock.state.error
    dock.controller.name_model("  ")
    assert dock.state.model.text.startswith("Type the name") and not dock.state.model.is_trouble


def test_without_timm_that_is_told_at_once(dock: Dock) -> None:
    dock.features.has_timm = False
    dock.controller.want_model(True)
    dock.librarian.finish()
    assert "pip install" in dock.state.model.text and dock.state.model.is_trouble
    assert dock.session.settings.backbone == "auto"


def test_a_name_that_is_found_too_late_is_not_used_and_comes_back_with_the_entry(dock: Dock) -> None:
    dock.controller.want_model(True)
    dock.controller.name_model("resnet18")
    dock.controller.want_model(False)
    assert dock.librarian.stopped
    for item in list(dock.librarian.items):
        dock.librarian.receive(item)
    assert dock.session.settings.backbone == "auto"

    dock.controller.want_model(True)
    dock.controller.name_model("resnet18")
    dock.librarian.finish()
    dock.controller.want_model(False)
    dock.controller.use_settings(SegmenterSettings(backbone="scale-space"))
    dock.controller.want_model(True)
    assert dock.session.settings.backbone == "timm:resnet18" and "licence" in dock.state.model.text


def test_a_defect_while_looking_up_a_model_is_told(dock: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[str]:
        raise OSError("timm is half there")

    monkeypatch.setattr(dock.features, "model_names", broken)
    dock.controller.want_model(True)
    dock.librarian.finish()
    assert dock.state.model.text == "OSError: timm is half there" and dock.state.model.is_trouble


# ------------------------------------------------------------------------------------------- notices
def test_notices_of_a_run_are_shown_once_until_they_were_read(dock: Dock) -> None:
    propose = Brightness.propose

    def noting(concept: Brightness, frame: Frame, **options: Any) -> Proposal:
        dark = f"all pixels of '{frame.name}' have the same value" if frame.key[0] == "b" else "cuda ran out of memory"
        return replace(propose(concept, frame, **options), note=dark)

    dock.layers.names["b"] = "dish"
    dock.features.notice = "the disk is all but full"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Brightness, "propose", noting)
        dock.propose_all()
        assert set(dock.state.notices) == {
            "Cuda ran out of memory",
            "The disk is all but full",
            "All pixels of 'dish [0]' have the same value (and 1 more like it)",
        }
        dock.controller.dismiss_notices()
        dock.controller.propose()
        dock.runner.finish()
    assert dock.state.notices == ()


# ------------------------------------------------------------------------------------------- the correction path
def test_after_accepting_the_neighbours_come_first_and_the_pass_before_is_overtaken() -> None:
    dock = Dock(a=np.stack([picture(z) for z in range(7)]), b=np.stack([picture(0)]))
    dock.propose_all()
    dock.show(("a", 4))
    dock.controller.accept()
    first_pass = (dock.runner.items, dock.runner.receive)
    for _ in range(3):  # two stages, one proposal
        dock.runner.step()
    assert _fresh(dock) == [("a", 3)]
    dock.show(("a", 3))
    dock.layers.proposal_stacks["a"][3, 20:, 20:] = 1
    dock.controller.accept()
    before = list(first_pass[0])
    for item in before:
        first_pass[1](item)
    assert _fresh(dock) == [], "what the overtaken pass still finds is dropped"
    order = []
    while dock.runner.step():
        order += [key for key in _fresh(dock) if key not in order]
    assert order == [("a", 2), ("a", 1), ("a", 5), ("a", 6), ("b", 0)]
    assert dock.segmenter.learnt[-1].keys == (("a", 0), ("a", 4), ("a", 3))


def _fresh(dock: Dock) -> list[Any]:
    """Frames whose open proposal is of the newest pass."""
    waiting = dock.session.review_queue()
    return [key for key in waiting if dock.session.proposal(key).generation == dock.session.generation]  # type: ignore[union-attr]


def test_after_teaching_a_few_strokes_the_same_slice_comes_first(dock: Dock) -> None:
    dock.propose_all()
    dock.show(("b", 0))
    dock.paint(("b", 0), np.eye(*SIZE))
    dock.controller.set_unpainted("unknown")
    dock.controller.teach()
    for _ in range(3):
        dock.runner.step()
    assert _fresh(dock) == [("b", 0)]


# ---------------------------------------------------------------- boxes
AROUND = Box(4, 4, 14, 14)


def boxed_dock() -> Dock:
    dock = Dock(a=np.stack([picture(level) for level in range(3)]))
    dock.layers.drawn["a", 0] = [AROUND]
    return dock


def test_boxes_of_the_selected_class_are_drawn_until_the_brush_is_taken() -> None:
    dock = Dock(a=np.stack([picture(0)]))
    dock.controller.add_class()
    dock.controller.select_brush(1)
    dock.controller.draw_boxes()
    assert dock.layers.drawing == (("a", 0), 1)
    dock.controller.select_brush(2)
    assert dock.layers.drawing == (("a", 0), 2) and dock.layers.brush == (("a", 0), 1, False)
    dock.controller.select_brush(PAINTED_BACKGROUND)
    assert dock.layers.brush == (("a", 0), PAINTED_BACKGROUND, False)
    dock.controller.draw_boxes()
    assert dock.state.error == "Background needs no boxes; select a class in the list of classes first"


def test_boxes_are_taught_and_lead_to_proposals() -> None:
    dock = boxed_dock()
    dock.controller.edited()
    assert dock.state.slice_line == "a [0]: painted, not taught yet"
    dock.controller.teach()
    (shot,) = dock.session.support
    np.testing.assert_array_equal(shot.labels, box_labels(SIZE, [AROUND]))
    assert dock.layers.kept_boxes == [(("a", 0), 1)]
    dock.controller.propose()
    dock.runner.finish()
    np.testing.assert_array_equal(dock.layers.proposed(("a", 2)), truth(2))


def test_boxes_of_which_no_class_is_known_get_the_selected_one() -> None:
    dock = boxed_dock()
    dock.layers.drawn["a", 0] = [replace(AROUND, class_id=254)]
    dock.controller.add_class()
    dock.controller.teach()
    assert dock.session.support.class_ids == (2,)


@pytest.mark.parametrize(
    ("meaning", "brushes_background", "all_boxed"),
    [("automatic", False, True), ("automatic", True, False), ("background", True, True), ("unknown", False, False)],
)
def test_what_lies_outside_of_boxes_is_what_unpainted_pixels_are(
    meaning: Any, brushes_background: bool, all_boxed: bool
) -> None:
    painted = np.zeros(SIZE, np.uint8)
    painted[0, :5] = PAINTED_BACKGROUND if brushes_background else 0
    expected = box_labels(SIZE, [AROUND], all_boxed=all_boxed)
    if brushes_background:
        expected[0, :5] = 0
    np.testing.assert_array_equal(shot_labels(painted, meaning, [AROUND]), expected)


def test_what_is_painted_stands_over_boxes() -> None:
    painted = np.zeros(SIZE, np.uint8)
    painted[5, 5:9], painted[8, 5:9] = 3, PAINTED_BACKGROUND
    labels = shot_labels(painted, "background", [AROUND])
    assert (labels[5, 5:9] == 3).all() and (labels[8, 5:9] == 0).all()
    assert labels[9, 9] == 1


def test_a_slice_with_boxes_is_not_taught_as_empty() -> None:
    dock = boxed_dock()
    dock.controller.nothing_here()
    assert dock.state.error.startswith("There are boxes on 'a [0]'; delete them first, or teach them with")
    assert not dock.session.support.shots


# ---------------------------------------------------------------- what slices contain
def tagged_dock() -> Dock:
    dock = Dock(a=np.stack([picture(level) for level in range(4)]), b=np.stack([picture(0)]))
    dock.teach_first()
    dock.show(("a", 2))
    dock.controller.say_contains(1, True)
    return dock


def test_a_slice_is_said_to_contain_a_class_and_the_list_and_menu_show_it() -> None:
    dock = tagged_dock()
    assert dock.session.support.tag(("a", 2)).class_ids == (1,)  # type: ignore[union-attr]
    assert Action.CONTAINS in dock.state.enabled and dock.state.contained == {1}
    assert [image.contains for image in dock.state.images] == ["contains cell on 1 slice", ""]
    dock.show(("a", 3))
    assert dock.state.contained == frozenset()
    dock.controller.say_contains(1, True)
    assert dock.state.images[0].contains == "contains cell on 2 slices"
    dock.controller.say_contains(1, False)
    dock.controller.undo()
    assert dock.state.contained == {1}
    dock.controller.undo()
    dock.controller.undo()
    assert not dock.session.support.tags and dock.state.images[0].contains == ""


def test_several_classes_can_be_on_a_slice() -> None:
    dock = tagged_dock()
    dock.controller.add_class()
    dock.controller.say_contains(2, True)
    assert dock.state.contained == {1, 2}
    dock.controller.say_contains(1, False)
    assert dock.state.contained == {2}
    dock.controller.select_brush(2)
    dock.controller.remove_brush_class()
    assert "is said to contain that class; take its tag away first" in dock.state.error


def test_a_taught_slice_needs_no_tag() -> None:
    dock = tagged_dock()
    dock.show(("a", 0))
    assert Action.CONTAINS not in dock.state.enabled
    dock.controller.say_contains(1, True)
    assert "'a [0]' is taught already" in dock.state.error


def test_it_is_told_plainly_whether_the_method_makes_use_of_it() -> None:
    dock = tagged_dock()
    assert dock.state.tag_note == (
        "The method 'auto' makes no use of what slices contain. Choose 'fsil' under Advanced to learn from it."
    )
    dock.controller.use_settings(SegmenterSettings(method="fsil"))
    assert dock.state.tag_note == ""
    dock.controller.add_class()
    dock.controller.say_contains(2, True)
    assert dock.state.tag_note.startswith("'class 2' is painted nowhere yet")
    dock.controller.undo()
    dock.controller.undo()
    assert dock.state.tag_note == ""


@pytest.mark.parametrize(("method", "again"), [("fsil", 1), ("auto", 0)])
def test_proposals_are_made_anew_only_where_the_method_learns_from_it(method: str, again: int) -> None:
    dock = Dock(a=np.stack([picture(level) for level in range(3)]))
    dock.session._segmenter = LoadedSegmenter(SegmenterSettings(method=method), segmenter=dock.segmenter)
    dock.propose_all()
    before = dock.runner.started
    dock.show(("a", 2))
    dock.controller.say_contains(1, True)
    assert dock.runner.started == before + again
    dock.runner.finish()
    dock.controller.undo()
    assert dock.runner.started == before + 2 * again


def test_a_tag_outlives_its_layer_and_goes_with_another_channel_axis() -> None:
    dock = tagged_dock()
    image = dock.layers.stacks.pop("a")
    dock.controller.layers_changed()
    np.testing.assert_array_equal(dock.session.support.tags[0].frame.read(), picture(2))
    dock.layers.stacks["a"] = image
    dock.controller.layers_changed()
    dock.controller.set_channel_axis("a", None)
    assert not dock.session.support.tags


def test_paint_over_boxes_is_said_the_rest_of_them_guessed() -> None:
    dock = boxed_dock()
    stroke = np.zeros(SIZE, bool)
    stroke[9, 6:12] = True
    dock.paint(("a", 0), stroke)
    dock.controller.teach()
    (shot,) = dock.session.support
    np.testing.assert_array_equal(shot.said == 1, stroke)
    assert (shot.labels == 1).sum() > 50
    del dock.layers.label_stacks["a"]
    dock.controller.paint()
    np.testing.assert_array_equal(dock.layers.painted(("a", 0)) == 1, stroke)  # type: ignore[operator]
