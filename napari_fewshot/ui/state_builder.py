"""How things stand, put together for the dock to draw. Knows neither Qt nor napari."""

from dataclasses import replace

from napari_fewshot.errors import FewShotError
from napari_fewshot.frames import FrameKey
from napari_fewshot.session import FrameState, OpenProposal, Session
from napari_fewshot.support import SupportSet
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.cuts import Cuts
from napari_fewshot.ui.deciding import Deciding
from napari_fewshot.ui.doubt import Doubt
from napari_fewshot.ui.exporting import Exporting
from napari_fewshot.ui.model_choice import ModelChoice
from napari_fewshot.ui.next_step import Situation, next_step, percent
from napari_fewshot.ui.object_edits import ObjectEdits
from napari_fewshot.ui.palette import Palette
from napari_fewshot.ui.ports import Layers
from napari_fewshot.ui.proposing import Proposing
from napari_fewshot.ui.prospects import Prospect, Prospects
from napari_fewshot.ui.reporting import Reporter
from napari_fewshot.ui.review import Review
from napari_fewshot.ui.state import DockState, Overlay, Progress
from napari_fewshot.ui.teaching import Teaching
from napari_fewshot.ui.upkeep import Upkeep


class StateBuilder:
    """Asks all parts of the controller how they stand.

    Parameters
    ----------
    session
        What was taught, proposed and decided.
    layers
        The viewer's layers.
    reporter, palette, teaching, cuts, deciding, proposing, exporting, review, doubt, prospects, upkeep, models, edits
        The parts of the controller.
    """

    def __init__(
        self, session: Session, layers: Layers, *, reporter: Reporter, palette: Palette, teaching: Teaching, cuts: Cuts,
        deciding: Deciding, proposing: Proposing, exporting: Exporting, review: Review, doubt: Doubt,
        prospects: Prospects, upkeep: Upkeep, models: ModelChoice, edits: ObjectEdits,
    ) -> None:  # fmt: skip
        self._session, self._layers, self._reporter, self._palette = session, layers, reporter, palette
        self._teaching, self._deciding, self._proposing, self._exporting = teaching, deciding, proposing, exporting
        self._cuts = cuts
        self._review, self._doubt, self._prospects = review, doubt, prospects
        self._upkeep, self._models, self._edits = upkeep, models, edits

    def build(self) -> DockState:
        """Return how things stand now."""
        (key, painted, trouble), cut = self._on_screen(), self._cuts.shown
        if cut is not None:
            trouble = self._cuts.ask(cut)
        waiting = None if key is None else self._session.proposal(key)
        now = self._situation(key, waiting, painted=painted, trouble=trouble)
        support = self._session.support
        above = len(self._session.above(self._deciding.accept_score))
        tag = None if key is None else support.tag(key)
        prospect = Prospect() if now.running else self._prospects.now()
        return DockState(
            next_step=next_step(now),
            error=self._reporter.error,
            images=tuple(
                replace(image, contains=self._teaching.contained(image.uid)) for image in self._layers.images()
            ),
            review=self._review.table(key),
            classes=support.classes,
            brush=self._palette.brush,
            slice_line=_slice_line(now, "" if waiting is None else waiting.note),
            contained=frozenset(() if tag is None else tag.class_ids),
            tag_note=self._teaching.tag_note,
            overlay=self._doubt.overlay,
            overlay_note=self._doubt.note,
            above=above,
            enabled=self._enabled(now, support, above) | (_ON_CUTS if cut is not None else frozenset()),
            correcting=waiting is not None,
            progress=self._progress(),
            estimate=prospect.estimate,
            warning=prospect.warning,
            notices=self._reporter.notices.lines(),
            kept=self._upkeep.kept,
            not_preparing=prospect.not_preparing,
            backbone=self._session.settings.backbone,
            volume=self._session.propagation.volume,
            objects=self._session.settings.instances,
            tool=self._edits.tool,
            object_note=self._edits.note,
            model=self._models.state,
        )

    def _on_screen(self) -> tuple[FrameKey | None, bool, str]:
        """The frame on screen, whether anything is painted on it, and why nothing can be."""
        key = None
        try:
            shown = self._layers.shown()
            key = shown if shown in self._session.frames else None
            return key, key is not None and (self._layers.is_painted(key) or bool(self._teaching.boxes(key))), ""
        except FewShotError as error:
            return key, False, str(error)

    def _situation(
        self, key: FrameKey | None, waiting: OpenProposal | None, *, painted: bool, trouble: str
    ) -> Situation:
        images, session, support = self._layers.images(), self._session, self._session.support
        proposals = len(session.review_queue())
        open_states = (FrameState.UNTOUCHED, FrameState.REJECTED)
        return Situation(
            images=len(images),
            chosen=sum(image.chosen and not image.trouble for image in images),
            shown="" if key is None else self._layers.name(key),
            trouble=trouble[:1].upper() + trouble[1:],
            state=FrameState.UNTOUCHED if key is None else session.state(key),
            score=None if waiting is None else waiting.score,
            painted=painted,
            taught=key in support.keys,
            shots=len(support),
            has_class=bool(support.class_ids),
            has_background=not support.shots or support.has_background,
            classes=tuple(c.name for c in support.classes),
            unpainted=tuple(c.name for c in support.unpainted),
            proposals=proposals,
            running=self._proposing.is_running,
            undecided=bool(proposals)
            or not support.class_ids
            or any(session.state(k) in open_states for k in session.frames)
            or any(
                shot.is_partial and session.state(shot.key) is FrameState.TAUGHT
                for shot in support
                if shot.key in session.frames
            ),
        )

    def _enabled(self, now: Situation, support: SupportSet, above: int) -> frozenset[Action]:
        is_open = now.score is not None
        has_objects = bool(now.shown) and self._session.settings.instances
        rules = {
            Action.PAINT: bool(now.shown),
            Action.BOX: bool(now.shown and now.classes),
            Action.TEACH: bool(now.shown),
            Action.NOTHING_HERE: bool(now.shown),
            Action.PROPOSE: bool(now.chosen and support.class_ids),
            Action.CANCEL: now.running,
            Action.ACCEPT: is_open,
            Action.REJECT: is_open,
            Action.NEXT: now.proposals > 0,
            Action.BACK: self._review.can_go_back,
            Action.ACCEPT_ABOVE: above > 0,
            Action.ACCEPT_SELECTED: bool(self._review.selected_open),
            Action.REJECT_SELECTED: bool(self._review.selected_open),
            Action.UNCERTAINTY: is_open or self._doubt.overlay is Overlay.UNCERTAINTY,
            Action.CHANGE: is_open or self._doubt.overlay is Overlay.CHANGE,
            Action.PROBABILITY: is_open or self._doubt.overlay is Overlay.PROBABILITY,
            Action.PROVENANCE: bool(now.shown),
            Action.UNDO: self._session.can_undo,
            Action.REDO: self._session.can_redo,
            Action.MERGE: has_objects,
            Action.SPLIT: has_objects,
            Action.DELETE: has_objects,
            Action.LINK: has_objects,
            Action.EXPORT: bool(self._layers.label_layers()) and not self._exporting.stage,
            Action.NEXT_CLASS: bool(now.shown),
            Action.REMOVE_CLASS: bool(self._palette.class_id),
            Action.PREVIEW: is_open or self._doubt.overlay is Overlay.CLEAN_UP,
            Action.CLEAN: is_open,
            Action.CLEAN_ALL: now.proposals > 0,
            Action.CHECK: bool(support.class_ids),
            Action.ASIDE: now.taught,
            Action.CONTAINS: bool(now.shown and support.classes) and not now.taught,
        }
        return _ALWAYS | {action for action, is_possible in rules.items() if is_possible}

    def _progress(self) -> Progress | None:
        writing = self._exporting.stage
        return self._proposing.progress() or (Progress(0, 0, writing) if writing else None)


_ON_CUTS = frozenset({Action.PAINT, Action.TEACH, Action.NEXT_CLASS})
_ALWAYS = frozenset(
    {
        Action.ADD_CLASS,
        Action.IMAGES,
        Action.CLEAR_KEPT,
        Action.OPEN_SESSION,
        Action.VIEW,
        Action.KEYS,
        Action.TOUR,
    }
)


def _slice_line(now: Situation, note: str) -> str:
    if not now.shown:
        return ""
    words = {
        FrameState.UNTOUCHED: "painted, not taught yet" if now.painted else "nothing taught or proposed",
        FrameState.TAUGHT: "taught",
        FrameState.PROPOSED: "proposed",
        FrameState.CORRECTED: "proposed and corrected",
        FrameState.ACCEPTED: "accepted",
        FrameState.REJECTED: "rejected",
    }[now.state]
    score = "" if now.score is None else f", score {percent(now.score)}"
    return f"{now.shown}: {words}{score}" + (f" ({note})" if note else "")
