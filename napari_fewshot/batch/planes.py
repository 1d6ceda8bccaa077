"""Labels of single frames on the disk, until all of their image are there and its file can be written."""

import hashlib
import itertools
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_fewshot.frames import Instances
from napari_fewshot.io.atomic import replacing
from napari_fewshot.io.label_stack import PlaneNote, Position
from napari_fewshot.segmenter import Evidence, Region

_SUFFIX: Final = ".npz"
_DAMAGED: Final = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)


@dataclass(frozen=True, eq=False)
class StoredPlane:
    """Labels of a frame.

    Attributes
    ----------
    labels
        (H, W) uint8.
    note
        Where they come from, and the expected IoU.
    remark
        See `Proposal.note`.
    evidence
        Of a part of a frame: see `PartProposal`.
    instances
        (H, W) which pixel belongs to which object; None where objects were not told apart.
    """

    labels: npt.NDArray[np.uint8]
    note: PlaneNote
    remark: str = ""
    evidence: tuple[Evidence, ...] = ()
    instances: Instances | None = None


def plane_file(folder: Path, position: Position) -> Path:
    """Name the file of a frame."""
    return folder / ("-".join(["plane", *(f"{i:06d}" for i in position)]) + _SUFFIX)


def part_file(plane: Path, part: Region) -> Path:
    """Name the file of a part of a frame: in a folder that is called like the file of the frame."""
    (top, bottom), (left, right) = part.rows, part.columns
    return plane.with_suffix("") / f"{top}-{bottom}_{left}-{right}{_SUFFIX}"


def plane_of(part: Path) -> Path:
    """Name the file of the frame that a file is a part of."""
    return part.parent.with_suffix(_SUFFIX)


def folder_of(planes: Path, identity: str) -> Path:
    """Name the folder for the frames of an image; a folder of a million files is slow, so there are 256 of them."""
    name = hashlib.blake2b(identity.encode(), digest_size=12).hexdigest()
    return planes / name[:2] / name[2:]


def write_plane(path: Path, plane: StoredPlane) -> None:
    """Write the labels of a frame, completely or not at all.

    Raises
    ------
    ExportError
        If they cannot be written.
    """
    score = np.float64(np.nan if plane.note.score is None else plane.note.score)
    ids: dict[str, Any] = {} if plane.instances is None else {"instances": plane.instances}
    with replacing(path, overwrite=True) as file:
        np.savez_compressed(
            file,
            labels=plane.labels,
            score=score,
            provenance=np.array(plane.note.provenance),
            remark=np.array(plane.remark),
            evidence=np.array(plane.evidence, np.float64),
            **ids,
        )


def read_plane(path: Path) -> StoredPlane | None:
    """Read the labels of a frame; None where they are missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as told:
            labels, score = told["labels"], float(told["score"])
            note = PlaneNote(str(told["provenance"]), None if np.isnan(score) else score)
            remark, evidence = str(told["remark"]), tuple(map(tuple, told["evidence"].tolist()))
            ids = told.get("instances")
    except _DAMAGED:
        return None
    if labels.dtype != np.uint8 or labels.ndim != 2:
        return None
    if ids is not None and (ids.dtype != np.int32 or ids.shape != labels.shape):
        return None
    return StoredPlane(labels, note, remark, evidence, ids)


class StoredLabels:
    """(..., Y, X) uint8, the labels of an image, each plane read when it is indexed; those that are missing are 0.

    Parameters
    ----------
    planes
        The file of each frame, by position; where there is none, its parts are put together.
    shape
        (..., Y, X).
    """

    dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __init__(self, planes: Mapping[Position, Path], shape: tuple[int, ...]) -> None:
        self.shape, self.ndim = shape, len(shape)
        self._planes = planes
        self._last: tuple[Position, _Plane] | None = None

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        asked = index if isinstance(index, tuple) else (index,)
        asked = () if asked == (...,) else asked
        every = (*asked, *[slice(None)] * (self.ndim - len(asked)))
        chosen = [range(n)[i] if isinstance(i, slice) else (range(n)[i],) for n, i in zip(self.shape, every[:-2])]  # noqa: B905
        kept = tuple(len(each) for each, i in zip(chosen, every, strict=False) if isinstance(i, slice))
        parts = [self._plane(position)[every[-2:]] for position in itertools.product(*chosen)]
        if not parts:
            return np.zeros((*kept, *np.zeros(self.shape[-2:], bool)[every[-2:]].shape), self.dtype)
        return np.stack(parts).reshape((*kept, *parts[0].shape))

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[...].astype(dtype or self.dtype, copy=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}  # labels are read where they are wanted

    def _plane(self, position: Position) -> "_Plane":
        if self._last is None or self._last[0] != position:
            self._last = position, self._read(position)
        return self._last[1]

    def _read(self, position: Position) -> "_Plane":
        size = (int(self.shape[-2]), int(self.shape[-1]))
        file = self._planes.get(position)
        stored = None if file is None else read_plane(file)
        if stored is not None and stored.labels.shape == size:
            return stored.labels
        return np.zeros(size, np.uint8) if file is None or not _parts_of(file) else DividedLabels(file, size)


class StoredInstances(StoredLabels):
    """(..., Y, X) int32, the objects of an image, each plane read when it is indexed; those that are missing are 0."""

    dtype = np.dtype(np.int32)

    def _read(self, position: Position) -> "_Plane":
        size = (int(self.shape[-2]), int(self.shape[-1]))
        file = self._planes.get(position)
        stored = None if file is None else read_plane(file)
        if stored is None or stored.instances is None or stored.instances.shape != size:
            return np.zeros(size, self.dtype)
        return stored.instances


class DividedLabels:
    """(H, W) uint8, a frame put together of its parts where it is indexed by slices or whole numbers.

    Parameters
    ----------
    plane
        The file that it would have as a whole.
    size
        (H, W).
    """

    dtype: Final = np.dtype(np.uint8)

    def __init__(self, plane: Path, size: tuple[int, int]) -> None:
        self.shape = size
        self._parts = _parts_of(plane)
        beside = max(
            (sum(part.rows == row for part in self._parts) for row in {p.rows for p in self._parts}), default=1
        )
        self._part = lru_cache(beside)(self._read)  # whoever goes through rows reads each part once

    def __getitem__(self, index: tuple[Any, Any]) -> npt.NDArray[np.uint8]:
        (top, bottom), (left, right) = (_span(i, n) for i, n in zip(index, self.shape, strict=True))
        made = np.zeros((max(0, bottom - top), max(0, right - left)), np.uint8)
        for part in self._parts:
            (y0, y1), (x0, x1) = part.rows, part.columns
            rows, columns = (max(y0, top), min(y1, bottom)), (max(x0, left), min(x1, right))
            if rows[0] < rows[1] and columns[0] < columns[1]:
                labels = self._part(part)[rows[0] - y0 : rows[1] - y0, columns[0] - x0 : columns[1] - x0]
                made[rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left] = labels
        return np.asarray(made[tuple(0 if not isinstance(i, slice) else slice(None, None, i.step) for i in index)])

    def _read(self, part: Region) -> npt.NDArray[np.uint8]:
        stored = read_plane(self._parts[part])
        fits = stored is not None and stored.labels.shape == part.size
        return stored.labels if stored is not None and fits else np.zeros(part.size, np.uint8)


_Plane: TypeAlias = npt.NDArray[Any] | DividedLabels


def _parts_of(plane: Path) -> dict[Region, Path]:
    found = {}
    for file in sorted(plane.with_suffix("").glob(f"*{_SUFFIX}")):
        numbers = re.fullmatch(r"(\d+)-(\d+)_(\d+)-(\d+)", file.stem)
        if numbers:
            top, bottom, left, right = map(int, numbers.groups())
            found[Region((top, bottom), (left, right))] = file
    return found


def _span(index: Any, length: int) -> tuple[int, int]:
    """First row that is meant, and the one behind the last; steps are not negative."""
    if isinstance(index, slice):
        start, stop, _ = index.indices(length)
        return start, stop
    return range(length)[index], range(length)[index] + 1
