"""Frames as pieces of work: which file, which slice, and what to do with it, in this process or in others."""

import os
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from napari_fewshot.batch.planes import StoredPlane, plane_of, read_plane, write_plane
from napari_fewshot.errors import ExportError, FewShotError
from napari_fewshot.frames import Frame, FrameKey, Instances, Labels
from napari_fewshot.io.formats import one_after_the_other
from napari_fewshot.io.image_file import ImageFile
from napari_fewshot.io.images import Place, open_images
from napari_fewshot.io.label_stack import PlaneNote, Position
from napari_fewshot.io.ome_zarr import is_url
from napari_fewshot.propagation import PropagationSettings, propose_one
from napari_fewshot.segmenter import Concept, DividedFrame, Divides, Evidence, Region, TileProgress
from napari_fewshot.support import Shot


@dataclass(frozen=True, slots=True)
class Source:
    """A file with images.

    Attributes
    ----------
    place
        Where it is.
    name
        What its labels are named after.
    identity
        Place, size and time of the last change: another one is another image.
    """

    place: Place
    name: str
    identity: str

    @classmethod
    def at(cls, place: Place, name: str) -> "Source":
        """Look at a place; what cannot be looked at is told when it is opened."""
        text = os.fspath(place)
        try:
            found = None if is_url(text) else os.stat(text)
        except OSError:
            found = None
        if found is None:
            return cls(place, name, text)
        folder, file = os.path.split(text)
        where = os.path.join(_real_folder(folder), file)
        return cls(place, name, f"{where}|{found.st_size}|{found.st_mtime_ns}")


@lru_cache(maxsize=64)  # following the links of a folder anew for each of a million files takes minutes
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


@dataclass(frozen=True, eq=False)
class Opened:
    """An image that is open: its name, and its frames by position."""

    name: str
    image: ImageFile
    frames: dict[Position, Frame]


@lru_cache(maxsize=2)  # frames of a stack come one after the other, and share what is known of the stack
def open_source(source: Source, axes: str) -> tuple[Opened, ...]:
    """Open all images of a file.

    Raises
    ------
    FewShotError
        If it cannot be read.
    """
    images = open_images(source.place, axes=axes)
    names = [source.name if len(images) == 1 else f"{source.name} {number}" for number in range(1, len(images) + 1)]
    return tuple(
        Opened(name, image, dict(zip(np.ndindex(*image.stack_shape[:-2]), image.frames(name), strict=True)))
        for name, image in zip(names, images, strict=True)
    )


@dataclass(frozen=True, eq=False)
class Job:
    """Labels of one frame are wanted.

    Attributes
    ----------
    source, number, position
        The file, which image of it, and where in its stack.
    file
        Where the labels go.
    axes
        As for `open_images`.
    human
        (H, W) what a person labelled on this frame, 255 where unknown; None where nobody did, and for a part.
    instances
        (H, W) which of these pixels a person said to be of which object; None where nobody did.
    part
        Of a large frame, which `Divides`; None for the whole.
    """

    source: Source
    number: int
    position: Position
    file: Path
    axes: str = ""
    human: Labels | None = None
    part: Region | None = None
    instances: Instances | None = None


@dataclass(frozen=True)
class Done:
    """A frame is done, or cannot be.

    Attributes
    ----------
    job
        Which.
    note, remark
        See `StoredPlane`.
    failure
        Why nothing could be proposed for it; "" where it was.
    evidence
        Of a part.
    """

    job: Job
    note: PlaneNote = field(default_factory=PlaneNote)
    remark: str = ""
    failure: str = ""
    evidence: tuple[Evidence, ...] = ()

    @property
    def whole(self) -> Path:
        """The file of the whole frame."""
        return self.job.file if self.job.part is None else plane_of(self.job.file)


class Workers(Protocol):
    """Who does jobs."""

    def results(self, jobs: Iterable[Job]) -> Iterator[Done]:
        """Do each job and tell of it, in any order; jobs are asked for when there is somebody to do them.

        Raises
        ------
        ExportError
            If labels cannot be written.
        """
        ...

    def each(self, function: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> None:
        """Call a function with each of these arguments, in any order and by anybody, and wait for all of them.

        Raises
        ------
        FewShotError
            If one of the calls does.
        """
        ...


def do_job(job: Job, concept: Concept, settings: PropagationSettings, progress: TileProgress | None = None) -> Done:
    """Propose for a frame, or a part of one, and write its labels.

    Raises
    ------
    ExportError
        If they cannot be written.
    """
    stored = read_plane(job.file)  # done before somebody, or something, was stopped
    if stored is None:
        try:
            stored = _proposed(job, concept, settings, progress)
        except ExportError:
            raise
        except FewShotError as error:
            return Done(job, failure=str(error))
        write_plane(job.file, stored)
    return Done(job, stored.note, stored.remark, evidence=stored.evidence)


def _proposed(job: Job, concept: Concept, settings: PropagationSettings, progress: TileProgress | None) -> StoredPlane:
    if job.part is not None:
        part = _divided(cast(Hashable, concept), job.source, job.axes, job.number, job.position).propose(
            job.part, progress=progress
        )
        return StoredPlane(part.labels.astype(np.uint8), PlaneNote("proposed"), part.note, part.evidence)
    frame = frame_of(job)
    shot = None if job.human is None else Shot(frame, job.human, instances=job.instances)
    proposal = propose_one(concept, frame, shot, settings, progress)
    note = PlaneNote("proposed", proposal.score)
    return StoredPlane(proposal.labels.astype(np.uint8), note, proposal.note, instances=proposal.instances)


def frame_of(job: Job) -> Frame:
    """Open the frame of a job."""
    return open_source(job.source, job.axes)[job.number].frames[job.position]


@lru_cache(maxsize=1)  # parts of a frame come one after the other, and share what is known of the image as a whole
def _divided(concept: Hashable, source: Source, axes: str, number: int, position: Position) -> DividedFrame:
    assert isinstance(concept, Divides), "parts are of concepts that divide frames"
    return concept.divide(open_source(source, axes)[number].frames[position])


def forget_open_images() -> None:
    """Close what was kept open for the next frame."""
    open_source.cache_clear()
    _divided.cache_clear()


class ThisProcess:
    """Does one job after the other.

    Parameters
    ----------
    concept
        What proposes.
    settings
        How.
    progress
        Told before each tile of which frame, and how far it is.
    """

    def __init__(self, concept: Concept, settings: PropagationSettings, progress: "Watch | None" = None) -> None:
        self._concept, self._settings, self._progress = concept, settings, progress

    def results(self, jobs: Iterable[Job]) -> Iterator[Done]:
        """See `Workers`."""
        for job in jobs:
            about = None if self._progress is None else partial(self._progress, (job.source.name, *job.position))
            yield do_job(job, self._concept, self._settings, about)

    def each(self, function: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> None:
        """See `Workers`."""
        one_after_the_other(function, arguments)


class Watch(Protocol):
    """Somebody who is told which frame is at work, tiles done, and tiles in all."""

    def __call__(self, key: FrameKey | None, done: int, total: int, /) -> None:
        """Take note."""
        ...
