"""What proposals are unsure of, and who labelled what: kept, and shown over the slice on screen. Knows no Qt."""

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_fewshot.frames import FrameKey
from napari_fewshot.provenance import Origin
from napari_fewshot.session import OpenProposal, Session
from napari_fewshot.support import BACKGROUND
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.jobs import Evidence
from napari_fewshot.ui.keymap import with_key
from napari_fewshot.ui.ports import Layers
from napari_fewshot.ui.state import Overlay, OverlayPicture

ADDED, REMOVED, RELABELLED = 1, 2, 3
"""Values of the picture of a change: labelled only now, no longer, or as another class."""

_MOST_BYTES = 256 << 20
_HUMAN = (Origin.HUMAN, Origin.CORRECTED)


@dataclass(frozen=True, eq=False)
class _Kept:
    """What is known of an open proposal besides its labels."""

    evidence: Evidence
    generation: int
    before: npt.NDArray[np.uint8] | None

    @property
    def nbytes(self) -> int:
        return self.evidence.probabilities.nbytes + (0 if self.before is None else self.before.nbytes)


@dataclass(frozen=True, eq=False)
class Preview:
    """An open proposal, and what tidying would make of it."""

    key: FrameKey
    before: OpenProposal
    after: OpenProposal


class Doubt:
    """Keeps the probabilities of proposals within a limit, and lays a picture of them over the slice on screen.

    Parameters
    ----------
    session
        Has the open proposals.
    layers
        Where pictures are shown.
    most_bytes
        What may be kept; the proposal that came last always is.
    """

    def __init__(self, session: Session, layers: Layers, most_bytes: int = _MOST_BYTES) -> None:
        self.overlay: Overlay | None = None
        self.preview: Preview | None = None
        """What tidying would make of an open proposal."""
        self.note = ""
        self._session, self._layers, self._most_bytes = session, layers, most_bytes
        self._arrived: Evidence | None = None
        self._kept: OrderedDict[FrameKey, _Kept] = OrderedDict()
        self._bytes = 0
        self._drawn: tuple[object, ...] | None = None
        self._changes: Counter[FrameKey] = Counter()
        session.frame_changed.connect(self._on_frame)

    # ------------------------------------------------------------------ keeping
    def arrived(self, evidence: Evidence) -> None:
        """Take note of probabilities; the proposal of the same frame follows."""
        self._arrived = evidence

    def keep(self, key: FrameKey, before: OpenProposal | None) -> None:
        """Keep what arrived for a frame, now that its proposal was recorded; ``before`` was open there until now."""
        evidence, self._arrived = self._arrived, None
        waiting = self._session.proposal(key)
        if evidence is None or waiting is None or evidence.key != key:
            return
        self._drop(key)
        kept = _Kept(evidence, waiting.generation, None if before is None else before.labels)
        self._kept[key] = kept
        self._bytes += kept.nbytes
        while self._bytes > self._most_bytes and len(self._kept) > 1:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: FrameKey) -> None:
        kept = self._kept.pop(key, None)
        self._bytes -= 0 if kept is None else kept.nbytes

    def evidence(self, key: FrameKey) -> Evidence | None:
        """Return the probabilities of the open proposal of a frame, as far as they are known."""
        known = self._known(key)
        return None if known is None else known.evidence

    def lacks(self, key: FrameKey) -> bool:
        """Whether there is an open proposal on a frame of which nothing else is known (any more)."""
        return self._session.proposal(key) is not None and self._known(key) is None

    def _known(self, key: FrameKey) -> _Kept | None:
        """What is kept of the proposal that is open; undo may have brought back another one."""
        kept, waiting = self._kept.get(key), self._session.proposal(key)
        if kept is None or waiting is None or kept.generation != waiting.generation:
            return None
        return kept if kept.evidence.probabilities.shape[1:] == waiting.labels.shape else None

    # ------------------------------------------------------------------ showing
    def toggle(self, overlay: Overlay) -> bool:
        """Show this, or no longer. Returns whether it is shown now."""
        self.overlay = None if self.overlay is overlay else overlay
        return self.overlay is not None

    def draw(self, key: FrameKey | None, class_id: int, class_name: str) -> None:
        """Bring the picture over the slice on screen up to date; costs next to nothing where nothing changed.

        Parameters
        ----------
        key
            The slice on screen.
        class_id, class_name
            The class whose probability is asked for, 0 for background.
        """
        if self._drawn is not None and not self._layers.has_overlay():
            self.overlay = None  # somebody deleted its layer
        if self.overlay is Overlay.PROVENANCE:
            self._draw_provenance(key)
            return
        if self.overlay is Overlay.CLEAN_UP:
            self._draw_clean_up(key)
            return
        waiting = None if key is None else self._session.proposal(key)
        known = None if key is None else self._known(key)
        wanted = (self.overlay, key, waiting, known, class_id, class_name)
        if self.overlay is None or key is None or waiting is None or known is None:
            self.note = self._why_not(waiting)
            self._hide()
        elif wanted != self._drawn:
            picture = self._picture(self.overlay, key, waiting, known, class_id, class_name)
            if picture is None:
                self._hide()
            else:
                self.note = _LEGENDS[self.overlay]
                self._layers.show_overlay(key, picture)
                self._drawn = wanted

    def _draw_clean_up(self, key: FrameKey | None) -> None:
        """Show what tidying would change; its part of the dock says what there is to say."""
        waiting, preview = None if key is None else self._session.proposal(key), self.preview
        wanted = (self.overlay, key, waiting, preview)
        if wanted == self._drawn:
            return
        self.note = ""
        if key is None or waiting is None or preview is None or preview.before is not waiting:
            self._hide()
        else:
            values = change(waiting.labels, preview.after.labels)
            self._layers.show_overlay(key, OverlayPicture(Overlay.CLEAN_UP, "clean-up preview", values))
            self._drawn = wanted

    def _draw_provenance(self, key: FrameKey | None) -> None:
        wanted = (self.overlay, key, None if key is None else self._changes[key])
        if wanted == self._drawn:
            return
        origins = None if key is None else self._session.origins(key)
        if key is None or origins is None:
            self.note = "Nothing to show here: nothing is taught, proposed or accepted on this slice."
            self._hide()
        else:
            self.note = _LEGENDS[Overlay.PROVENANCE]
            self._layers.show_overlay(key, OverlayPicture(Overlay.PROVENANCE, "who labelled it", origins))
            self._drawn = wanted

    def _on_frame(self, key: FrameKey) -> None:
        self._changes[key] += 1

    def _hide(self) -> None:
        if self._drawn is not None:
            self._drawn = None
            self._layers.hide_overlay()

    def _why_not(self, waiting: OpenProposal | None) -> str:
        if self.overlay is None:
            return ""
        if waiting is None:
            return "Nothing to show here: this slice has no open proposal."
        return f"Not known any more for this slice. Press {with_key(Action.PROPOSE)} to find out anew."

    def _picture(
        self, overlay: Overlay, key: FrameKey, waiting: OpenProposal, known: _Kept, class_id: int, class_name: str
    ) -> OverlayPicture | None:
        if overlay is Overlay.UNCERTAINTY:
            return OverlayPicture(overlay, "uncertainty", uncertainty(known.evidence, waiting, self._by_hand(key)))
        if overlay is Overlay.PROBABILITY:
            if class_id not in known.evidence.label_ids:
                self.note = f"'{class_name}' was not known when this proposal was made."
                return None
            plane = known.evidence.probabilities[known.evidence.label_ids.index(class_id)]
            return OverlayPicture(overlay, f"probability of {class_name}", plane.astype(np.float32) / 255)
        if known.before is None or known.before.shape != waiting.labels.shape:
            self.note = "There was only one proposal on this slice so far."
            return None
        return OverlayPicture(overlay, "last change", change(known.before, waiting.labels))

    def _by_hand(self, key: FrameKey) -> npt.NDArray[np.bool_] | None:
        origins = self._session.origins(key)
        return None if origins is None else np.isin(origins, _HUMAN)


_LEGENDS = {
    Overlay.UNCERTAINTY: "Red: the proposal may as well be wrong there. What you painted is never uncertain.",
    Overlay.CHANGE: "Since the proposal before: green came, magenta went, yellow is another class now.",
    Overlay.PROBABILITY: "The brighter, the more probable is the selected class, or background, there.",
    Overlay.PROVENANCE: "Blue: you painted or taught it; light blue: guessed from your boxes. Orange: you corrected a "
    "proposal. Green: you accepted it as proposed. Grey: proposed, not decided yet.",
}


def uncertainty(
    evidence: Evidence, waiting: OpenProposal, by_hand: npt.NDArray[np.bool_] | None
) -> npt.NDArray[np.float32]:
    """Return how probably each pixel of a proposal is wrong (H, W) in [0, 1]: 0 where a person said what it is."""
    doubt = np.ones(waiting.labels.shape, np.float32)
    for label, plane in zip(evidence.label_ids, evidence.probabilities, strict=True):
        here = waiting.labels == label
        doubt[here] -= plane[here] / np.float32(255)
    if by_hand is not None:
        doubt[by_hand] = 0
    return doubt


def change(before: npt.NDArray[Any], now: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return what differs between two label maps (H, W): 0, `ADDED`, `REMOVED` or `RELABELLED`."""
    was, is_now = before != BACKGROUND, now != BACKGROUND
    kinds = [~was & is_now, was & ~is_now, was & is_now & (before != now)]
    return np.select(kinds, [ADDED, REMOVED, RELABELLED], 0).astype(np.uint8)
