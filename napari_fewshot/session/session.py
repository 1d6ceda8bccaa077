"""The one mutable object of a run: what was taught, proposed, corrected, accepted and rejected.

A `Session` knows no window and no thread. Long work is done by a `Run`, an immutable snapshot that may be
consumed on any thread; its proposals come back through `Session.record`, which drops those of a run that
something newer has overtaken. The Python API, the command line and the dock all work on a session:

>>> session = Session(segmenter)                                  # doctest: +SKIP
>>> session.add_frames(Frame.of_stack("stack", stack))            # doctest: +SKIP
>>> session.teach(Shot(session.frame(("stack", 0)), mask))        # doctest: +SKIP
>>> for proposal in session.propose(): ...                        # doctest: +SKIP
>>> session.save("my session")                                    # doctest: +SKIP
>>> session = open_session("my session")                          # doctest: +SKIP
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_fewshot.errors import MaskError, ReadError, SupportError
from napari_fewshot.frames import Frame, FrameKey, Instances, Labels, frame_name, image_name
from napari_fewshot.imaging.cleanup import CleanUp
from napari_fewshot.io.image_places import Finder, ImagePlace, KnownImage, frames_at, places_of
from napari_fewshot.propagation import FrameFailure, PropagationSettings, RunProgress, keep_human, propagate
from napari_fewshot.proposals import Proposal
from napari_fewshot.provenance import FrameProvenance, OriginMap, count, in_a_word, of_proposal
from napari_fewshot.segmenter import FewShotSegmenter, SegmenterSettings
from napari_fewshot.session.contents import MissingImage, SessionContents
from napari_fewshot.session.decisions import taught, with_names, with_pixels
from napari_fewshot.session.finding import opened_frames
from napari_fewshot.session.folder import SessionFolder
from napari_fewshot.session.objects import (
    aligned,
    changed_objects,
    followed,
    kept_objects,
    mended,
    numbered_shots,
    renumbered,
)
from napari_fewshot.session.open_proposals import cleaned, unpainted
from napari_fewshot.session.stacks import axes_of, with_axes
from napari_fewshot.session.state import Effort, FrameState, LabelMap, OpenProposal, SessionState, differs, fits
from napari_fewshot.session.undoing import merged_proposals
from napari_fewshot.support import UNLABELLED, LabelClass, Shot, SupportSet, Tag
from napari_fewshot.volumes.concept import Surroundings
from napari_fewshot.volumes.series import is_wanted, series_along

_UNDO_DEPTH = 100


@dataclass(frozen=True)
class Run:
    """One pass over the open frames, with everything it needs; safe to consume on any thread."""

    generation: int
    support: SupportSet
    frames: tuple[Frame, ...]
    settings: PropagationSettings
    segmenter: Callable[[], FewShotSegmenter]
    retried: frozenset[FrameKey] = frozenset()
    """Frames that had been rejected before, and get another try."""
    surroundings: Surroundings = field(default_factory=Surroundings)
    """What is looked at beside ``frames`` where slices share evidence."""

    def proposals(
        self,
        on_failure: Callable[[FrameFailure], None] | None = None,
        progress: RunProgress | None = None,
    ) -> Iterator[Proposal]:
        """Load the segmenter if need be, learn, and propose; see `propagate`."""
        return propagate(
            self.segmenter(), self.support, self.frames, self.settings,
            on_failure=on_failure, progress=progress, surroundings=self.surroundings,
        )  # fmt: skip


class Session:
    """What was taught, proposed and decided.

    Parameters
    ----------
    segmenter
        Where masks come from; by default the one that ``settings`` name, loaded when first needed.
    settings
        Method, backbone and device.
    propagation
        How proposals are made.
    classes
        Names and colours of what is looked for.
    load
        Makes a segmenter of settings; by default `load_segmenter`, which keeps features in memory only. It is called in
        whatever thread needs the segmenter first, and never in two at a time.
    """

    support_changed = Signal(SupportSet)
    """The shots or the classes changed: open proposals are out of date."""
    frame_changed = Signal(object)
    """State, proposal or labels of the frame with this key changed."""
    changed = Signal()
    """Anything changed that is saved."""

    def __init__(
        self,
        segmenter: FewShotSegmenter | None = None,
        *,
        settings: SegmenterSettings | None = None,
        propagation: PropagationSettings | None = None,
        classes: Iterable[LabelClass] = (),
        load: Callable[[SegmenterSettings], FewShotSegmenter] | None = None,
    ) -> None:
        self.settings = settings or SegmenterSettings()
        self._propagation = propagation or PropagationSettings()
        self._load = load or _load_segmenter
        self._loaded = None if segmenter is None else (self.settings, segmenter)
        self._loading = Lock()
        self._frames: dict[FrameKey, Frame] = {}
        self._absent: dict[FrameKey, Frame] = {}  # removed, and still saved with all that is known of them
        self._state = SessionState(SupportSet((), classes))
        self._undo: list[SessionState] = []
        self._redo: list[SessionState] = []
        self._generation = 0
        self._free_numbers: dict[str, int] = {}  # of images whose slices are linked: a number that no object has
        self._places: dict[str, ImagePlace] = {}
        self._missing: dict[str, KnownImage] = {}
        self._weights: tuple[SegmenterSettings, Mapping[str, str]] = (self.settings, {})
        self._painted: dict[FrameKey, npt.NDArray[np.uint8]] = {}
        self._effort = Effort()
        self._folder: SessionFolder | None = None
        self.frame_changed.connect(self._tell)
        self.support_changed.connect(self._tell)

    # ------------------------------------------------------------------ frames
    @property
    def frames(self) -> Mapping[FrameKey, Frame]:
        """All frames to label, in the order in which they came."""
        return MappingProxyType(self._frames)

    def frame(self, key: FrameKey) -> Frame:
        """Return the frame of this key."""
        return self._frames[key]

    def add_frames(self, frames: Iterable[Frame]) -> None:
        """Add frames to label; one with a known key is replaced.

        What was proposed, corrected or accepted on an image of another size is dropped: it lies on nothing any more.
        Shots taught on it stay: what was learnt is not forgotten.
        """
        misfits, news = set(), False
        for frame in frames:
            news = news or self._frames.get(frame.key) is not frame
            self._frames[frame.key] = frame
            self._absent.pop(frame.key, None)
            waiting, accepted = self._state.proposals.get(frame.key), self._state.accepted.get(frame.key)
            labels = accepted if waiting is None else waiting.labels
            if labels is not None and not fits(frame, labels):
                misfits.add(frame.key)
        if misfits:
            self._state = replace(
                self._state,
                proposals={k: p for k, p in self._state.proposals.items() if k not in misfits},
                accepted={k: labels for k, labels in self._state.accepted.items() if k not in misfits},
                origins={k: origins for k, origins in self._state.origins.items() if k not in misfits},
                objects={k: ids for k, ids in self._state.objects.items() if k not in misfits},
            )
            for key in misfits:
                self.frame_changed.emit(key)
        if self._missing_shots():
            self._find_pixels()
        if news:
            self.changed.emit()

    def add_images(self, paths: Iterable[str | os.PathLike[str]], *, axes: str = "") -> list[FrameKey]:
        """Add the frames of images to label; a session that is saved knows where they are.

        Parameters
        ----------
        paths, axes
            See `read_images`.

        Returns
        -------
        list of FrameKey
            What was added.

        Raises
        ------
        ReadError
            If there is nothing, or something cannot be read; nothing is added then.
        """
        places = dict(places_of(paths, axes))
        frames = [frame for name, place in places.items() for frame in frames_at(place, name)]
        self._places |= places
        self.add_frames(frames)
        return [frame.key for frame in frames]

    def set_place(self, name: str, place: ImagePlace | None) -> None:
        """Say where the image lies whose frames have keys that begin with this name; None for one in no file."""
        if self._places.get(name) == place and name not in self._missing:
            return
        self._missing.pop(name, None)
        self._places.pop(name, None)
        if place is not None:
            self._places[name] = place
        self.changed.emit()

    def remove_frames(self, keys: Iterable[FrameKey]) -> None:
        """Stop labelling these frames.

        Shots taught on them stay: what was learnt is not forgotten. Of images on which anything was proposed, decided
        or painted, everything is out of sight, but saved, and there again when frames with the same keys are added.
        """
        gone = {key: self._frames.pop(key) for key in dict.fromkeys(keys) if key in self._frames}
        state = self._state
        said = gone.keys() & (state.proposals.keys() | state.accepted.keys() | state.rejected | self._painted.keys())
        images = {image_name(key) for key in said}
        self._absent |= {key: frame for key, frame in gone.items() if image_name(key) in images}
        self.changed.emit()

    # ------------------------------------------------------------------ reading
    @property
    def support(self) -> SupportSet:
        """Everything taught so far."""
        return self._state.support

    @property
    def classes(self) -> tuple[LabelClass, ...]:
        """The classes, by ascending id."""
        return self._state.support.classes

    @property
    def generation(self) -> int:
        """Number of the newest run."""
        return self._generation

    @property
    def can_undo(self) -> bool:
        """Whether there is a decision to take back."""
        return bool(self._undo)

    @property
    def can_redo(self) -> bool:
        """Whether there is a decision to take again that was taken back."""
        return bool(self._redo)

    def proposal(self, key: FrameKey) -> OpenProposal | None:
        """Return the proposal that waits for a decision, if there is one."""
        return self._state.proposals.get(key) if key in self._frames else None

    def state(self, key: FrameKey) -> FrameState:
        """Tell where a frame stands."""
        if key in self._absent:
            return FrameState.TAUGHT if key in self.support.keys else FrameState.UNTOUCHED
        return self._state.frame_state(key)

    def origins(self, key: FrameKey) -> OriginMap | None:
        """Return who says what a frame is labelled with: (H, W) values of `Origin`, None where nothing is said."""
        return self._state.origin_map(key)

    def provenance(self) -> list[FrameProvenance]:
        """Return who says what, a row for each frame; goes through all pixels."""
        return [self._provenance(key) for key in {**self._frames, **dict.fromkeys(self.support.keys)}]

    def _provenance(self, key: FrameKey) -> FrameProvenance:
        state, origins, waiting = self._state.frame_state(key), self._state.origin_map(key), self.proposal(key)
        pixels = {} if origins is None else count(origins)
        return FrameProvenance(key, state, in_a_word(pixels), pixels, None if waiting is None else waiting.score)

    def in_order_from(self, first: FrameKey | None) -> list[FrameKey]:
        """All frames in the order of interest to somebody who looks at one: it, its neighbours in the stack, others."""
        return sorted(self._frames, key=lambda key: _distance(key, first))

    def labels(self, key: FrameKey, *, with_proposals: bool = False) -> Labels | None:
        """Return the decided labels (H, W) of a frame, unknown pixels as background; None where nothing is decided.

        Parameters
        ----------
        key
            The frame.
        with_proposals
            Whether an open proposal counts where nothing has been decided.
        """
        decided: LabelMap | None = self._state.accepted.get(key)
        waiting, shot = self.proposal(key), self._state.shot(key)
        if decided is None and shot is not None:
            decided = shot.labels
        if decided is not None and key in self._frames and not fits(self._frames[key], decided):
            decided = None  # of an image that was replaced by one of another size
        if with_proposals and waiting is not None:
            decided = waiting.labels  # with what was painted in it
        return None if decided is None else np.where(decided == UNLABELLED, 0, decided).astype(np.int32)

    def objects(self, key: FrameKey, *, with_proposals: bool = False) -> Instances | None:
        """Return the objects (H, W) of a frame, 0 for none; None where they are not told apart.

        Parameters
        ----------
        key
            The frame.
        with_proposals
            Whether an open proposal counts, as for `labels`.
        """
        waiting, shot = self.proposal(key), self._state.shot(key)
        if with_proposals and waiting is not None:
            return waiting.instances
        found = self._state.objects.get(key)
        if found is None and shot is not None:
            found = shot.instances
        if found is not None and key in self._frames and not fits(self._frames[key], found):
            return None
        return found

    def review_queue(self) -> list[FrameKey]:
        """Frames with an open proposal, the one most in need of a look first."""
        return sorted(self._open_proposals(), key=lambda key: self._state.proposals[key].score)

    def next_to_review(self, after: FrameKey | None = None) -> FrameKey | None:
        """Return the open frame with the lowest score, other than ``after`` where there is a choice."""
        queue = self.review_queue()
        return next((key for key in queue if key != after), queue[0] if queue else None)

    def above(self, score: float) -> list[FrameKey]:
        """Frames whose open proposal scores at least this much."""
        return [key for key, proposal in self._open_proposals().items() if proposal.score >= score]

    def _open_proposals(self) -> Mapping[FrameKey, OpenProposal]:
        """Those on frames that are to be labelled."""
        proposals, frames = self._state.proposals, self._frames
        return {key: waiting for key, waiting in proposals.items() if key in frames} if self._absent else proposals

    # ------------------------------------------------------------------ teaching
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
            self._remember()
        self._undo = [with_names(state, classes) for state in self._undo]
        self._redo = [with_names(state, classes) for state in self._redo]
        self._decide(support=self.support.with_classes(classes))

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
        shots, state = tuple(shots), self._state
        for shot in shots:
            if bool((shot.labels == UNLABELLED).all()):
                raise SupportError(f"nothing is painted on '{shot.frame.name}'; paint something there first")
            state = taught(state, shot)
        if not shots:
            return
        self._remember()
        for shot in shots:
            self._frames.setdefault(shot.key, shot.frame)
        self._decide(**{each.name: getattr(state, each.name) for each in fields(state)})
        for shot in shots:
            self.frame_changed.emit(shot.key)

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
        self._remember()
        self._frames.setdefault(tag.key, tag.frame)
        self._decide(support=support)
        self.frame_changed.emit(tag.key)

    def untag(self, key: FrameKey) -> None:
        """No longer take it that this frame contains anything."""
        if self.support.tag(key) is None:
            return
        self._remember()
        self._decide(support=self.support.without_tag(key))
        self.frame_changed.emit(key)

    @property
    def learnt_from(self) -> SupportSet:
        """What was taught, without the shots that are set aside."""
        return self._state.learnt_from

    @property
    def aside(self) -> frozenset[FrameKey]:
        """Taught frames that are not learnt from."""
        return self._state.aside

    def set_aside(self, key: FrameKey) -> None:
        """Do not learn from what was taught on this frame, but keep it; its labels stay as they are.

        Raises
        ------
        SupportError
            If nothing was taught there.
        """
        if key not in self.support.keys:
            raise SupportError(f"nothing was taught on '{frame_name(key)}'; there is nothing to set aside")
        self._learn_from(self._state.aside | {key}, key)

    def take_back(self, key: FrameKey) -> None:
        """Learn again from a shot that was set aside."""
        self._learn_from(self._state.aside - {key}, key)

    def _learn_from(self, aside: frozenset[FrameKey], key: FrameKey) -> None:
        if aside == self._state.aside:
            return
        self._remember()
        self._state = replace(self._state, aside=aside)
        self.support_changed.emit(self.support)
        self.frame_changed.emit(key)

    def forget(self, key: FrameKey) -> None:
        """No longer learn from what was taught on this frame."""
        if key not in self.support.keys and key not in self._state.accepted:
            return
        self._remember()
        proposals, shot = dict(self._state.proposals), self._state.shot(key)
        waiting = proposals.pop(key, None)
        if waiting is not None and shot is not None and shot.labels.shape == waiting.labels.shape:
            waiting = unpainted(waiting, None, shot)
        if waiting is not None:
            proposals[key] = aligned(waiting, self.support)
        self._decide(
            support=self.support.without(key),
            proposals=proposals,
            accepted={k: v for k, v in self._state.accepted.items() if k != key},
            origins={k: v for k, v in self._state.origins.items() if k != key},
            aside=self._state.aside - {key},
            objects={k: v for k, v in self._state.objects.items() if k != key},
        )
        self.frame_changed.emit(key)

    # ------------------------------------------------------------------ proposing
    @property
    def propagation(self) -> PropagationSettings:
        """How proposals are made from the next run on."""
        return self._propagation

    @propagation.setter
    def propagation(self, settings: PropagationSettings) -> None:
        self._propagation = settings
        self.changed.emit()

    def use(self, settings: SegmenterSettings) -> None:
        """Work with another method, backbone or device from the next run on."""
        self.settings = settings
        self.changed.emit()

    def segmenter(self) -> FewShotSegmenter:
        """Return what the settings name, loading it when it is needed for the first time; any thread may ask."""
        with self._loading:
            settings = self.settings
            if self._loaded is None or self._loaded[0] != settings:
                self._loaded = None  # the memory of the old one is free before the new one needs some
                self._loaded = settings, self._load(settings)
                self._weights = settings, dict(getattr(self._loaded[1], "weights", {}))
            return self._loaded[1]

    def start_run(self, first: FrameKey | None = None, *, again: bool = True) -> Run:
        """Begin a new pass; every earlier one is overtaken from here on.

        Parameters
        ----------
        first
            The frame somebody looks at: it comes first, then its neighbours in the stack, then the others.
        again
            Whether rejected frames get another try.

        Raises
        ------
        SupportError
            If there is nothing to learn from.
        """
        if self.support.shots and not self.learnt_from.shots:
            raise SupportError("every taught image is set aside; take at least one back")
        self.learnt_from.check()
        self._generation += 1
        decided = self._state.accepted.keys() | {shot.key for shot in self.support if not shot.is_partial}
        if not again:
            decided |= self._state.rejected
        wanted = (self._frames[key] for key in self.in_order_from(first) if key not in decided)
        known: dict[FrameKey, LabelMap] = {shot.key: shot.said for shot in self.support}
        known |= self._state.accepted
        return Run(
            self._generation,
            self.learnt_from,
            tuple(frame for frame in wanted if is_wanted(frame, self.propagation.volume)),
            self.propagation,
            self.segmenter,
            self._state.rejected,
            Surroundings(tuple(self._frames.values()), known),
        )

    def record(self, run: Run, proposal: Proposal) -> bool:
        """Take in a proposal of a run. Returns False, and forgets it, where it comes too late.

        It comes too late when a newer run has begun, when its frame was removed, or was decided meanwhile.
        Pixels that somebody corrected on this frame keep their correction, and their objects; objects that were there
        before keep their numbers.
        """
        key = proposal.key
        if run.generation != self._generation or key not in self._frames or key in self._state.accepted:
            return False
        if key in self._state.rejected - run.retried:
            return False
        shot = self._state.shot(key)
        if shot is not None and not shot.is_partial:
            return False
        earlier = self._state.proposals.get(key)
        corrections = None if earlier is None else earlier.corrections
        labels = proposal.labels.astype(np.uint8)
        if shot is not None and shot.labels.shape == labels.shape:
            labels = keep_human(labels.astype(np.int32), shot.said).astype(np.uint8)
        if corrections is not None and corrections.shape == labels.shape:
            labels = np.where(corrections != UNLABELLED, corrections, labels)
        else:
            corrections = None  # of an image that was replaced by one of another size
        uncleaned = None if proposal.uncleaned is None else proposal.uncleaned.astype(np.uint8)
        free = self._free_numbers.get(image_name(key), 0)
        ids = kept_objects(proposal.instances, earlier, shot, corrections, free)
        kept = OpenProposal(
            labels, proposal.score, run.generation, corrections, proposal.note, uncleaned, run.settings.steps, ids,
            () if earlier is None else earlier.edits,
        )  # fmt: skip
        self._note_numbers(key, ids)
        if proposal.instances is not None:
            kept = aligned(kept, self.support)
        self._state = replace(
            self._state,
            proposals={**self._state.proposals, key: kept},
            rejected=self._state.rejected - {key},
        )
        self.frame_changed.emit(key)
        return True

    def propose(
        self,
        first: FrameKey | None = None,
        *,
        on_failure: Callable[[FrameFailure], None] | None = None,
        progress: RunProgress | None = None,
    ) -> Iterator[Proposal]:
        """Propose for every open frame, recording each proposal before it is yielded; see `propagate`."""
        run = self.start_run(first)
        for proposal in run.proposals(on_failure, progress):
            if not self.record(run, proposal) and run.generation != self._generation:
                return
            yield proposal

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
        if instances is not None:
            touched = changed_objects(instances, ids)
            human, ids = touched if human is None else touched | human, instances.astype(np.int32)
        changed = labels != waiting.labels if human is None else (labels != waiting.labels) | human
        before = waiting.corrections
        corrections = np.full(labels.shape, UNLABELLED, np.uint8) if before is None else before.copy()
        corrections[changed] = labels[changed]
        self._redo.clear()  # the correction would be lost by it
        kept = replace(waiting, labels=labels.astype(np.uint8), corrections=corrections, instances=ids)
        kept = aligned(kept, self.support)
        self._state = replace(self._state, proposals={**self._state.proposals, key: kept})
        self.frame_changed.emit(key)

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
        self._remember()
        self._state = replace(self._state, proposals={**self._state.proposals, key: after})
        self._note_numbers(key, after.instances)
        self.frame_changed.emit(key)
        return True

    def free_number(self, key: FrameKey) -> int:
        """Return a number that no object on any frame of the same image has, nor has a larger one."""
        name = image_name(key)
        found = (self.objects(k, with_proposals=True) for k in self._frames if image_name(k) == name)
        most = max((int(ids.max(initial=0)) for ids in found if ids is not None), default=0)
        return max(most + 1, self._free_numbers.get(name, 0))

    def link_objects(self, name: str, along: str, *, reach: float = 0.0) -> list[FrameKey]:
        """Give the same object one number on all slices, or times, of an image, in one step of undo.

        Objects that are proposed for later get numbers that no other slice has, unless they are one that was there.

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
        from napari_fewshot.instances.linking import linked  # slow to import

        frames = [frame for key, frame in self._frames.items() if image_name(key) == name]
        news, free = {}, 1
        for series in series_along(frames, along).values():
            there = {series.frames[place].key: ids for place in sorted(series.frames)
                     if (ids := self.objects(series.frames[place].key, with_proposals=True)) is not None}  # fmt: skip
            if len({ids.shape for ids in there.values()}) > 1:
                continue
            for (key, before), ids in zip(there.items(), linked(there.values(), reach=reach, free=free), strict=True):
                free = max(free, int(ids.max(initial=0)) + 1)
                if not np.array_equal(ids, before):
                    news[key] = ids
        self._free_numbers[name] = free
        if news:
            self._remember()
            state = renumbered(self._state, news)
            self._decide(**{each.name: getattr(state, each.name) for each in fields(state)})
            for key in news:
                self.frame_changed.emit(key)
        return list(news)

    def _note_numbers(self, key: FrameKey, ids: Instances | None) -> None:
        """Where slices are linked, remember which numbers were given."""
        name = image_name(key)
        if ids is not None and name in self._free_numbers:
            self._free_numbers[name] = max(self._free_numbers[name], int(ids.max(initial=0)) + 1)

    def clean_up(
        self,
        keys: Iterable[FrameKey] | None = None,
        steps: CleanUp | None = None,
        probabilities: Mapping[FrameKey, Proposal] | None = None,
    ) -> list[FrameKey]:
        """Tidy open proposals, in one step of undo; what people painted or corrected stays as it is.

        Parameters
        ----------
        keys
            Frames; by default all that have an open proposal.
        steps
            What to do; by default what the settings for proposals say.
        probabilities
            Proposals as they came, which thresholds are about: they are not kept here. Where there are thresholds, a
            frame without one stays as it is.

        Returns
        -------
        list of FrameKey
            Frames that look otherwise now.
        """
        tidy = {}
        for key in self._open_among(self._open_proposals() if keys is None else keys):
            waiting, given = self._waiting(key), (probabilities or {}).get(key)
            evidence = () if given is None else ((0, *given.class_ids), given.probabilities)
            after = cleaned(waiting, self._state.shot(key), steps or self._propagation, *evidence)
            if after is not None:
                tidy[key] = waiting, after
        return self.replace_open(tidy)

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
            if self._state.proposals.get(key) is before
            and (before.steps != after.steps or not np.array_equal(before.labels, after.labels))
        }
        if news:
            self._remember()
            self._state = replace(self._state, proposals={**self._state.proposals, **news})
            for key in news:
                self.frame_changed.emit(key)
        return list(news)

    # ------------------------------------------------------------------ deciding
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
        self._remember()
        self._settle({key: shot.labels}, support.with_shot(shot))
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
            self._remember()
            self._settle({key: self._state.proposals[key].labels for key in open_ones}, self.support)
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
            self._remember()
            gone = frozenset(open_ones)
            self._state = replace(
                self._state,
                proposals={k: p for k, p in self._state.proposals.items() if k not in gone},
                rejected=self._state.rejected | gone,
            )
            for key in open_ones:
                self.frame_changed.emit(key)
        return open_ones

    def _open_among(self, keys: Iterable[FrameKey]) -> list[FrameKey]:
        return [key for key in dict.fromkeys(keys) if self.proposal(key) is not None]

    def undo(self) -> list[FrameKey]:
        """Take back the last decision, and return the frames that changed by it.

        That is a teach, tag, untag, forget, set aside, take back, clean up, an edit of objects, objects that were
        linked, accept, accept many, reject, or a class that was left out.
        """
        return self._step(self._undo, self._redo)

    def redo(self) -> list[FrameKey]:
        """Take again what was taken back last, and return the frames that changed by it.

        Possible until something else is decided or corrected.
        """
        return self._step(self._redo, self._undo)

    def _step(self, source: list[SessionState], target: list[SessionState]) -> list[FrameKey]:
        """Go to the last state of one list, and put that of now on the other."""
        if not source:
            return []
        now, then = self._state, source.pop()
        target.append(now)
        self._state = replace(then, proposals=merged_proposals(then, now, {**self._absent, **self._frames}))
        self._generation += 1
        changed = [key for key in self._frames if differs(key, now, self._state)]
        self.support_changed.emit(self.support)
        for key in changed:
            self.frame_changed.emit(key)
        return changed

    # ------------------------------------------------------------------ on the disk
    @property
    def missing(self) -> Mapping[str, KnownImage]:
        """Images that were not found when the session was opened, by name; `locate` tells where they are."""
        return MappingProxyType(self._missing)

    def locate(self, name: str, path: str | os.PathLike[str]) -> None:
        """Say where a missing image is now.

        Raises
        ------
        ReadError
            If it cannot be read, or is another.
        """
        known = self._missing[name]
        place = replace(known.place, path=str(Path(path).expanduser().absolute()))
        shapes = {key: list(frame.size or ()) for key, frame in self._frames.items() if image_name(key) == name}
        frames = with_axes(opened_frames(name, place, shapes), axes_of(self._frames))
        if not frames:
            raise ReadError(f"{place.path} is not the image '{name}'; choose another file")
        self.set_place(name, place)
        self.add_frames(frames[key] for key in shapes)

    def snapshot(self) -> SessionContents:
        """Return all that is saved, as it is now; any thread may ask."""
        state, frames = self._state, {**dict(self._absent), **dict(self._frames)}
        named = {image_name(key) for key in (*frames, *state.support.keys, *(tag.key for tag in state.support.tags))}
        settings, weights = self._weights
        return SessionContents(
            state,
            frames,
            self.settings,
            self._propagation,
            {name: place for name, place in dict(self._places).items() if name in named},
            weights if settings == self.settings else {},
            {name: known for name, known in dict(self._missing).items() if name in named},
            {key: painted for key, painted in dict(self._painted).items() if key in frames},
            self._effort,
        )

    @property
    def effort(self) -> Effort:
        """What labelling took so far, as far as it was told."""
        return self._effort

    def spend(self, effort: Effort) -> None:
        """Add to the effort; it is saved together with the next change."""
        self._effort += effort

    @property
    def painted(self) -> Mapping[FrameKey, npt.NDArray[np.uint8]]:
        """What is painted on frames, whether it was taught or not; see `keep_painted`."""
        return MappingProxyType(self._painted)

    def keep_painted(self, key: FrameKey, painted: npt.NDArray[np.integer[Any]]) -> None:
        """Keep what somebody paints on a frame, before they teach it, so that it is saved.

        Parameters
        ----------
        key
            The frame.
        painted
            (H, W) 0 where nothing is painted, 254 for painted background. A copy is kept.
        """
        before = self._painted.get(key)
        if before is None and not painted.any():
            return
        if before is None or not np.array_equal(before, painted):
            self._painted[key] = painted.astype(np.uint8)
            self.changed.emit()

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Save everything into a folder; into the one of before only what changed. docs/session-format.md tells how.

        Parameters
        ----------
        folder
            Made where it is missing.
        overwrite
            Whether another session that is there may be replaced.

        Raises
        ------
        ExportError
            If it cannot be written, or holds another session; what was there before is untouched.
        """
        target = SessionFolder(Path(folder))
        if self._folder is None or self._folder.folder != target.folder:
            self._folder = target
        self._folder.write(self.snapshot(), overwrite=overwrite)

    def restore(self, contents: SessionContents, folder: SessionFolder | None = None) -> None:
        """Become what was saved; what was done before cannot be taken back any more.

        Parameters
        ----------
        contents
            See `SessionFolder.read`.
        folder
            Where it was read from, and will be saved again.
        """
        self._frames, self._absent = dict(contents.frames), {}
        self._state, self._undo, self._redo = contents.state, [], []
        self._places, self._missing = dict(contents.places), dict(contents.missing)
        self.settings, self._propagation = contents.settings, contents.propagation
        self._weights, self._painted = (contents.settings, contents.weights), dict(contents.painted)
        self._effort = contents.effort
        self._folder = folder
        self._generation += 1
        self.support_changed.emit(self.support)
        for key in self._frames:
            self.frame_changed.emit(key)

    # ------------------------------------------------------------------ private
    def _tell(self, _: object = None) -> None:
        self.changed.emit()

    def _missing_shots(self) -> list[FrameKey]:
        """Frames that were taught, and whose pixels were missing until now."""
        taught: tuple[Shot | Tag, ...] = (*self.support.shots, *self.support.tags)
        return [
            each.key
            for each in taught
            if isinstance(each.frame.image, MissingImage)
            and each.key in self._frames
            and not isinstance(self._frames[each.key].image, MissingImage)
            and (not isinstance(each, Shot) or fits(self._frames[each.key], each.labels))
        ]

    def _find_pixels(self) -> None:
        """Let shots and tags know the pixels that they lacked."""
        found = {key: self._frames[key] for key in self._missing_shots()}
        self._undo = [with_pixels(state, found) for state in self._undo]
        self._redo = [with_pixels(state, found) for state in self._redo]
        self._decide(support=with_pixels(self._state, found).support)

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
        shot = Shot(self._frames[key], labels, instances=instances)  # type: ignore[arg-type] # numbers of any kind
        if shot.labels.shape != expected:  # an image that is read by a function tells no size beforehand
            raise MaskError(
                f"mask is {shot.labels.shape} but '{frame_name(key)}' is {expected}; paint on the same slice"
            )
        return shot

    def _settle(self, accepted: Mapping[FrameKey, LabelMap], support: SupportSet) -> None:
        origins = {key: self._origins_when_accepted(key, labels) for key, labels in accepted.items()}
        objects = {key: followed(self._waiting(key).instances, labels, support) for key, labels in accepted.items()}
        self._decide(
            support=support,
            proposals={k: p for k, p in self._state.proposals.items() if k not in accepted},
            accepted={**self._state.accepted, **accepted},
            origins={**self._state.origins, **origins},
            objects={**self._state.objects, **{key: ids for key, ids in objects.items() if ids is not None}},
        )
        for key in accepted:
            self.frame_changed.emit(key)

    def _origins_when_accepted(self, key: FrameKey, labels: LabelMap) -> OriginMap:
        waiting = self._waiting(key)
        corrections, changed = waiting.corrections, labels != waiting.labels
        if changed.any():
            before = np.full(labels.shape, UNLABELLED, np.uint8) if corrections is None else corrections
            corrections = np.where(changed, labels, before).astype(np.uint8)
        origins = of_proposal(labels, corrections, self._state.shot(key), decided=True)
        return self._state.origins_of_open(key, origins)

    def _decide(self, **changes: object) -> None:
        before = self.support
        self._state = replace(self._state, **changes)  # type: ignore[arg-type]
        if self.support is not before:
            self.support_changed.emit(self.support)

    def _remember(self) -> None:
        self._undo.append(self._state)
        self._redo.clear()
        del self._undo[:-_UNDO_DEPTH]


def open_session(
    folder: str | os.PathLike[str],
    segmenter: FewShotSegmenter | None = None,
    *,
    search: Iterable[str | os.PathLike[str]] = (),
    find: Finder | None = None,
    load: Callable[[SegmenterSettings], FewShotSegmenter] | None = None,
) -> Session:
    """Open a session that was saved.

    Images that were moved are looked for by what is in them; see `Session.missing` for those that were not found.

    Parameters
    ----------
    folder
        The folder of the session.
    segmenter, load
        See `Session`.
    search
        Folders in which images may be by now.
    find
        Asked for an image that was not found, by its name and what is known of it; returns its path, or None.

    Raises
    ------
    ReadError
        If there is no session, it is damaged, or it was saved by a newer version.
    """
    kept = SessionFolder(Path(folder))
    contents = kept.read(search=[Path(each).expanduser() for each in search], find=find)
    session = Session(segmenter, settings=contents.settings, propagation=contents.propagation, load=load)
    session.restore(contents, kept)
    return session


def _load_segmenter(settings: SegmenterSettings) -> FewShotSegmenter:
    from napari_fewshot.models import load_segmenter  # torch comes with loading

    return load_segmenter(
        settings.method, backbone=settings.backbone, device=settings.device, instances=settings.instances
    )


def _distance(key: FrameKey, first: FrameKey | None) -> tuple[int, int]:
    """How far a frame is from the one somebody looks at: the same, in the same stack, elsewhere."""
    if first is None or key == first:
        return (0, 0)
    if isinstance(key, str) or isinstance(first, str) or key[0] != first[0] or len(key) != len(first):
        return (2, 0)
    steps = zip(key[1:], first[1:], strict=True)
    return (1, sum(abs(a - b) for a, b in steps if isinstance(a, int) and isinstance(b, int)))
