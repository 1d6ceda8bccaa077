"""A large frame whose parts are done by several, and what becomes of them when all are there."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from napari_fewshot.batch.frames import Done, Job
from napari_fewshot.batch.planes import DividedLabels, StoredPlane, part_file, write_plane
from napari_fewshot.io.label_stack import PlaneNote
from napari_fewshot.propagation import PropagationSettings, tidied
from napari_fewshot.segmenter import Divides, Region


@dataclass
class LargeFrame:
    """Parts of a frame.

    Attributes
    ----------
    job
        The whole of it.
    parts
        What it was divided into.
    """

    job: Job
    parts: tuple[Region, ...]
    _done: dict[Region, Done] = field(default_factory=dict)

    def jobs(self) -> Iterator[Job]:
        """A piece of work for each part; what a person labelled is put over all of them at the end."""
        for part in self.parts:
            yield replace(self.job, file=part_file(self.job.file, part), human=None, part=part)

    def take(self, done: Done) -> None:
        """Take note of a part."""
        assert done.job.part is not None, "it is a part of this frame"
        self._done[done.job.part] = done

    @property
    def done(self) -> int:
        """Parts that are done, or have failed."""
        return len(self._done)

    @property
    def total(self) -> int:
        """All parts."""
        return len(self.parts)

    @property
    def is_done(self) -> bool:
        """Whether no part is left."""
        return self.done == self.total

    def whole(self, concept: Divides, settings: PropagationSettings) -> Done:
        """Judge the frame by what its parts tell, and tidy it if that is asked for.

        An object may lie in several parts: tidying takes the labels of the whole frame into memory.

        Raises
        ------
        ExportError
            If tidied labels cannot be written.
        """
        in_order = [self._done[part] for part in self.parts]
        failures = [done.failure for done in in_order if done.failure]
        if failures:
            return Done(self.job, failure=failures[0])
        note = PlaneNote("proposed", concept.score([each for done in in_order for each in done.evidence]))
        remark = next((done.remark for done in in_order if done.remark), "")
        if self.job.human is not None or replace(settings, skip_taught=True) != PropagationSettings():
            size = max(part.rows[1] for part in self.parts), max(part.columns[1] for part in self.parts)
            labels = DividedLabels(self.job.file, size)[:, :].astype(np.int32)
            plane = tidied(labels, self.job.human, settings).astype(np.uint8)
            write_plane(self.job.file, StoredPlane(plane, note, remark))
        return Done(self.job, note, remark)
