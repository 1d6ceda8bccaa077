"""The propagation from files to files: learn once, do every frame, write each image as soon as it is complete."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from napari_fewshot.batch.events import AllWritten, Event, FrameDone, ImageFailed, ImageSkipped, ImageWritten
from napari_fewshot.batch.frames import Done, Job, Opened, Source, ThisProcess, Watch, Workers, open_source
from napari_fewshot.batch.planes import StoredPlane, plane_file, write_plane
from napari_fewshot.batch.recipe import Recipe, digest_of_names
from napari_fewshot.batch.results import Planned, Results
from napari_fewshot.batch.shots import Lesson, Taught, read_lesson, real_place
from napari_fewshot.errors import FewShotError, SettingsError
from napari_fewshot.io.images import find_images, names_of
from napari_fewshot.io.label_stack import PlaneNote, Position
from napari_fewshot.propagation import PropagationSettings
from napari_fewshot.segmenter import Concept, FewShotSegmenter, SegmenterSettings
from napari_fewshot.support import UNLABELLED


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
        return PropagationSettings(min_area=self.recipe.min_area)


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
    lesson = read_lesson(recipe.shots, classes=recipe.classes, axes=recipe.axes, objects=recipe.objects)
    threads, segmenter, weights = _loaded(recipe, load)
    done = replace(
        recipe, shots=lesson.files, classes=lesson.support.classes, threads=threads, weights=weights, inputs=inputs,
        segmenter=replace(recipe.segmenter, device=weights["device"]),
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


def _loaded(
    recipe: Recipe, load: Callable[[SegmenterSettings], FewShotSegmenter]
) -> tuple[int, FewShotSegmenter, dict[str, str]]:
    from napari_fewshot.models.reproducible import fix_chance, identity_of

    threads = fix_chance(recipe.seed, recipe.threads)
    segmenter = load(recipe.segmenter)
    found = identity_of(segmenter)
    weights = {"features": found.features, "head": found.head, "device": found.device}
    other = [name for name in ("features", "head") if recipe.weights.get(name, weights[name]) != weights[name]]
    if other:
        raise SettingsError(
            f"the recipe was made with the weights {recipe.weights[other[0]]}, but here are {weights[other[0]]}; "
            "install that version of napari-fewshot, or start anew with 'napari-fewshot propagate'"
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
    course = _Course(results, batch.lesson.taught, batch.recipe.axes, deque(todo), total=len(todo))
    if concept is not None:
        who = ThisProcess(concept, batch.settings, watch) if workers is None else workers(concept, batch.settings)
        try:
            for done in who.results(course.jobs()):
                course.take(done)
                yield from course.news()
        finally:
            open_source.cache_clear()
    yield from course.news()
    yield AllWritten(results.finish(batch.sources, complete=not course.failed), course.failed)


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
    taught: Taught
    axes: str
    sources: deque[Source]
    total: int
    done: int = 0
    failed: int = 0
    _open: dict[str, _Waiting] = field(default_factory=dict)
    _events: deque[Event] = field(default_factory=deque)

    def jobs(self) -> Iterator[Job]:
        """Open one file after the other; frames that were painted as a whole are done without any work."""
        while self.sources:
            source = self.sources.popleft()
            try:
                opened = open_source(source, self.axes)
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
                        yield job

    def _job(self, planned: Planned, position: Position) -> Job | None:
        file = plane_file(planned.planes, position)
        shot = self.taught.get((real_place(planned.source.place), position)) if planned.number == 0 else None
        job = Job(planned.source, planned.number, position, file, self.axes, human=None if shot is None else shot.said)
        if shot is None or shot.is_partial:
            return job
        note = PlaneNote("painted")
        write_plane(file, StoredPlane(np.where(shot.said == UNLABELLED, 0, shot.said).astype(np.uint8), note))
        self.take(Done(job, note))
        return None

    def take(self, done: Done) -> None:
        """Take note of a frame; write its image where it was the last one."""
        waiting = self._open[self.results.plan(done.job.source, done.job.number, "").key]
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
        files = self.results.finish_image(waiting.planned, waiting.opened, waiting.notes)
        self._events.append(ImageWritten(name, files))

    def _fail(self, name: str, message: str, frames: int = 1) -> None:
        self.failed += 1
        self.done += frames
        self._events.append(ImageFailed(name, message))

    def news(self) -> Iterator[Event]:
        """What has happened since somebody asked."""
        while self._events:
            yield self._events.popleft()
