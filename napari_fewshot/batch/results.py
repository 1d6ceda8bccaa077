"""The folder that a propagation fills: which file goes where, and what is done already."""

import csv
import io
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from napari_fewshot.batch.frames import Opened, Source, open_source
from napari_fewshot.batch.planes import StoredInstances, StoredLabels, folder_of, plane_file
from napari_fewshot.batch.recipe import FILE_NAME, Recipe, write_recipe
from napari_fewshot.errors import ExportError
from napari_fewshot.io.atomic import make_folder, replacing
from napari_fewshot.io.formats import OBJECTS, LabelFormat, Share, label_format, write_labels
from napari_fewshot.io.journal import Journal, Record
from napari_fewshot.io.label_stack import LabelStack, PlaneNote, Position
from napari_fewshot.io.names import default_name, default_names
from napari_fewshot.support import LabelClass

TABLE: Final = "frames.csv"
_HIDDEN: Final = ".napari-fewshot"
_PLANES: Final = "planes"
_JOINT_NAMES: Final = {"csv": "objects"}
_UNFINISHED: Final = (".partial", ".old")
COLUMNS: Final = ("image", "position", "provenance", "score", "remark")


@dataclass(frozen=True)
class Planned:
    """An image whose labels are wanted: its file, its number in there, and its name."""

    source: Source
    number: int
    name: str
    planes: Path

    @property
    def key(self) -> str:
        """In the journal."""
        return f"{self.source.identity}#{self.number}"


class Results:
    """A folder with labels, a recipe and a table; in a hidden folder the journal, and labels of unfinished images.

    Parameters
    ----------
    out
        The folder.
    recipe
        Of the run.
    sources
        All files with images, in their order.
    classes
        Of the labels.
    resume, overwrite
        Whether to go on with what is there, and whether it may be replaced.

    Raises
    ------
    ExportError
        If results are there and may neither be gone on with nor be replaced, or the folder cannot be written.
    SettingsError
        If what is there was made with other settings.
    """

    def __init__(
        self,
        out: Path,
        recipe: Recipe,
        sources: Sequence[Source],
        classes: tuple[LabelClass, ...],
        *,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.out, self.recipe, self.classes = out, recipe, classes
        self._kinds = [label_format(name) for name in recipe.formats]
        self._stems = _stems(sources)
        self._planes = out.absolute() / _HIDDEN / _PLANES  # for workers in another folder
        self._file = out / _HIDDEN / "journal.jsonl"
        self._going_on = resume and self._file.is_file()
        self._replace = overwrite or self._going_on
        _check_folder(out)
        if not self._replace:
            self._refuse_what_is_there()
        self._journal = Journal(self._file, recipe.settings) if self._going_on else None

    def begin(self) -> None:
        """Make the folder, and write the recipe.

        Raises
        ------
        ExportError
            If that is not possible.
        """
        make_folder(self.out)
        if not self._going_on:
            shutil.rmtree(self._planes, ignore_errors=True)
            self._journal = Journal(self._file, self.recipe.settings, fresh=True)
        self._remove_unfinished()
        write_recipe(self.out / FILE_NAME, self.recipe)

    # ------------------------------------------------------------------ planning
    def plan(self, source: Source, number: int, name: str) -> Planned:
        """Say where the frames of an image go until all are there."""
        return Planned(source, number, name, folder_of(self._planes, f"{source.identity}#{number}"))

    def is_done(self, source: Source) -> bool:
        """Whether all labels of a file with images are written."""
        return bool(self._records(source))

    def frames_done(self, source: Source) -> int:
        """Frames of a file that is done."""
        return sum(len(record["frames"]) for record in self._records(source))

    @property
    def has_joint(self) -> bool:
        """Whether some format holds all images in one file."""
        return any(kind.joint for kind in self._kinds)

    # ------------------------------------------------------------------ writing
    def finish_image(
        self, planned: Planned, opened: Sequence[Opened], notes: dict[Position, tuple[PlaneNote, str]], share: Share
    ) -> tuple[Path, ...]:
        """Write the labels of an image all of whose frames are done; see `write_labels` for ``share``.

        Raises
        ------
        ExportError
            If they cannot be written.
        """
        stack = self._stack(planned, opened[planned.number], {at: note for at, (note, _) in notes.items()})
        written: list[Path] = []
        for kind in self._kinds:
            if not kind.joint:
                path = self.out / self._file_name(planned, kind.suffix)
                written += write_labels(path, stack, format=kind.name, overwrite=self._replace, share=share)
                if stack.objects is not None:
                    beside = kind.beside(path, OBJECTS)
                    ids = replace(stack, labels=stack.objects, objects=None, classes=None)
                    written += write_labels(beside, ids, format=kind.name, overwrite=self._replace, share=share)
        frames = [[list(at), note.provenance, note.score, remark] for at, (note, remark) in sorted(notes.items())]
        assert self._journal is not None, "begin() comes first"
        self._journal.add(planned.key, {"name": planned.name, "images": len(opened), "frames": frames})
        if not self.has_joint:
            shutil.rmtree(planned.planes, ignore_errors=True)
        return tuple(written)

    def finish(self, sources: Sequence[Source], *, complete: bool) -> tuple[Path, ...]:
        """Write the table of frames, and the files that hold all images.

        Parameters
        ----------
        sources
            All files with images.
        complete
            Whether nothing is left that a resumed run could go on with.

        Raises
        ------
        ExportError
            If they cannot be written.
        """
        done = [(source, self._records(source)) for source in sources]
        written = [self._write_table([record for _, records in done for record in records])]
        if self.has_joint:
            stacks = [stack for source, records in done for stack in self._stacks(source, records)]
            for kind in self._kinds:
                if kind.joint and stacks:
                    path = self.out / _joint_name(kind)
                    written += write_labels(path, stacks, format=kind.name, overwrite=True)
        elif complete:
            shutil.rmtree(self._planes, ignore_errors=True)
        return tuple(written)

    def _stacks(self, source: Source, records: Sequence[Record]) -> list[LabelStack]:
        opened = open_source(source, self.recipe.axes) if records else ()
        stacks = []
        for number, record in enumerate(records):
            notes = {tuple(at): PlaneNote(provenance, score) for at, provenance, score, _ in record["frames"]}
            stacks.append(self._stack(self.plan(source, number, record["name"]), opened[number], notes))
        return stacks

    def _stack(self, planned: Planned, opened: Opened, notes: dict[Position, PlaneNote]) -> LabelStack:
        image = opened.image
        axes = f"{image.stack_axes}YX"
        known = image.spacing is not None
        files, shape = self._plane_files(planned, notes), image.stack_shape
        return LabelStack(
            StoredLabels(files, shape),
            planned.name,
            axes,
            [image.step(axis)[0] for axis in axes] if known else None,
            [image.step(axis)[1] for axis in axes] if known else None,
            self.classes,
            image.path if isinstance(image.path, Path) else None,
            notes,
            StoredInstances(files, shape) if self.recipe.segmenter.instances else None,
        )

    @staticmethod
    def _plane_files(planned: Planned, positions: Iterable[Position]) -> dict[Position, Path]:
        return {position: plane_file(planned.planes, position) for position in positions}

    def _records(self, source: Source) -> list[Record]:
        """What the journal says of the images of a file, if all are done; otherwise nothing."""
        known = {} if self._journal is None else self._journal.records
        first = known.get(f"{source.identity}#0")
        keys = [f"{source.identity}#{number}" for number in range(first["images"])] if first else []
        return [known[key] for key in keys] if all(key in known for key in keys) else []

    def _write_table(self, records: Sequence[Record]) -> Path:
        path = self.out / TABLE
        with replacing(path, overwrite=True) as file:
            text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
            rows = csv.writer(text)
            rows.writerow(COLUMNS)
            for record in records:
                for at, provenance, score, remark in record["frames"]:
                    told = "" if score is None else f"{score:.4f}"
                    rows.writerow([record["name"], " ".join(map(str, at)), provenance, told, remark])
            text.detach()
        return path

    # ------------------------------------------------------------------ names
    def _file_name(self, planned: Planned, suffix: str) -> str:
        stem = self._stems[planned.source.name]
        return f"{stem}{suffix}" if planned.name == planned.source.name else default_name(planned.name, suffix)

    def _refuse_what_is_there(self) -> None:
        there = set(os.listdir(self.out)) if self.out.is_dir() else set()
        apart = [f"{stem}{kind.suffix}" for kind in self._kinds if not kind.joint for stem in self._stems.values()]
        if self.recipe.segmenter.instances:
            apart += [
                kind.beside(Path(f"{stem}{kind.suffix}"), OBJECTS).name
                for kind in self._kinds
                if not kind.joint
                for stem in self._stems.values()
            ]
        joint = [_joint_name(kind) for kind in self._kinds if kind.joint]
        if self._file.exists() or there.intersection((*apart, *joint, FILE_NAME, TABLE)):
            raise ExportError(
                f"'{self.out}' holds results already; go on with them by --resume, replace them by --overwrite, "
                "or name another folder"
            )

    def _remove_unfinished(self) -> None:
        """Remove what a killed run left of files of these names; they are hidden and were never complete."""
        joint = (_joint_name(kind) for kind in self._kinds if kind.joint)
        starts = tuple(f".{name[:90]}" for name in (*self._stems.values(), *joint, FILE_NAME, TABLE))
        for entry in os.scandir(self.out):
            if entry.name.endswith(_UNFINISHED) and entry.name.startswith(starts):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    Path(entry.path).unlink(missing_ok=True)


def _joint_name(kind: LabelFormat) -> str:
    return _JOINT_NAMES.get(kind.name, kind.name) + kind.suffix


def _check_folder(folder: Path) -> None:
    """Refuse at once what could not be written hours later."""
    above = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not above.is_dir():
        raise ExportError(f"'{above}' is not a folder; choose another one")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ExportError(f"you may not write in '{above}'; choose another folder")


def _stems(sources: Sequence[Source]) -> dict[str, str]:
    names = default_names((source.name for source in sources), "")
    return dict(zip((source.name for source in sources), names, strict=True))
