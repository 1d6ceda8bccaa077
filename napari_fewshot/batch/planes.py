"""Labels of single frames on the disk, until all of their image are there and its file can be written."""

import hashlib
import itertools
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from napari_fewshot.io.atomic import replacing
from napari_fewshot.io.label_stack import PlaneNote, Position

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
    """

    labels: npt.NDArray[np.uint8]
    note: PlaneNote
    remark: str = ""


def plane_file(folder: Path, position: Position) -> Path:
    """Name the file of a frame."""
    return folder / ("-".join(["plane", *(f"{i:06d}" for i in position)]) + ".npz")


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
    with replacing(path, overwrite=True) as file:
        np.savez_compressed(
            file,
            labels=plane.labels,
            score=score,
            provenance=np.array(plane.note.provenance),
            remark=np.array(plane.remark),
        )


def read_plane(path: Path) -> StoredPlane | None:
    """Read the labels of a frame; None where they are missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as told:
            labels, score = told["labels"], float(told["score"])
            note = PlaneNote(str(told["provenance"]), None if np.isnan(score) else score)
            remark = str(told["remark"])
    except _DAMAGED:
        return None
    return StoredPlane(labels, note, remark) if labels.dtype == np.uint8 and labels.ndim == 2 else None


class StoredLabels:
    """(..., Y, X) uint8, the labels of an image, each plane read when it is indexed; those that are missing are 0.

    Parameters
    ----------
    planes
        The file of each frame, by position.
    shape
        (..., Y, X).
    """

    dtype: Final = np.dtype(np.uint8)

    def __init__(self, planes: Mapping[Position, Path], shape: tuple[int, ...]) -> None:
        self.shape, self.ndim = shape, len(shape)
        self._planes = planes
        self._last: tuple[Position, npt.NDArray[np.uint8]] | None = None

    def __getitem__(self, index: Any) -> npt.NDArray[np.uint8]:
        asked = index if isinstance(index, tuple) else (index,)
        asked = () if asked == (...,) else asked
        every = (*asked, *[slice(None)] * (self.ndim - len(asked)))
        chosen = [range(n)[i] if isinstance(i, slice) else (range(n)[i],) for n, i in zip(self.shape, every[:-2])]  # noqa: B905
        kept = tuple(len(each) for each, i in zip(chosen, every, strict=False) if isinstance(i, slice))
        parts = [self._plane(position)[every[-2:]] for position in itertools.product(*chosen)]
        if not parts:
            return np.zeros((*kept, *np.zeros(self.shape[-2:], bool)[every[-2:]].shape), np.uint8)
        return np.stack(parts).reshape((*kept, *parts[0].shape))

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[...].astype(dtype or self.dtype, copy=False)

    def _plane(self, position: Position) -> npt.NDArray[np.uint8]:
        if self._last is None or self._last[0] != position:
            stored = read_plane(self._planes[position]) if position in self._planes else None
            fits = stored is not None and stored.labels.shape == self.shape[-2:]
            self._last = position, stored.labels if stored and fits else np.zeros(self.shape[-2:], np.uint8)
        return self._last[1]
