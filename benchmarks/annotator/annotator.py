"""Somebody who labels a stack with the dock, by mouse and keys, and a log of every pixel that they change.

The first frame is painted by hand and taught; then proposals are asked for, and one after the other, in the order of
*Next to review*, corrected as far as it takes and accepted. Where more is wrong than there is to paint, the proposal is
rejected, and the frame painted and taught. The dock makes what is still open anew after each.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.annotator.hand import Hand
from benchmarks.annotator.strokes import Plan, Stroke, mean_iou
from napari_fewshot.support import BACKGROUND, UNLABELLED
from napari_fewshot.ui.actions import Action

_ROLES: Final = (" labels", " proposals")  # how the names of layers end that are painted on


@dataclass(frozen=True)
class FrameWork:
    """What one frame cost.

    Attributes
    ----------
    place
        Of the frame in the stack.
    proposed
        IoU of what the dock proposed; 0 on the frame that was painted by hand.
    strokes
        Of the brush.
    changed
        Pixels whose value the mouse changed, on all layers.
    truth
        Pixels that painting by hand takes: those of all classes in the truth.
    """

    place: int
    proposed: float
    strokes: int
    changed: int
    truth: int


@dataclass
class Log:
    """What a stack cost, and what came out: IoU of the labels layer for each frame."""

    frames: list[FrameWork] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)
    seconds: float = 0.0
    planning: float = 0.0
    """Seconds of these for finding out where to paint next, for which a person has eyes."""

    @property
    def effort(self) -> float:
        """Pixels changed by the mouse, the first frame included, as a share of painting everything by hand."""
        return sum(work.changed for work in self.frames) / sum(work.truth for work in self.frames)

    @property
    def strokes(self) -> int:
        """Strokes of the brush on all frames."""
        return sum(work.strokes for work in self.frames)


class Annotator:
    """Labels one stack until each frame is good enough.

    Parameters
    ----------
    viewer
        A shown napari viewer with one image (Z, Y, X).
    dock
        The dock in it, with the classes of the truth.
    truth
        (Z, Y, X): 0 background, classes, 255 where nothing is known.
    enough
        IoU in (0, 1] at which a frame is accepted.
    tell
        Called with each frame that is done.
    """

    def __init__(
        self,
        viewer: Any,
        dock: Any,
        truth: npt.NDArray[Any],
        enough: float = 0.9,
        tell: Callable[[FrameWork], None] = lambda _: None,
    ) -> None:
        self._viewer, self._dock, self._truth, self._enough, self._tell = viewer, dock, truth, enough, tell
        self._hand = Hand(viewer, dock)
        self._planning = 0.0

    def label(self) -> Log:
        """Label every frame, beginning with the first that shows anything."""
        log, begun = Log(), time.perf_counter()
        shown = ((self._truth != BACKGROUND) & (self._truth != UNLABELLED)).any(axis=(1, 2))
        self._viewer.dims.set_current_step(0, int(shown.argmax()))
        self._note(log, self._mend())
        self._hand.press(Action.TEACH)
        self._hand.press(Action.PROPOSE)
        while self._dock.controller.session.review_queue():
            self._hand.press(Action.NEXT)
            self._note(log, self._review())
            assert len(log.frames) <= len(self._truth), "a frame that was accepted came back"
        labels = self._layer("labels").data
        log.ious = [mean_iou(labels[z], truth) for z, truth in enumerate(self._truth)]
        log.seconds, log.planning = time.perf_counter() - begun, self._planning
        return log

    def _note(self, log: Log, work: FrameWork) -> None:
        log.frames.append(work)
        self._tell(work)

    def _review(self) -> FrameWork:
        """Correct and accept the proposal on screen; paint anew what is more work to correct than to paint."""
        place = int(self._viewer.dims.current_step[0])
        truth, proposal = self._truth[place], self._layer("proposals").data[place]
        known = truth != UNLABELLED
        if np.count_nonzero(known & (proposal != truth)) <= np.count_nonzero(known & (truth != BACKGROUND)):
            work = self._mend()
            self._hand.press(Action.ACCEPT)
            return work
        proposed = mean_iou(proposal, truth)
        self._hand.press(Action.REJECT)
        work = replace(self._mend(), proposed=proposed)
        self._hand.press(Action.TEACH)
        return work

    def _mend(self) -> FrameWork:
        """Paint on the frame on screen until it is good enough."""
        place = int(self._viewer.dims.current_step[0])
        truth = self._truth[place]
        self._hand.press(Action.PAINT)
        painted = self._viewer.layers.selection.active
        proposed, strokes, changed = mean_iou(painted.data[place], truth), 0, 0
        stacks = {layer: layer.data.copy() for layer in self._viewer.layers if layer.name.endswith(_ROLES)}
        for stroke in self._strokes(painted, place):
            before = {layer: layer.data[place].copy() for layer in stacks}
            self._hand.paint(stroke)
            now = sum(int(np.count_nonzero(layer.data[place] != plane)) for layer, plane in before.items())
            assert now, f"a stroke changed nothing: {stroke}"
            strokes, changed = strokes + 1, changed + now
        for layer, stack in stacks.items():
            stack[place] = layer.data[place]
            assert np.array_equal(layer.data, stack), "painting changed a frame that was not on screen"
        whole = int(((truth != BACKGROUND) & (truth != UNLABELLED)).sum())
        return FrameWork(place, proposed, strokes, changed, whole)

    def _strokes(self, layer: Any, place: int) -> Iterator[Stroke]:
        """Find out where to paint next, again and again, until it is good enough."""
        truth, begun = self._truth[place], time.perf_counter()
        for stroke in Plan(truth).strokes(lambda: layer.data[place]):
            enough = mean_iou(layer.data[place], truth) >= self._enough
            self._planning += time.perf_counter() - begun
            if enough:
                return
            yield stroke
            begun = time.perf_counter()

    def _layer(self, role: str) -> Any:
        return next(layer for layer in self._viewer.layers if layer.name.endswith(f" {role}"))
