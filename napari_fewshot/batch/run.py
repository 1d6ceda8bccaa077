"""The propagation from files to files: learn once, do every frame, write each image as soon as it is complete."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Final

import numpy as np

from napari_fewshot.batch.events import AllWritten, Event, FrameDone, ImageFailed, ImageSkipped, ImageWritten, PartDone
from napari_fewshot.batch.frames import (
    Done,
    Job,
    Opened,
    Source,
    ThisProcess,
    Watch,
    Workers,
    forget_open_images,
    frame_of,
    open_source,
)
from napari_fewshot.batch.large_frames import LargeFrame
from napari_fewshot.batch.planes import StoredPlane, plane_file, write_plane
from napari_fewshot.batch.recipe import Recipe, digest_of_names
from napari_fewshot.batch.results import Planned, Results
from napari_fewshot.batch.shots import Lesson, read_lesson, real_place
from napari_fewshot.batch.stacks import Stacks
from napari_fewshot.errors import FewShotError, SettingsError
from napari_fewshot.frames import Instances
from napari_fewshot.instances.objects import taught_objects
from napari_fewshot.io.images import find_images, names_of
from napari_fewshot.io.label_stack import PlaneNote, Position
from napari_fewshot.propagation import PropagationSettings
from napari_fewshot.segmenter import Concept, Divides, FewShotSegmenter, Region, SegmenterSettings
from napari_fewshot.support import UNLABELLED, Shot


@dataclass(frozen=True, eq=False)
class Batch:
    """A recipe that is ready to be carried out: images found, shots read, segmenter loaded.

    Attributes
    ----------
    recipe
        With hashes of weights and shots.
    sources
        Files with images.
    lesson
        What to learn.
    segmenter
        What learns.
    """

    recipe: Recipe
    sources: tuple[Source, ...]
    lesson: Lesson
    segmenter: FewShotSegmenter

    @property
    def settings(self) -> PropagationSettings:
        """How proposals are made."""
        recipe = self.recipe
        steps = {f.name: getattr(recipe.clean_up, f.name) for f in fields(recipe.clean_up)}
        return PropagationSettings(**{**steps, "min_area": recipe.min_area}, volume=recipe.volume)


def prepare(recipe: Recipe, load: Callable[[SegmenterSettings], FewShotSegmenter]) -> Batch:
    """Find the images, read the shots and load the segmenter; nothing is written.

    Parameters
    ----------
    recipe
        What to do. Where it holds hashes (of shots, weights, names of images), they must be what they were.
    load
        Makes a segmenter.

    Raises
    ------
    FewShotError
        If something of it is not there, cannot be used, or is not what it was.
    """
    sources = find_sources(recipe)
    inputs = digest_of_names(source.name for source in sources)
    if recipe.inputs not in ("", inputs):
        raise SettingsError(
            f"the recipe was written for other images than the {len(sources)} that are there now; put them back, "
            "or name the images that it is to be used for"
        )
    lesson = read_lesson(
        recipe.shots, classes=recipe.classes, axes=recipe.axes, objects=recipe.objects, tags=recipe.tags,
        instances=recipe.segmenter.instances,
    )  # fmt: skip
    threads, segmenter, weights = _loaded(recipe, load)
    done = replace(
        recipe, shots=lesson.files, classes=lesson.support.classes, threads=threads, weights=weights, inputs=inputs,
        segmenter=replace(recipe.segmenter, device=weights["device"]), tags=lesson.tags,
    )  # fmt: skip
    return Batch(done, sources, lesson, segmenter)


def find_sources(recipe: Recipe) -> tuple[Source, ...]:
    """List the files with images of a recipe, with the names of their labels.

    Raises
    ------
    ReadError
        If one of its paths names nothing.
    """
    places = find_images(recipe.images)
    return tuple(Source.at(place, name) for place, name in zip(places, names_of(places), strict=True))


_WEIGHTS: Final = {  # part -> what it is called, and what to do where it is another one
    "features": ("backbone", "install that version of napari-fewshot"),
    "head": ("trained head", "install that version of napari-fewshot"),
    "objects": (
        "embedding of objects",
        "put back what was there, 'napari-fewshot weights where' says where",
    ),
}


def _loaded(
    recipe: Recipe, load: Callable[[SegmenterSettings], FewShotSegmenter]
) -> tuple[int, FewShotSegmenter, dict[str, str]]:
    from napari_fewshot.models.reproducible import fix_chance, identity_of

    threads = fix_chance(recipe.seed, recipe.threads)
    segmenter = load(recipe.segmenter)
    found = identity_of(segmenter)
    weights = {"features": found.features, "head": found.head, "device": found.device}
    if recipe.segmenter.instances:
        weights["objects"] = found.objects
    for name, (part, remedy) in _WEIGHTS.items():
        then, now = recipe.weights.get(name, weights.get(name)), weights.get(name)  # older recipes name fewer
        if then != now:
            raise SettingsError(
                f"the recipe was made with {f'the {part} {then}' if then else f'no {part}'}, but here is "
                f"{now or 'none'}; {remedy}, or start anew with 'napari-fewshot propagate'"
            )
    return threads, segmenter, weights


def carry_out(
    batch: Batch,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    watch: Watch | None = None,
    workers: Callable[[Concept, PropagationSettings], Workers] | None = None,
) -> Iterator[Event]:
    """Propagate onto all images, and write labels, recipe and a table of frames into a folder.

    Wherever it is stopped, files are complete or not there, and ``resume`` does what is left.

    Parameters
    ----------
    batch
        What to do.
    out
        The folder.
    resume, overwrite
        See `Results`.
    watch
        Told before each tile, also while learning (of no frame then); what it raises ends the work there.
    workers
        Makes who does the frames, of what was learnt; by default this process.

    Yields
    ------
    Event
        What has happened; `AllWritten` at the end.

    Raises
    ------
    FewShotError
        If nothing can be learnt, or nothing be written. An image that cannot be used is told and left out.
    """
    if batch.recipe.volume.are_used and workers is not None:
        raise SettingsError(
            "slices that share evidence are done by one process; leave --cluster away, or --consistent-along"
        )
    if batch.recipe.segmenter.instances and workers is not None:
        raise SettingsError("objects are told apart by one process; leave --cluster away, or --instances")
    results = Results(
        out, batch.recipe, batch.sources, batch.lesson.support.classes, resume=resume, overwrite=overwrite
    )
    todo = [source for source in batch.sources if not results.is_done(source)]
    concept = None
    if todo:
        about = None if watch is None else (lambda done, total: watch(None, done, total))
        concept = batch.segmenter.learn(batch.lesson.support, progress=about)
    results.begin()  # nothing is written before all that can be refused is
    for source in batch.sources:
        if results.is_done(source):
            yield ImageSkipped(source.name, results.frames_done(source))
    failed = 0
    if concept is not None:
        who = _workers(batch, concept, watch, workers)
        course = _Course(results, batch, concept, who, deque(todo), total=len(todo))
        try:
            for done in who.results(course.jobs()):
                course.take(done)
                yield from course.news()
        finally:
            forget_open_images()
        yield from course.news()
        failed = course.failed
    yield AllWritten(results.finish(batch.sources, complete=not failed), failed)


def _workers(
    batch: Batch,
    concept: Concept,
    watch: Watch | None,
    workers: Callable[[Concept, PropagationSettings], Workers] | None,
) -> Workers:
    if batch.recipe.volume.are_used:
        return Stacks(concept, batch.segmenter, batch.lesson, batch.settings, batch.recipe.axes, watch)
    return ThisProcess(concept, batch.settings, watch) if workers is None else workers(concept, batch.settings)


@dataclass
class _Waiting:
    """An image of which not all frames are done."""

    planned: Planned
    opened: tuple[Opened, ...]
    left: int
    notes: dict[Position, tuple[PlaneNote, str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


@dataclass
class _Course:
    """Hands out frames, and puts images together of what comes back, in whatever order."""

    results: Results
    batch: Batch
    concept: Concept
    workers: Workers
    sources: deque[Source]
    total: int
    done: int = 0
    failed: int = 0
    _open: dict[str, _Waiting] = field(default_factory=dict)
    _large: dict[Path, LargeFrame] = field(default_factory=dict)
    _events: deque[Event] = field(default_factory=deque)

    def jobs(self) -> Iterator[Job]:
        """Open one file after the other; frames that were painted as a whole are done without any work."""
        while self.sources:
            source = self.sources.popleft()
            try:
                opened = open_source(source, self.batch.recipe.axes)
            except FewShotError as error:
                self._fail(source.name, str(error))
                continue
            self.total += sum(len(each.frames) for each in opened) - 1
            for number, each in enumerate(opened):
                planned = self.results.plan(source, number, each.name)
                self._open[planned.key] = _Waiting(planned, opened, len(each.frames))
                for position in each.frames:
                    job = self._job(planned, position)
                    if job is not None:
                        yield from self._divided(job)

    def _job(self, planned: Planned, position: Position) -> Job | None:
        file = plane_file(planned.planes, position)
        place = real_place(planned.source.place)
        shot = self.batch.lesson.taught.get((place, position)) if planned.number == 0 else None
        human = None if shot is None else shot.said
        ids = None if shot is None else shot.instances
        job = Job(planned.source, planned.number, position, file, self.batch.recipe.axes, human, instances=ids)
        if shot is None or shot.is_partial:
            return job
        note = PlaneNote("painted")
        labels = np.where(shot.said == UNLABELLED, 0, shot.said).astype(np.uint8)
        write_plane(file, StoredPlane(labels, note, instances=self._painted_objects(shot)))
        self.take(Done(job, note))
        return None

    def _painted_objects(self, shot: Shot) -> Instances | None:
        """Objects of a frame that a person painted as a whole: as they were numbered, else what is connected."""
        if not self.batch.recipe.segmenter.instances:
            return None
        return taught_objects(shot, self.batch.lesson.support.counted_ids)

    def _divided(self, job: Job) -> Iterator[Job]:
        """Cut a large frame into several pieces of work."""
        parts: tuple[Region, ...] = ()
        if isinstance(self.concept, Divides) and self._may_divide:
            with suppress(FewShotError):  # it will be told when its turn comes
                parts = self.concept.parts(frame_of(job))
        if not parts:
            yield job
            return
        self._large[job.file] = large = LargeFrame(job, parts)
        yield from large.jobs()

    @property
    def _may_divide(self) -> bool:
        """Whether neither other slices nor probabilities are needed, which parts do not have."""
        return not (self.batch.recipe.volume.are_used or self.batch.settings.thresholds)

    def take(self, done: Done) -> None:
        """Take note of a frame, or of a part of one; write its image where it was the last one."""
        waiting = self._open[self.results.plan(done.job.source, done.job.number, "").key]
        large = self._large.get(done.whole)
        if large is not None:
            assert isinstance(self.concept, Divides), "it has divided this frame"
            large.take(done)
            if not large.is_done:
                name, position = waiting.planned.name, done.job.position
                self._events.append(PartDone(name, position, large.done, large.total))
                return
            del self._large[done.whole]
            done = large.whole(self.concept, self.batch.settings)
        waiting.left -= 1
        self.done += 1
        if done.failure:
            waiting.failures.append(done.failure)
        else:
            waiting.notes[done.job.position] = done.note, done.remark
            name, note = waiting.planned.name, done.note
            self._events.append(
                FrameDone(name, done.job.position, note.provenance, note.score, done.remark, self.done, self.total)
            )
        if waiting.left == 0:
            del self._open[waiting.planned.key]
            self._finish(waiting)

    def _finish(self, waiting: _Waiting) -> None:
        name = waiting.planned.name
        if waiting.failures:
            self._fail(name, waiting.failures[0], frames=0)
            return
        files = self.results.finish_image(waiting.planned, waiting.opened, waiting.notes, self.workers.each)
        self._events.append(ImageWritten(name, files))

    def _fail(self, name: str, message: str, frames: int = 1) -> None:
        self.failed += 1
        self.done += frames
        self._events.append(ImageFailed(name, message))

    def news(self) -> Iterator[Event]:
        """What has happened since somebody asked."""
        while self._events:
            yield self._events.popleft()
