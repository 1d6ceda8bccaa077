"""Frames that are proposed for together with their neighbours: in this process, since workers share no slices."""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from typing import Any, Final

import numpy as np

from napari_fewshot.batch.frames import Done, Job, Opened, Source, Watch, do_job, open_source
from napari_fewshot.batch.planes import StoredPlane, write_plane
from napari_fewshot.batch.shots import Lesson, real_place
from napari_fewshot.frames import Frame
from napari_fewshot.io.formats import one_after_the_other
from napari_fewshot.io.images import names_of, open_images
from napari_fewshot.io.label_stack import PlaneNote
from napari_fewshot.propagation import PropagationSettings
from napari_fewshot.segmenter import Concept, FewShotSegmenter, TileProgress
from napari_fewshot.volumes.concept import Surroundings, VolumeConcept
from napari_fewshot.volumes.series import is_wanted
from napari_fewshot.volumes.tuning import learn_consistency

LEFT_OUT: Final = "left out"
"""Where labels of slices that are out of the range come from."""


class Stacks:
    """Does one frame after the other, looking at those around it; see `Workers`.

    How much neighbours count is learnt from the stacks that the shots lie in. A frame that was done by an earlier run
    is not done again; what it says to its neighbours is computed anew, and is the same.

    Parameters
    ----------
    concept, segmenter
        What was learnt from all shots, and by what.
    lesson
        The shots, and where they lie.
    settings
        How to propose.
    axes
        Of images, where they do not say.
    watch
        Told before each tile of which frame, and how far it is.
    """

    def __init__(
        self,
        concept: Concept,
        segmenter: FewShotSegmenter,
        lesson: Lesson,
        settings: PropagationSettings,
        axes: str = "",
        watch: Watch | None = None,
    ) -> None:
        self._lesson, self._settings, self._watch = lesson, settings, watch
        about: TileProgress | None = None if watch is None else partial(watch, None)
        around = [frame for files in lesson.files for frame in _frames_of(files.image, axes)]
        self._consistency = learn_consistency(segmenter, concept, around, settings.volume, progress=about)
        self._around = lru_cache(1)(self._look_around)  # frames of an image come one after the other

    def results(self, jobs: Iterable[Job]) -> Iterator[Done]:
        """See `Workers`."""
        for job in jobs:
            about = None if self._watch is None else partial(self._watch, (job.source.name, *job.position))
            frame = open_source(job.source, job.axes)[job.number].frames[job.position]
            if is_wanted(frame, self._settings.volume):
                concept = self._around(job.source, job.axes, job.number)
                yield do_job(job, concept, self._settings, about)
            else:
                yield _left_out(job, frame)

    def each(self, function: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> None:
        """See `Workers`."""
        one_after_the_other(function, arguments)

    def _look_around(self, source: Source, axes: str, number: int) -> VolumeConcept:
        opened: Opened = open_source(source, axes)[number]
        place, taught = real_place(source.place), self._lesson.taught
        known = {
            frame.key: taught[place, position].said
            for position, frame in opened.frames.items()
            if number == 0 and (place, position) in taught
        }
        return self._consistency.around(Surroundings(tuple(opened.frames.values()), known))


def _frames_of(image: str, axes: str) -> Iterator[Frame]:
    """Go through the frames of an image that was taught on, by the names that its shots have."""
    (name,) = names_of([image])
    return open_images(image, axes=axes)[0].frames(name)


def _left_out(job: Job, frame: Frame) -> Done:
    """Write what a person said of a slice that is out of the range, and nothing else."""
    size = frame.open().size
    labels = np.zeros(size, np.uint8) if job.human is None else np.where(job.human == 255, 0, job.human)
    note = PlaneNote(LEFT_OUT)
    write_plane(job.file, StoredPlane(labels.astype(np.uint8), note, instances=job.instances))
    return Done(job, note)
