"""Which frames there are to look at, how they stand, and which comes next. Knows no Qt."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_fewshot.frames import Frame, FrameKey, image_name
from napari_fewshot.imaging.glimpse import Glimpse, likeness, unlike_every_shot
from napari_fewshot.session import FrameState, Session
from napari_fewshot.ui.jobs import Finished, Seen, glimpse_job
from napari_fewshot.ui.ports import Runner
from napari_fewshot.ui.state import ImageChoice, Order, ReviewRow, ReviewTable, Standing

_BLOCK = 1 << 20  # pixels that are counted at once
_DEPTH = 100  # frames to go back to

_Images = Callable[[], Sequence[ImageChoice]]
_Name = Callable[[FrameKey], str]


def expected_gain(score: float, likeness: float) -> float:
    """Tell how much a look at a proposal promises: the share of it that may be wrong, as far as anybody knows.

    The score is the IoU to expect of a frame that looks as the shots do. A frame that looks otherwise is less certain
    than it says, so the score counts only as much as the frame is like the shot that is nearest to it. Uncertain
    frames and those unlike all shots come first.

    Parameters
    ----------
    score
        Expected IoU, in [0, 1].
    likeness
        To the nearest shot in (0, 1], see `imaging.glimpse.likeness`; 1 where nothing is known of it.

    Examples
    --------
    >>> expected_gain(0.75, 1.0), expected_gain(0.75, 0.5)
    (0.25, 0.625)
    """
    return 1 - score * likeness


class Review:
    """The table of frames, kept in step with a session: of many frames only those that changed are looked at again.

    Parameters
    ----------
    session
        What was taught, proposed and decided.
    images
        Returns the image layers.
    name
        Returns what a frame is called now.
    looker
        A thread to look at images in.
    """

    changed = Signal(bool)
    """Pictures came in; whether all that were asked for are there."""

    def __init__(self, session: Session, images: _Images, name: _Name, looker: Runner) -> None:
        self.order = Order.GAIN
        self._session, self._images, self._name, self._looker = session, images, name, looker
        self._rows: dict[FrameKey, ReviewRow] = {}
        self._all: tuple[ReviewRow, ...] | None = None
        self._dirty: set[FrameKey] = set()
        self._gains_are_old = True
        self._known_images: dict[str, ImageChoice] = {}
        self._glimpses: dict[FrameKey, Glimpse | None] = {}
        self._to_look_at: deque[Frame] = deque()
        self._is_looking = False
        self._selected: tuple[FrameKey, ...] = ()
        self._been_at: list[FrameKey] = []
        session.frame_changed.connect(self._on_frame)
        session.support_changed.connect(self._on_support)

    # ------------------------------------------------------------------ the table
    def follow(self) -> None:
        """Catch up with frames that came, went or were renamed, and with images whose pixels were replaced."""
        images = {image.uid: replace(image, chosen=True) for image in self._images()}
        before = self._known_images
        changed = {uid for uid, image in images.items() if before.get(uid) != image}
        repainted = {uid for uid in changed if uid in before and before[uid].revision != images[uid].revision}
        self._known_images = images
        if repainted:
            self._glimpses = {key: seen for key, seen in self._glimpses.items() if image_name(key) not in repainted}
        frames, rows = self._session.frames, self._rows
        if list(frames) == list(rows) and not changed:
            return
        self._rows = {}
        for place, key in enumerate(frames):
            row = rows.get(key)
            if row is None or row.place != place or image_name(key) in changed:
                row = ReviewRow(key, self._name(key), place)
                self._dirty.add(key)
            self._rows[key] = row
        self._all = None

    def table(self, shown: FrameKey | None) -> ReviewTable:
        """Return the table as it is now."""
        return ReviewTable(self.rows(), shown, self.order, self._selection_in_words())

    def rows(self) -> tuple[ReviewRow, ...]:
        """Return a row for each frame, in their order; rows of which nothing changed are the same objects."""
        dirty, self._dirty = self._dirty, set()
        for key in dirty:
            row = self._rows.get(key)
            if row is not None and key in self._session.frames:
                self._rows[key] = self._made_anew(row)
                self._all = None
        if self._gains_are_old or dirty:
            self._weigh(None if self._gains_are_old else dirty)
            self._gains_are_old = False
        if self._all is None:
            self._all = tuple(self._rows.values())
        return self._all

    def _made_anew(self, row: ReviewRow) -> ReviewRow:
        session, key = self._session, row.key
        waiting, tag, seen = session.proposal(key), session.support.tag(key), self._glimpses.get(key)
        standing = self._standing(key)
        labels = session.labels(key) if waiting is None else waiting.labels
        counts = {} if labels is None else _count(labels)
        pixels = sum(count for label, count in counts.items() if label)
        return replace(
            row,
            standing=standing,
            score=None if waiting is None else waiting.score,
            gain=None if waiting is None else row.gain,
            class_ids=tuple(label for label in counts if label),
            pixels=pixels,
            area=None if labels is None else pixels / max(1, labels.size),
            contains=() if tag is None else tag.class_ids,
            picture=None if seen is None else seen.picture,
        )

    def _standing(self, key: FrameKey) -> Standing:
        if key in self._session.aside:
            return Standing.ASIDE
        state = self._session.state(key)
        if state is FrameState.TAUGHT:
            shot = next(shot for shot in self._session.support if shot.key == key)
            if not shot.class_ids and not shot.is_partial:
                return Standing.NOTHING_HERE
        return Standing(state.value)

    def _weigh(self, keys: Iterable[FrameKey] | None) -> None:
        """Find out the expected gain of rows, all of them for None."""
        rows = self._rows.values() if keys is None else [self._rows[key] for key in keys if key in self._rows]
        scored = [row for row in rows if row.score is not None]
        shots = [seen.brightness for key in self._session.support.keys if (seen := self._glimpses.get(key)) is not None]
        known = [row for row in scored if self._glimpses.get(row.key) is not None]
        alike = likeness([self._glimpses[row.key].brightness for row in known], shots)  # type: ignore[union-attr]
        by_key = dict(zip((row.key for row in known), alike.tolist(), strict=True))
        for row in scored:
            assert row.score is not None
            gain = expected_gain(row.score, by_key.get(row.key, 1.0))
            if gain != row.gain:
                self._rows[row.key] = replace(row, gain=gain)
                self._all = None

    # ------------------------------------------------------------------ one after the other
    def next(self, here: FrameKey | None) -> FrameKey | None:
        """Return the open proposal that comes after this frame in the chosen order, from the last on to the first."""
        self.rows()
        open_rows = sorted((row for row in self._rows.values() if row.gain is not None), key=self._rank)
        if not open_rows:
            return None
        at = None if here is None else self._rows.get(here)
        if at is None or (at.gain is None and self.order is Order.GAIN):
            return open_rows[0].key
        rank = self._rank(at)
        return next((row.key for row in open_rows if self._rank(row) > rank), open_rows[0].key)

    def _rank(self, row: ReviewRow) -> tuple[float, int]:
        return (0.0 if self.order is Order.PLACE else -(row.gain or 0.0), row.place)

    def left(self, key: FrameKey | None) -> None:
        """Take note that somebody goes from this frame to another one."""
        if key is not None and self._been_at[-1:] != [key]:
            self._been_at = [*self._been_at, key][-_DEPTH:]

    def back(self, here: FrameKey | None) -> FrameKey | None:
        """Return where somebody was before, and forget that they were."""
        while self._been_at:
            key = self._been_at.pop()
            if key != here and key in self._session.frames:
                return key
        return None

    @property
    def can_go_back(self) -> bool:
        """Whether somebody was elsewhere before."""
        return bool(self._been_at)

    # ------------------------------------------------------------------ selected rows
    def select(self, keys: Iterable[FrameKey]) -> None:
        """Take note of the rows that are selected."""
        self._selected = tuple(keys)

    @property
    def selected_open(self) -> list[FrameKey]:
        """Selected frames whose proposal waits for a decision."""
        return [key for key in self._selected if self._session.proposal(key) is not None]

    def _selection_in_words(self) -> str:
        chosen = sum(key in self._rows for key in self._selected)
        if chosen < 2:
            return ""
        waiting = len(self.selected_open)
        waits = {0: "none waits", 1: "1 waits", chosen: "all wait"}.get(waiting, f"{waiting} wait")
        return f"{chosen} rows selected, {waits} for a decision"

    # ------------------------------------------------------------------ what images look like
    @property
    def seen(self) -> frozenset[FrameKey]:
        """Frames of which it is known what they look like."""
        return frozenset(self._glimpses)

    def look_at(self, keys: Iterable[FrameKey]) -> None:
        """Make small pictures of these frames in the background, the last ones that were asked for first."""
        waiting = {frame.key for frame in tuple(self._to_look_at)}
        wanted = [key for key in keys if key in self._session.frames and key not in self._glimpses]
        for key in reversed(wanted):
            if key not in waiting:
                self._to_look_at.appendleft(self._session.frame(key))
        self._look()

    def _look(self) -> None:
        if self._to_look_at and not self._is_looking:
            self._is_looking = True
            self._looker.start(partial(glimpse_job, self._to_look_at), self._receive, 0)

    def _receive(self, item: object) -> None:
        match item:
            case Seen():
                self.add(item)
                self.changed.emit(False)
            case Finished():
                self._is_looking = False
                self._look()
                self.changed.emit(True)

    def add(self, seen: Seen) -> None:
        """Take note of what a frame looks like."""
        self._glimpses[seen.key] = seen.glimpse
        self._dirty.add(seen.key)
        if seen.key in self._session.support.keys:
            self._gains_are_old = True

    def unlike_every_shot(self) -> list[FrameKey]:
        """Return open frames that look like nothing that was taught, as far as they were looked at."""
        session, glimpses = self._session, self._glimpses
        shots = [seen.brightness for key in session.learnt_from.keys if (seen := glimpses.get(key)) is not None]
        done = (FrameState.TAUGHT, FrameState.ACCEPTED)
        known = {k: seen for k, seen in glimpses.items() if seen is not None and k in session.frames}
        keys = [key for key in known if session.state(key) not in done]
        unlike = unlike_every_shot([known[key].brightness for key in keys], shots)
        return [key for key, is_unlike in zip(keys, unlike.tolist(), strict=True) if is_unlike]

    # ------------------------------------------------------------------ following the session
    def _on_frame(self, key: FrameKey) -> None:
        self._dirty.add(key)

    def _on_support(self, _: object = None) -> None:
        self._gains_are_old = True


def _count(labels: npt.NDArray[np.integer]) -> dict[int, int]:
    """Count the pixels of each value that occurs, a block at a time: counting takes eight times their memory."""
    flat = labels.reshape(-1)
    counts = np.zeros(256, np.int64)
    for begin in range(0, flat.size, _BLOCK):
        counts += np.bincount(flat[begin : begin + _BLOCK], minlength=256)
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
