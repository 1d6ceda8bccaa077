"""A concept that looks at the slices around the one it is asked about."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from threading import RLock
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import FewShotError
from napari_fewshot.frames import Frame, FrameKey, Labels
from napari_fewshot.instances.fitting import follow
from napari_fewshot.proposals import Proposal
from napari_fewshot.segmenter import Concept, TileProgress
from napari_fewshot.support import BACKGROUND, SupportSet
from napari_fewshot.volumes.alignment import flows_between
from napari_fewshot.volumes.consistency import Neighbour, Weights, log, reach_of, smoothed
from napari_fewshot.volumes.memo import Memo
from napari_fewshot.volumes.objects import window_of, without_gaps, without_short
from napari_fewshot.volumes.series import SeriesId, place_along, series_along
from napari_fewshot.volumes.settings import VolumeSettings
from napari_fewshot.volumes.shapes import in_between, signed_distances
from napari_fewshot.volumes.slices import ROWS, Floats, Slice, is_settled, picture_of

Place: TypeAlias = tuple[SeriesId, int]

_IN_MEMORY: Final = 1 << 30
"""Bytes of new probabilities up to which they are in memory; larger ones are in a file without a name."""


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What lies around the frames that are proposed for.

    Attributes
    ----------
    frames
        Those that may be looked at.
    known
        (H, W) labels of frames that are decided, 255 where nothing is; what was taught need not be among them.
    """

    frames: tuple[Frame, ...] = ()
    known: Mapping[FrameKey, npt.NDArray[np.integer[Any]]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Consistency:
    """What was learnt of a stack: the concept, and how much neighbouring slices count.

    Attributes
    ----------
    concept
        Learnt from all shots; it proposes for a slice by itself.
    settings
        What is wanted.
    weights
        How much neighbours count.
    alone
        Of each shot by itself, by its frame; used where ``weights.near`` is above 0.
    """

    concept: Concept
    settings: VolumeSettings
    weights: Weights
    alone: Mapping[FrameKey, Concept] = field(default_factory=dict)

    def around(self, surroundings: Surroundings) -> "VolumeConcept":
        """Look at these frames."""
        return VolumeConcept(self, surroundings)


class VolumeConcept:
    """A `Concept` that proposes for a slice what it and its neighbours say together.

    A proposal depends on the slice, on `reach_of` slices to either side, and on those that ``fill_gaps`` and
    ``min_extent`` look at; not on which was asked for before. As many are kept as two windows hold, one on the way up
    and one on the way down. Frames that are in no series are proposed for by themselves.

    Parameters
    ----------
    consistency
        What was learnt.
    surroundings
        The slices, and what is decided on them.
    """

    def __init__(self, consistency: Consistency, surroundings: Surroundings) -> None:
        self._consistency, self._settings = consistency, consistency.settings
        self._weights, self._concept = consistency.weights, consistency.concept
        shots = {shot.key: shot for shot in self.support}
        said: dict[FrameKey, npt.NDArray[np.integer[Any]]] = {key: shot.said for key, shot in shots.items()}
        self._known = {**surroundings.known, **said}
        taught = {key: shot.frame for key, shot in shots.items()}
        frames = {**taught, **{frame.key: frame for frame in surroundings.frames}}
        self._series = series_along(frames.values(), self._settings.along)
        beside = self._settings.fill_gaps + self._settings.min_extent - 1
        reach = max((reach_of(series.step) for series in self._series.values()), default=0)
        self._alone = Memo(self._look_alone, _room_for(reach))
        self._together = Memo(self._look_around, _room_for(beside))
        self._gapless = Memo(self._fill, _room_for(self._settings.min_extent - 1))
        self._depths = Memo(self._measure, 2)
        self._progress: TileProgress | None = None
        self._lock = RLock()

    @property
    def support(self) -> SupportSet:
        """What it was learnt from."""
        return self._concept.support

    @property
    def interpolates(self) -> bool:
        """Whether shapes in between painted slices count."""
        return self._settings.interpolate

    def propose(self, frame: Frame, *, progress: TileProgress | None = None) -> Proposal:
        """Propose for a slice; see `Concept`."""
        place = self.place_of(frame)
        if place is None:
            return self._propose_alone(frame, progress)
        with self.telling(progress):
            proposal = self._together(place)
            labels = self._finished(place, proposal.labels)
            return proposal if labels is proposal.labels else _relabelled(proposal, labels, self.support.counted_ids)

    def _propose_alone(self, frame: Frame, progress: TileProgress | None) -> Proposal:
        proposal = self._concept.propose(frame, progress=progress)
        if proposal.note or place_along(frame, self._settings.along) is not None:
            return proposal
        return replace(proposal, note=f"it has no neighbouring slices along {self._settings.along.lower()}")

    def place_of(self, frame: Frame) -> Place | None:
        """Tell where a frame lies; None where it has no neighbours, or is out of the range."""
        place = place_along(frame, self._settings.along)
        known = place is not None and place[0] in self._series and self._frame(place) is not None
        return place if known else None

    def step(self, place: Place) -> float:
        """Distance of two slices there, in pixels."""
        return self._series[place[0]].step

    @contextmanager
    def telling(self, progress: TileProgress | None) -> Iterator[None]:
        """Tell somebody of the tiles that are gone through, one caller at a time."""
        with self._lock:
            self._progress = progress
            try:
                yield
            finally:
                self._progress = None

    # ------------------------------------------------------------------ a slice by itself
    def slice_at(self, place: Place) -> Slice | None:
        """Return a slice as it looks by itself; None where there is none."""
        alone = self._alone(place)
        return None if alone is None else alone[0]

    def _frame(self, place: Place) -> Frame | None:
        series = self._series[place[0]]
        return series.frames.get(place[1]) if self._settings.includes(place[1]) else None

    def _look_alone(self, place: Place) -> tuple[Slice, Proposal | None] | None:
        """Look at a slice, and what is proposed for it by itself; None where there is nothing to look at."""
        frame = self._frame(place)
        if frame is None:
            return None
        class_ids, human = self.support.class_ids, self._said(frame)
        picture, size = picture_of(frame), frame.open().size
        if is_settled(human, class_ids):
            return Slice(picture, size, class_ids, human=human), None
        proposal = self._concept.propose(frame, progress=self._progress)
        near = self._nearest(place) if self._weights.near else {}
        probabilities = proposal.probabilities
        if near:
            probabilities = self._with_near(frame, proposal, near)
        return Slice(picture, size, class_ids, probabilities, human), proposal

    def _said(self, frame: Frame) -> Labels | None:
        human = self._known.get(frame.key)
        return None if human is None or human.shape != frame.open().size else human.astype(np.int32, copy=False)

    def _nearest(self, place: Place) -> dict[FrameKey, float]:
        """The taught slices on either side of a place, and how much each of them counts there."""
        frames = self._series[place[0]].frames
        taught = sorted(z for z, frame in frames.items() if frame.key in self._consistency.alone)
        below, above = ([z for z in taught if z <= place[1]][-1:], [z for z in taught if z >= place[1]][:1])
        ends = sorted({*below, *above})
        if len(ends) < 2:
            return {frames[z].key: 1.0 for z in ends}
        part = (place[1] - ends[0]) / (ends[1] - ends[0])
        return {frames[ends[0]].key: 1 - part, frames[ends[1]].key: part}

    def _with_near(self, frame: Frame, proposal: Proposal, near: Mapping[FrameKey, float]) -> Floats:
        """Mix what all shots say with what the nearest say by themselves (1 + C, H, W)."""
        found = _room(proposal.probabilities.shape)
        says = [
            (self._consistency.alone[key].propose(frame, progress=self._progress), np.float32(share))
            for key, share in near.items()
        ]
        all_ids, share = (BACKGROUND, *proposal.class_ids), np.float32(self._weights.near)
        for top in range(0, found.shape[1], ROWS):
            rows = slice(top, top + ROWS)
            theirs = np.zeros_like(found[:, rows])
            for said, part in says:
                channels = [all_ids.index(value) for value in (BACKGROUND, *said.class_ids)]
                theirs[channels] += part * said.probabilities[:, rows]
            mixed = (1 - share) * log(proposal.probabilities[:, rows]) + share * log(theirs)
            mixed = np.exp(mixed - mixed.max(axis=0))
            found[:, rows] = mixed / mixed.sum(axis=0)
        return found

    # ------------------------------------------------------------------ a slice and its neighbours
    def neighbours(self, place: Place) -> list[Neighbour]:
        """Return the slices around a place that have something to say: those below, then those above, nearest first."""
        name, z = place
        centre, reach = self.slice_at(place), reach_of(self.step(place))
        found: list[Neighbour] = []
        for way in (-1, 1):
            last, flow = centre, None
            for away in range(1, reach + 1):
                beside = None
                with suppress(FewShotError):  # a slice that cannot be used is told when it is its turn
                    beside = self.slice_at((name, z + way * away))
                if last is None or beside is None or beside.size != last.size:
                    continue
                onwards = flows_between(last, beside)[0] if way > 0 else flows_between(beside, last)[1]
                last, flow = beside, onwards if flow is None else flow.then(onwards)
                found.append(Neighbour(beside, away, flow))
        return found

    def _look_around(self, place: Place) -> Proposal:
        alone = self._alone(place)
        assert alone is not None, "only places with a frame are asked for"
        centre, proposal = alone
        if proposal is None:
            proposal = self._concept.propose(self._series[place[0]].frames[place[1]], progress=self._progress)
        neighbours = self.neighbours(place) if self._weights.strength else []
        between = self.between(place)
        if not neighbours and between is None and centre.probabilities is proposal.probabilities:
            return proposal
        probabilities = _room(proposal.probabilities.shape)
        smoothed(centre, neighbours, self._weights, self.step(place), probabilities, between)
        labels, confidence = _most_probable(probabilities, (BACKGROUND, *centre.class_ids))
        return replace(
            _relabelled(proposal, labels, self.support.counted_ids), probabilities=probabilities, confidence=confidence
        )

    # ------------------------------------------------------------------ shapes in between
    def between(self, place: Place) -> Floats | None:
        """Return what shapes in between the two nearest settled slices say (1 + C, H, W), if that is wanted."""
        name, z = place
        if not self._settings.interpolate or z in self._settled.get(name, ()):
            return None
        below, above = ([a for a in self._settled.get(name, ()) if a < z], [b for b in self._settled[name] if b > z])
        if not below or not above:
            return None
        one, other = self._depths((name, below[-1])), self._depths((name, above[0]))
        if one.shape != other.shape:
            return None
        steps = above[0] - below[-1]
        return in_between(one, other, (z - below[-1]) / steps, min(z - below[-1], above[0] - z))

    @cached_property
    def _settled(self) -> dict[SeriesId, list[int]]:
        """Places at which a person, or a decision, labelled every pixel."""
        class_ids = self.support.class_ids
        return {
            name: sorted(z for z, frame in series.frames.items() if is_settled(self._said_of(frame), class_ids))
            for name, series in self._series.items()
        }

    def _said_of(self, frame: Frame) -> Labels | None:
        with suppress(FewShotError):
            return self._said(frame) if frame.key in self._known else None
        return None

    def _measure(self, place: Place) -> Floats:
        labels = self._known[self._series[place[0]].frames[place[1]].key]
        return signed_distances(labels.astype(np.int32, copy=False), self.support.class_ids)

    # ------------------------------------------------------------------ objects
    def _finished(self, place: Place, labels: Labels) -> Labels:
        """Fill gaps, and leave out what is on too few slices."""
        least = self._settings.min_extent
        if least < 2:
            return self._gapless(place) if self._settings.fill_gaps else labels
        window = self._window(place, least - 1, self._gapless)
        return without_short(window_of(window, labels.shape), least - 1, least)

    def _fill(self, place: Place) -> Labels:
        labels, most = self._labels(place), self._settings.fill_gaps
        if not most:
            return labels
        window = self._window(place, most, Memo(self._labels, 0))
        return without_gaps(window_of(window, labels.shape), most, most)

    def _window(self, place: Place, beside: int, look: "Memo[Place, Labels]") -> list[Labels | None]:
        found: list[Labels | None] = []
        for z in range(place[1] - beside, place[1] + beside + 1):
            found.append(None)
            if self._frame((place[0], z)) is not None:
                with suppress(FewShotError):
                    found[-1] = look((place[0], z))
        return found

    def _labels(self, place: Place) -> Labels:
        """Labels of a slice as they are decided, or else as it and its neighbours propose."""
        alone = self._alone(place)
        if alone is not None and alone[1] is None and alone[0].human is not None:
            return alone[0].human
        return self._together(place).labels


def _relabelled(proposal: Proposal, labels: Labels, counted: Sequence[int]) -> Proposal:
    """Give a proposal other labels, which its objects follow."""
    ids = None if proposal.instances is None else follow(proposal.instances, labels, counted)
    return replace(proposal, labels=labels, instances=ids)


def _room_for(beside: int) -> int:
    """Slices in two windows, one on the way up and one on the way down, and one on its way into each of them."""
    return 2 * (2 * beside + 1) + 2


def _room(shape: Sequence[int]) -> Floats:
    """Make room for probabilities: a large one lies in a file, of which the system keeps in memory what it can."""
    if 4 * int(np.prod(shape)) <= _IN_MEMORY:
        return np.empty(tuple(shape), np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=tuple(shape))


def _most_probable(probabilities: Floats, values: Sequence[int]) -> tuple[Labels, Floats]:
    """Label of every pixel (H, W), the first of those that are equally probable, and how probable it is (H, W)."""
    labels = np.empty(probabilities.shape[1:], np.int32)
    surest = np.empty(probabilities.shape[1:], np.float32)
    for top in range(0, len(labels), ROWS):
        rows = slice(top, top + ROWS)
        part = np.asarray(probabilities[:, rows])
        labels[rows] = np.asarray(values, np.int32)[part.argmax(axis=0)]
        surest[rows] = part.max(axis=0)
    return labels, surest
