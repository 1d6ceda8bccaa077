"""Decisions on frames: what is taught, corrected, edited, accepted and rejected, and how it is taken back."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_fewshot.errors import MaskError, SupportError
from napari_fewshot.frames import Frame, FrameKey, Labels, frame_name, image_name
from napari_fewshot.proposals import Proposal
from napari_fewshot.session.decisions import accepted, forgotten, rejected, taught, with_names
from napari_fewshot.session.frame_list import FrameList
from napari_fewshot.session.history import History
from napari_fewshot.session.object_numbers import ObjectNumbers
from napari_fewshot.session.objects import aligned, followed, mended, numbered_shots, renumbered
from napari_fewshot.session.open_proposals import corrected, opened
from napari_fewshot.session.run import Run
from napari_fewshot.session.state import OpenProposal, SessionState, differs
from napari_fewshot.session.view import SessionView
from napari_fewshot.support import UNLABELLED, LabelClass, Shot, SupportSet, Tag


class Labelling(SessionView):
    """What people decide, and what they decide on.

    It knows neither where images and proposals come from nor where anything is saved.

    Parameters
    ----------
    classes
        Names and colours of what is looked for.
    """

    support_changed = Signal(SupportSet)
    """The shots or the classes changed: open proposals are out of date."""
    frame_changed = Signal(object)
    """State, proposal or labels of the frame with this key changed."""
    changed = Signal()
    """Anything changed that is saved."""

    def __init__(self, classes: Iterable[LabelClass] = ()) -> None:
        super().__init__(FrameList(), History(SessionState(SupportSet((), classes))))
        self._numbers = ObjectNumbers()
        self._generation = 0
        self.frame_changed.connect(self._tell)
        self.support_changed.connect(self._tell)

    @property
    def generation(self) -> int:
        """Number of the newest run."""
        return self._generation

    def set_classes(self, classes: Iterable[LabelClass]) -> None:
        """Name the classes; a class that is painted or tagged somewhere cannot be left out.

        Undo brings back a class that was left out, and keeps the names and colours of all others.

        Raises
        ------
        MaskError
            If a painted or tagged class is missing.
        """
        classes = tuple(classes)
        missing = set(self.support.class_ids) - {c.id for c in classes}
        if missing:
            names = ", ".join(f"'{c.name}'" for c in self.classes if c.id in missing)
            raise MaskError(f"{names} is painted on a taught image; erase it there and teach that image again first")
        tagged = [tag for tag in self.support.tags if not {c.id for c in classes}.issuperset(tag.class_ids)]
        if tagged:
            raise MaskError(f"'{tagged[0].frame.name}' is said to contain that class; take its tag away first")
        if {c.id for c in self.classes} - {c.id for c in classes}:
            self._history.remember()
        self._history.change_others(lambda state: with_names(state, classes))
        self._become(replace(self._history.now, support=self.support.with_classes(classes)))

    def teach(self, shot: Shot) -> None:
        """Learn from this shot from now on; an earlier one on the same frame is replaced.

        Raises
        ------
        SupportError
            If every pixel of the shot is unknown.
        """
        self.teach_many([shot])

    def teach_many(self, shots: Iterable[Shot]) -> None:
        """Learn from these shots from now on, in one step of undo: `shots_across` makes some of a cut through a stack.

        Raises
        ------
        SupportError
            If every pixel of one of them is unknown; nothing is taught then.
        """
        shots, state = tuple(shots), self._history.now
        for shot in shots:
            if bool((shot.labels == UNLABELLED).all()):
                raise SupportError(f"nothing is painted on '{shot.frame.name}'; paint something there first")
            state = taught(state, shot)
        if not shots:
            return
        self._history.remember()
        for shot in shots:
            self._frames.add_missing(shot.frame)
            self._numbers.note(shot.key, shot.instances)
        self._become(state, *(shot.key for shot in shots))

    def tag(self, tag: Tag) -> None:
        """Take note that a frame contains some classes; an earlier tag of it is replaced.

        It is proposed for as before. Methods whose card says "tags" learn from it, others leave it aside.

        Raises
        ------
        SupportError
            If something was taught on the frame, which says more.
        """
        before = self.support.tag(tag.key)
        if before is not None and before.class_ids == tag.class_ids:
            return
        support = self.support.with_tag(tag)
        self._history.remember()
        self._frames.add_missing(tag.frame)
        self._become(replace(self._history.now, support=support), tag.key)

    def untag(self, key: FrameKey) -> None:
        """No longer take it that this frame contains anything."""
        if self.support.tag(key) is None:
            return
        self._history.remember()
        self._become(replace(self._history.now, support=self.support.without_tag(key)), key)

    def set_aside(self, key: FrameKey) -> None:
        """Do not learn from what was taught on this frame, but keep it; its labels stay as they are.

        Raises
        ------
        SupportError
            If nothing was taught there.
        """
        if key not in self.support.keys:
            raise SupportError(f"nothing was taught on '{frame_name(key)}'; there is nothing to set aside")
        self._learn_from(self._history.now.aside | {key}, key)

    def take_back(self, key: FrameKey) -> None:
        """Learn again from a shot that was set aside."""
        self._learn_from(self._history.now.aside - {key}, key)

    def _learn_from(self, aside: frozenset[FrameKey], key: FrameKey) -> None:
        if aside == self._history.now.aside:
            return
        self._history.remember()
        self._become(replace(self._history.now, aside=aside), key, learns=True)

    def forget(self, key: FrameKey) -> None:
        """No longer learn from what was taught on this frame."""
        if key not in self.support.keys and key not in self._history.now.accepted:
            return
        self._history.remember()
        self._become(forgotten(self._history.now, key), key)

    def record(self, run: Run, proposal: Proposal) -> bool:
        """Take in a proposal of a run. Returns False, and forgets it, where it comes too late.

        It comes too late when a newer run has begun, when its frame was removed, or was decided meanwhile.
        Pixels that somebody corrected on this frame keep their correction, and their objects; objects that were there
        before keep their numbers.
        """
        key, state = proposal.key, self._history.now
        if run.generation != self._generation or key not in self._frames.listed:
            return False
        if not run.is_still_asked_about(key, state):
            return False
        kept = opened(
            proposal, state.proposals.get(key), state.shot(key),
            generation=run.generation, steps=run.settings.steps, free=self._numbers.free(image_name(key)),
        )  # fmt: skip
        self._numbers.note(key, kept.instances)
        if proposal.instances is not None:
            kept = aligned(kept, self.support)
        proposals = {**state.proposals, key: kept}
        self._become(replace(state, proposals=proposals, rejected=state.rejected - {key}), key)
        return True

    def correct(
        self,
        key: FrameKey,
        labels: npt.NDArray[np.integer[Any]],
        human: npt.NDArray[np.bool_] | None = None,
        instances: npt.NDArray[np.integer[Any]] | None = None,
    ) -> None:
        """Take in an open proposal as somebody changed it; changed pixels are human from now on.

        Parameters
        ----------
        key
            A frame with an open proposal.
        labels
            (H, W) the whole corrected label map.
        human
            (H, W) True where a person said so even if nothing changed by it: they painted what was proposed as well.
        instances
            (H, W) its objects as somebody mended them: all pixels of an object that changed are human from now on.
            By default, objects follow the labels.

        Raises
        ------
        SupportError
            If the frame has no open proposal.
        MaskError
            If the label map does not fit the frame.
        """
        waiting = self._waiting(key)
        ids = waiting.instances
        same = instances is None or (ids is not None and np.array_equal(instances, ids))
        if human is None and same and np.array_equal(labels, waiting.labels):  # mostly: soon told, however large
            return
        labels = self._checked(key, labels, instances).labels
        self._history.forget_undone()  # the correction would be lost by it
        after = aligned(corrected(waiting, labels, human, instances), self.support)
        self._numbers.note(key, after.instances)
        self._open({key: after})

    def mend(self, key: FrameKey, instances: npt.NDArray[np.integer[Any]]) -> bool:
        """Take in the objects of an open proposal as somebody edited them, in one step of undo.

        Labels follow: what is no object any more is background, an object that was made of several classes is of that
        which most of it has. All pixels of objects that changed are human from now on, as with `correct`.

        Parameters
        ----------
        key
            A frame with an open proposal.
        instances
            (H, W) its objects, 0 for none; see `napari_fewshot.instances.editing.ObjectEditor`.

        Returns
        -------
        bool
            Whether anything is other than it was.

        Raises
        ------
        SupportError
            If the frame has no open proposal.
        MaskError
            If the objects do not fit the frame.
        """
        waiting = self._waiting(key)
        if instances.shape != waiting.labels.shape:
            raise MaskError(f"objects are {instances.shape} but '{frame_name(key)}' is {waiting.labels.shape}")
        after = mended(waiting, instances.astype(np.int32), self.support)
        if after is None:
            return False
        self._history.remember()
        self._numbers.note(key, after.instances)
        self._open({key: after})
        return True

    def free_number(self, key: FrameKey) -> int:
        """Return a number that no object on any frame of the same image has, nor has a larger one."""
        name = image_name(key)
        found = (self.objects(frame.key, with_proposals=True) for frame in self._frames.of_image(name))
        most = max((int(ids.max(initial=0)) for ids in found if ids is not None), default=0)
        return max(most + 1, self._numbers.free(name))

    def link_objects(self, name: str, along: str, *, reach: float = 0.0) -> list[FrameKey]:
        """Give the same object one number on all slices, or times, of an image, in one step of undo.

        Objects that are proposed for later get numbers that no other slice has, unless they are one that was there; so
        they do when the session was saved and opened again.

        Parameters
        ----------
        name
            Of the image.
        along
            Letter of the axis: Z for depth, T for time.
        reach
            See `napari_fewshot.instances.linking.matched`.

        Returns
        -------
        list of FrameKey
            Frames on which objects have other numbers now.
        """
        frames = self._frames.of_image(name)
        news = self._numbers.link(name, frames, lambda key: self.objects(key, with_proposals=True), along, reach)
        if news:
            self._history.remember()
            self._become(renumbered(self._history.now, news), *news)
        else:
            self.changed.emit()  # that they are linked is saved
        return list(news)

    def replace_open(self, tidy: Mapping[FrameKey, tuple[OpenProposal, OpenProposal]]) -> list[FrameKey]:
        """Put tidied proposals in the place of open ones, in one step of undo, and return the frames that changed.

        Parameters
        ----------
        tidy
            Frame -> what was open, and the same tidied (see `open_proposals.cleaned`). A frame on which something else
            is open by now keeps that.
        """
        news = {
            key: aligned(after, self.support)
            for key, (before, after) in tidy.items()
            if self._history.now.proposals.get(key) is before
            and (before.steps != after.steps or not np.array_equal(before.labels, after.labels))
        }
        if news:
            self._history.remember()
            self._open(news)
        return list(news)

    def accept(self, key: FrameKey, labels: Labels | None = None) -> Labels:
        """Accept an open proposal: it is decided, and a further shot to learn from.

        Parameters
        ----------
        key
            A frame with an open proposal.
        labels
            (H, W) what to accept instead of the proposal as it stands.

        Returns
        -------
        Labels
            (H, W) what was accepted.

        Raises
        ------
        SupportError
            If the frame has no open proposal.
        MaskError
            If the label map does not fit the frame.
        """
        waiting = self._waiting(key)
        shot = self._checked(key, waiting.labels if labels is None else labels)
        support, ids = self.support, followed(waiting.instances, shot.labels, self.support)
        if ids is not None:
            shot, support = replace(shot, instances=ids), numbered_shots(support)
        self._history.remember()
        self._become(accepted(self._history.now, {key: shot.labels}, support.with_shot(shot)), key)
        return shot.labels

    def accept_above(self, score: float) -> list[FrameKey]:
        """Accept every open proposal that scores at least this much, as `accept_many` does."""
        return self.accept_many(self.above(score))

    def accept_many(self, keys: Iterable[FrameKey]) -> list[FrameKey]:
        """Accept the open proposals among these frames in one step of undo, and return the frames that had one.

        These are decided but do not become shots: nobody has looked at each of them, and learning from one's
        own guesses makes no proposal better.
        """
        open_ones = self._open_among(keys)
        if open_ones:
            self._history.remember()
            decided = {key: self._waiting(key).labels for key in open_ones}
            self._become(accepted(self._history.now, decided, self.support), *open_ones)
        return open_ones

    def reject(self, key: FrameKey) -> None:
        """Throw an open proposal away; the frame is proposed for again only when asked.

        Raises
        ------
        SupportError
            If the frame has no open proposal.
        """
        self._waiting(key)
        self.reject_many([key])

    def reject_many(self, keys: Iterable[FrameKey]) -> list[FrameKey]:
        """Throw the open proposals of these frames away in one step of undo, and return the frames that had one."""
        open_ones = self._open_among(keys)
        if open_ones:
            self._history.remember()
            self._become(rejected(self._history.now, frozenset(open_ones)), *open_ones)
        return open_ones

    def _open_among(self, keys: Iterable[FrameKey]) -> list[FrameKey]:
        return [key for key in dict.fromkeys(keys) if self.proposal(key) is not None]

    def undo(self) -> list[FrameKey]:
        """Take back the last decision, and return the frames that changed by it.

        That is a teach, tag, untag, forget, set aside, take back, clean up, an edit of objects, objects that were
        linked, accept, accept many, reject, or a class that was left out.
        """
        return self._step(self._history.undo)

    def redo(self) -> list[FrameKey]:
        """Take again what was taken back last, and return the frames that changed by it.

        Possible until something else is decided or corrected.
        """
        return self._step(self._history.redo)

    def _step(self, step: Callable[[Mapping[FrameKey, Frame]], bool]) -> list[FrameKey]:
        before = self._history.now
        if not step(self._frames.everything()):
            return []
        self._overtake()
        changed = [key for key in self._frames.listed if differs(key, before, self._history.now)]
        self._tell_of(*changed, learns=True)
        return changed

    # ------------------------------------------------------------------ what all of these do
    def _become(self, state: SessionState, *changed: FrameKey, learns: bool = False) -> None:
        """Go to another state, on which these frames are other than they were."""
        before, self._history.now = self.support, state
        self._tell_of(*changed, learns=learns or self.support is not before)

    def _open(self, proposals: Mapping[FrameKey, OpenProposal]) -> None:
        """Let these be open in the place of others."""
        now = self._history.now
        self._become(replace(now, proposals={**now.proposals, **proposals}), *proposals)

    def _tell_of(self, *changed: FrameKey, learns: bool = False) -> None:
        if learns:
            self.support_changed.emit(self.support)
        for key in changed:
            self.frame_changed.emit(key)

    def _tell(self, _: object = None) -> None:
        self.changed.emit()

    def _overtake(self) -> int:
        """Let what earlier runs still deliver be dropped, and return the number of the next."""
        self._generation += 1
        return self._generation

    def _waiting(self, key: FrameKey) -> OpenProposal:
        waiting = self.proposal(key)
        if waiting is None:
            raise SupportError(f"there is no open proposal for '{frame_name(key)}'; press Propose first")
        return waiting

    def _checked(
        self, key: FrameKey, labels: npt.NDArray[np.integer], instances: npt.NDArray[np.integer] | None = None
    ) -> Shot:
        """Make a shot of what somebody says in place of an open proposal."""
        expected = self._waiting(key).labels.shape
        shot = Shot(self._frames.listed[key], labels, instances=instances)  # type: ignore[arg-type] # numbers of any kind
        if shot.labels.shape != expected:  # an image that is read by a function tells no size beforehand
            raise MaskError(
                f"mask is {shot.labels.shape} but '{frame_name(key)}' is {expected}; paint on the same slice"
            )
        return shot
