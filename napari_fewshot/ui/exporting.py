"""Label layers into files, off the GUI thread. Knows neither Qt nor napari."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_fewshot.errors import ExportError
from napari_fewshot.frames import FrameKey, image_name
from napari_fewshot.io.formats import OBJECTS, label_format
from napari_fewshot.io.label_stack import LabelStack, PlaneNote
from napari_fewshot.io.names import default_names
from napari_fewshot.io.units import axes_letters
from napari_fewshot.session import FrameState, Session
from napari_fewshot.session.objects import followed
from napari_fewshot.support import BACKGROUND
from napari_fewshot.ui.jobs import Failed, Finished, Stage, Written, export_job
from napari_fewshot.ui.origins_export import Origins, origins_of
from napari_fewshot.ui.ports import PAINTED_BACKGROUND, ExportChoice, ExportRequest, Layers, Runner, Stack, View
from napari_fewshot.ui.recipes import Told, write_recipe_of
from napari_fewshot.ui.reporting import Reporter


class Exporting:
    """Asks what to write, and writes it.

    Parameters
    ----------
    session
        Knows what was decided.
    view
        Asks.
    layers
        Have the labels.
    runner
        A thread for writing files.
    reporter
        Told what was written, and what went wrong.
    """

    changed = Signal()
    """There is something new to show."""

    def __init__(self, session: Session, view: View, layers: Layers, runner: Runner, reporter: Reporter) -> None:
        self.stage = ""
        """What is being written, in words; "" where nothing is."""
        self._session, self._view, self._layers, self._runner = session, view, layers, runner
        self._reporter = reporter

    def export(self) -> None:
        """Ask what to write, and write it.

        Raises
        ------
        ExportError
            If there are no labels.
        """
        layers = self._layers.label_layers()
        if not layers:
            raise ExportError("there are no labels to export yet; paint and teach, or accept a proposal, first")
        names = default_names(name for _, name in layers)
        choices = [
            ExportChoice(uid, name, file, self._layers.source_of(uid), self._session.settings.instances)
            for (uid, name), file in zip(layers, names, strict=True)
        ]
        request = self._view.ask_export(choices)
        if request is None or not request.files:
            return
        stacks = [(path, self._stack(uid, request.with_proposals)) for uid, path in request.files]
        chosen = label_format(request.format)
        if not chosen.joint:  # which list objects, as the others do not
            stacks += [
                (chosen.beside(path, OBJECTS), replace(stack, labels=stack.objects, objects=None, classes=None))
                for path, stack in stacks
                if stack.objects is not None
            ]
        self.stage = "Writing files ..."
        folder = request.files[0][1].parent
        recipe = partial(write_recipe_of, self._session.snapshot(), folder, request.format)
        beside = [recipe]
        if request.with_origins:
            origins = self._origins(choices, request, [stack for _, stack in stacks[: len(request.files)]])
            beside.append(partial(origins.write, overwrite=request.overwrite))
        job = partial(export_job, stacks, request.format, request.overwrite, partial(_one_after_the_other, beside))
        self._runner.start(job, self._receive, len(stacks))

    def _stack(self, uid: str, with_proposals: bool) -> LabelStack:
        stack = self._layers.export_stack(uid)
        labels = stack.labels
        notes = {p: PlaneNote("painted") for p in np.ndindex(*labels.shape[:-2]) if labels[p].any()}
        for key in self._session.frames:
            if image_name(key) == uid and self._session.state(key) is FrameState.ACCEPTED:
                notes[_position(key)] = PlaneNote("accepted")
            elif image_name(key) == uid and self._session.state(key) is FrameState.TAUGHT:
                notes[_position(key)] = PlaneNote("painted")
        if with_proposals:
            for key in self._session.review_queue():
                waiting = self._session.proposal(key)
                if image_name(key) == uid and waiting is not None:
                    slice_ = labels[_position(key)]  # (H, W), a view
                    slice_[...] = np.where(slice_ == 0, waiting.labels, slice_)
                    notes[_position(key)] = PlaneNote("proposed", waiting.score)
        labels[labels == PAINTED_BACKGROUND] = BACKGROUND
        told_apart = self._session.settings.instances
        return LabelStack(
            labels,
            stack.name,
            axes_letters(stack.axis_labels, len(stack.axis_labels)) or "",
            stack.spacing,
            stack.units,
            self._session.classes,
            stack.source,
            notes,
            self._objects(uid, labels, with_proposals) if told_apart else None,
        )

    def _objects(self, uid: str, labels: Stack, with_proposals: bool) -> npt.NDArray[np.int32]:
        """The objects (..., H, W) of an image, which follow what was painted since they were told apart."""
        ids = np.zeros(labels.shape, np.int32)
        for key in self._session.frames:
            if image_name(key) == uid:
                known = self._session.objects(key, with_proposals=with_proposals)
                found = followed(known, np.asarray(labels[_position(key)]), self._session.support)
                if found is not None:
                    ids[_position(key)] = found
        return ids

    def _origins(
        self, choices: Sequence[ExportChoice], request: ExportRequest, stacks: Sequence[LabelStack]
    ) -> Origins:
        """Who labelled what, of the images that are exported."""
        by_uid, exported = {choice.uid: choice for choice in choices}, []
        for (uid, path), stack in zip(request.files, stacks, strict=True):
            positions = {key: _position(key) for key in self._session.frames if image_name(key) == uid}
            painted = replace(stack, labels=self._layers.export_stack(uid).labels)
            exported.append((request.origins_file(by_uid[uid], path), painted, positions))
        return origins_of(self._session, exported, request.origins_table)

    def _receive(self, item: object) -> None:
        match item:
            case Stage():
                self.stage = item.text
            case Written():
                self._reporter.say(f"Wrote {item.path}")
            case Told():
                self._reporter.say(item.text)
            case Failed():
                self.stage = ""
                self._reporter.fail(item.error)
            case Finished():
                self.stage = ""
        self.changed.emit()


def _one_after_the_other(jobs: Iterable[Callable[[], Iterator[object]]]) -> Iterator[object]:
    for job in jobs:
        yield from job()


def _position(key: FrameKey) -> tuple[int, ...]:
    return () if isinstance(key, str) else tuple(int(place) for place in key[1:])
