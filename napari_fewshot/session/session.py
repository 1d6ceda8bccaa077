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
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import ReadError, SupportError
from napari_fewshot.frames import Frame, FrameKey, image_name
from napari_fewshot.imaging.cleanup import CleanUp
from napari_fewshot.io.image_places import Finder, ImagePlace, KnownImage, frames_at, places_of
from napari_fewshot.propagation import FrameFailure, PropagationSettings, RunProgress
from napari_fewshot.proposals import Proposal
from napari_fewshot.segmenter import FewShotSegmenter, SegmenterSettings
from napari_fewshot.session.contents import SessionContents
from napari_fewshot.session.decisions import without
from napari_fewshot.session.finding import opened_frames
from napari_fewshot.session.folder import SessionFolder
from napari_fewshot.session.labelling import Labelling
from napari_fewshot.session.loading import LoadedSegmenter
from napari_fewshot.session.open_proposals import cleaned
from napari_fewshot.session.pixels import found_pixels, with_pixels
from napari_fewshot.session.run import Run
from napari_fewshot.session.stacks import axes_of, with_axes
from napari_fewshot.session.state import Effort, LabelMap, fits
from napari_fewshot.support import LabelClass
from napari_fewshot.volumes.concept import Surroundings
from napari_fewshot.volumes.series import is_wanted


class Session(Labelling):
    """What was taught, proposed and decided; what proposes, and where it is saved.

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

    def __init__(
        self,
        segmenter: FewShotSegmenter | None = None,
        *,
        settings: SegmenterSettings | None = None,
        propagation: PropagationSettings | None = None,
        classes: Iterable[LabelClass] = (),
        load: Callable[[SegmenterSettings], FewShotSegmenter] | None = None,
    ) -> None:
        super().__init__(classes)
        self._segmenter = LoadedSegmenter(settings or SegmenterSettings(), load, segmenter)
        self._propagation = propagation or PropagationSettings()
        self._places: dict[str, ImagePlace] = {}
        self._missing: dict[str, KnownImage] = {}
        self._painted: dict[FrameKey, npt.NDArray[np.uint8]] = {}
        self._effort = Effort()
        self._folder: SessionFolder | None = None

    # ------------------------------------------------------------------ frames and their images
    def add_frames(self, frames: Iterable[Frame]) -> None:
        """Add frames to label; one with a known key is replaced.

        What was proposed, corrected or accepted on an image of another size is dropped: it lies on nothing any more.
        Shots taught on it stay: what was learnt is not forgotten.
        """
        frames = tuple(frames)
        news = [self._frames.add(frame) for frame in frames]
        misfits = {frame.key for frame in frames if not self._lies_on(frame)}
        if misfits:
            self._become(without(self._history.now, misfits), *misfits)
        found = found_pixels(self.support, self._frames.listed)
        if found:
            self._history.change_others(lambda state: with_pixels(state, found))
            self._become(with_pixels(self._history.now, found))
        if any(news):
            self.changed.emit()

    def _lies_on(self, frame: Frame) -> bool:
        """Whether what is open, or was accepted, on a frame is of its size."""
        waiting, accepted = self.proposal(frame.key), self._history.now.accepted.get(frame.key)
        labels = accepted if waiting is None else waiting.labels
        return labels is None or fits(frame, labels)

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
        now = self._history.now
        said = now.proposals.keys() | now.accepted.keys() | now.rejected | self._painted.keys()
        self._frames.remove(keys, said)
        self.changed.emit()

    # ------------------------------------------------------------------ proposing
    @property
    def propagation(self) -> PropagationSettings:
        """How proposals are made from the next run on."""
        return self._propagation

    @propagation.setter
    def propagation(self, settings: PropagationSettings) -> None:
        self._propagation = settings
        self.changed.emit()

    @property
    def settings(self) -> SegmenterSettings:
        """Which method, backbone and device make proposals from the next run on."""
        return self._segmenter.settings

    @settings.setter
    def settings(self, settings: SegmenterSettings) -> None:
        self._segmenter.settings = settings
        self.changed.emit()

    def use(self, settings: SegmenterSettings) -> None:
        """Work with another method, backbone or device from the next run on."""
        self.settings = settings

    def segmenter(self) -> FewShotSegmenter:
        """Return what the settings name, loading it when it is needed for the first time; any thread may ask."""
        return self._segmenter.get()

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
        now, frames = self._history.now, self._frames
        decided = now.accepted.keys() | {shot.key for shot in self.support if not shot.is_partial}
        if not again:
            decided |= now.rejected
        wanted = (frames.listed[key] for key in frames.in_order_from(first) if key not in decided)
        known: dict[FrameKey, LabelMap] = {shot.key: shot.said for shot in self.support}
        known |= now.accepted
        return Run(
            self._overtake(),
            self.learnt_from,
            tuple(frame for frame in wanted if is_wanted(frame, self.propagation.volume)),
            self.propagation,
            self.segmenter,
            now.rejected,
            Surroundings(tuple(frames.listed.values()), known),
        )

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
            if not self.record(run, proposal) and run.generation != self.generation:
                return
            yield proposal

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
        for key in self._open_among(self.open_proposals if keys is None else keys):
            waiting, given = self._waiting(key), (probabilities or {}).get(key)
            evidence = () if given is None else ((0, *given.class_ids), given.probabilities)
            after = cleaned(waiting, self._history.now.shot(key), steps or self._propagation, *evidence)
            if after is not None:
                tidy[key] = waiting, after
        return self.replace_open(tidy)

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
        shapes = {frame.key: list(frame.size or ()) for frame in self._frames.of_image(name)}
        frames = with_axes(opened_frames(name, place, shapes), axes_of(self.frames))
        if not frames:
            raise ReadError(f"{place.path} is not the image '{name}'; choose another file")
        self.set_place(name, place)
        self.add_frames(frames[key] for key in shapes)

    def snapshot(self) -> SessionContents:
        """Return all that is saved, as it is now; any thread may ask."""
        state, frames = self._history.now, self._frames.everything()
        named = {image_name(key) for key in (*frames, *state.support.keys, *(tag.key for tag in state.support.tags))}
        return SessionContents(
            state,
            frames,
            self.settings,
            self.propagation,
            {name: place for name, place in dict(self._places).items() if name in named},
            self._segmenter.weights,
            {name: known for name, known in dict(self._missing).items() if name in named},
            {key: painted for key, painted in dict(self._painted).items() if key in frames},
            self.effort,
            {name: free for name, free in self._numbers.linked.items() if name in named},
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
        self._frames.restore(contents.frames)
        self._history.restart(contents.state)
        self._places, self._missing = dict(contents.places), dict(contents.missing)
        self._segmenter.restore(contents.settings, contents.weights)
        self._propagation, self._effort = contents.propagation, contents.effort
        self._painted = dict(contents.painted)
        self._numbers.restore(contents.linked)
        self._folder = folder
        self._overtake()
        self._tell_of(*self.frames, learns=True)


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
