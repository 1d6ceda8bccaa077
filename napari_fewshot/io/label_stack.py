"""Label maps of one image, with everything that a file format could want to know about them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import ExportError
from napari_fewshot.io.names import safe_name
from napari_fewshot.io.units import METRES, SECONDS, unit_symbol
from napari_fewshot.support import LabelClass

LabelArray: TypeAlias = Any
"""(..., Y, X) whole numbers: an array, or a lazy one (dask, zarr, ...) that is read in slabs."""

Position: TypeAlias = tuple[int, ...]
"""Index of a plane along the axes in front of Y and X; () for a single plane."""

Voxel: TypeAlias = dict[str, tuple[float, str]]
"""Axis letter -> its step and unit; axes without a known step are left out."""

DEFAULT_AXES: Final = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TZCYX", 6: "TQZCYX", 7: "TQZPCYX", 8: "TQZPCAYX"}
_ALL_AXES: Final = "TZCQPARHEYX"
_SLAB_BYTES: Final = 2**26  # of a lazy array in memory at once


@dataclass(frozen=True)
class PlaneNote:
    """Where the labels of a plane come from.

    Attributes
    ----------
    provenance
        "painted", "accepted", "proposed", or what else there is to say.
    score
        The expected IoU in [0, 1] of what was proposed; None for what a person decided.
    """

    provenance: str = ""
    score: float | None = None


@dataclass(frozen=True, eq=False)
class Plane:
    """One (Y, X) plane of a stack: its name, unique in the stack, and what is known of it; see `LabelStack`."""

    name: str
    position: Position
    labels: npt.NDArray[Any]
    note: PlaneNote
    objects: npt.NDArray[Any] | None = None


@dataclass(frozen=True, eq=False)
class LabelStack:
    """A label map, or a stack of them, ready to be written.

    Parameters
    ----------
    labels
        (Y, X), (Z, Y, X), (T, Z, Y, X), ... of any integer type, 0 or more; a lazy array is read in slabs.
    name
        Of the image that they lie on.
    axes
        One letter for each axis, of T Z C Y X, ending in YX; by default YX, ZYX, TZYX, TZCYX.
    spacing
        Size of a pixel (or duration of a time step) along each axis, above 0.
    units
        Of all of ``spacing``, or one for each axis: "µm", "nm", "second", "pixel", ...
    classes
        What the ids mean. None where each id is an object of its own, as in label maps of other tools.
    source
        The file of the image, from which some formats take over what they need (the affine of NIfTI, say).
    notes
        The planes that are decided, by position; the others are left out of formats that list planes or objects.
        None where all are.
    objects
        Like ``labels``: which object each pixel belongs to, where objects of classes are told apart; 0 for none. Only
        formats that list objects know them; what has a class and no number is an object where it is connected.

    Raises
    ------
    ExportError
        If these are no label maps, or axes, spacing and units do not fit them.
    """

    labels: LabelArray
    name: str = "labels"
    axes: str = ""
    spacing: Sequence[float] | None = None
    units: str | Sequence[str] | None = None
    classes: tuple[LabelClass, ...] | None = None
    source: Path | None = None
    notes: Mapping[Position, PlaneNote] | None = None
    objects: LabelArray | None = None

    def __post_init__(self) -> None:
        if not (hasattr(self.labels, "shape") and hasattr(self.labels, "dtype")):
            object.__setattr__(self, "labels", np.asarray(self.labels))
        _check_labels(self.labels, self.name)
        if self.objects is not None:
            self._check_objects(self.objects)
        axes = (self.axes or DEFAULT_AXES[len(self.shape)]).upper()
        if (len(axes), len(set(axes)), axes[-2:]) != (len(self.shape), len(axes), "YX") or set(axes) - set(_ALL_AXES):
            raise ExportError(
                f"axes '{axes}' do not fit labels of shape {self.shape}; "
                f"give {len(self.shape)} different letters of T, Z, C, Y, X that end in YX"
            )
        object.__setattr__(self, "axes", axes)
        _ = self.voxel  # says what does not fit

    def _check_objects(self, objects: LabelArray) -> None:
        _check_labels(objects, f"{self.name}, objects")
        if tuple(map(int, objects.shape)) != self.shape:
            raise ExportError(
                f"objects of '{self.name}' have shape {tuple(objects.shape)}, but its labels {self.shape}; "
                "give a number for each pixel"
            )
        if self.classes is None:
            raise ExportError(f"ids of '{self.name}' number objects already; give classes, or no further numbers")

    @cached_property
    def voxel(self) -> Voxel:
        """Axis letter -> its step and unit; axes without a known step are left out."""
        return _voxel(self.axes, self.spacing, self.units)

    @property
    def shape(self) -> tuple[int, ...]:
        """(..., Y, X)."""
        return tuple(map(int, self.labels.shape))

    @property
    def planes_decided(self) -> list[Position]:
        """Positions of the planes that `planes` goes through."""
        every = list(np.ndindex(*self.shape[:-2]))
        return every if self.notes is None else [position for position in every if position in self.notes]

    def slabs(self) -> Iterator[npt.NDArray[Any]]:
        """Read (n, ..., Y, X) or (Y, X), a bounded part of the memory at a time."""
        if len(self.shape) == 2:
            yield np.asarray(self.labels)
            return
        step = max(1, _SLAB_BYTES // max(1, math.prod(self.shape[1:]) * self.labels.dtype.itemsize))
        for start in range(0, self.shape[0], step):
            yield np.asarray(self.labels[start : start + step])

    def every_plane(self, dtype: npt.DTypeLike) -> Iterator[npt.NDArray[Any]]:
        """Read one (Y, X) after the other, decided or not."""
        for slab in self.slabs():
            for plane in slab.reshape(-1, *slab.shape[-2:]):
                yield np.ascontiguousarray(plane, dtype=dtype)

    def planes(self) -> Iterator[Plane]:
        """Read the planes that are decided, one after the other, with names such as ``cells_t002_z014``."""
        stem = safe_name(self.name) or "labels"
        for position in self.planes_decided:
            place = "".join(f"_{axis.lower()}{i:03d}" for axis, i in zip(self.axes, position, strict=False))
            objects = None if self.objects is None else _plane_at(self.objects, position)
            note = (self.notes or {}).get(position, PlaneNote())
            yield Plane(stem + place, position, _plane_at(self.labels, position), note, objects)

    @cached_property
    def top(self) -> int:
        """The largest id.

        Raises
        ------
        ExportError
            If there are ids below 0.
        """
        lowest = highest = 0
        for slab in self.slabs():
            lowest, highest = min(lowest, int(slab.min())), max(highest, int(slab.max()))
        if lowest < 0:
            raise ExportError(f"the labels hold {lowest}; ids below 0 cannot be exported: use 0 for background")
        return highest

    def smallest_dtype(self) -> np.dtype[Any]:
        """Return the smallest unsigned type that holds all ids.

        Raises
        ------
        ExportError
            If there are ids below 0, or above what four bytes hold.
        """
        if np.dtype(self.labels.dtype) == np.uint8:  # none is smaller; saves going through all of it
            return np.dtype(np.uint8)
        dtype = np.min_scalar_type(self.top)
        if dtype.itemsize > 4:
            raise ExportError(f"'{self.name}' would hold ids up to {self.top}; relabel it so that ids stay below 2^32")
        return dtype

    def step(self, axis: str, unit: str) -> float | None:
        """Size of a voxel along an axis in a unit of length or time; None where it is not known in such a unit."""
        if axis not in self.voxel:
            return None
        step, own = self.voxel[axis]
        table = METRES if unit in METRES else SECONDS
        return step * table[own] / table[unit] if own in table else None


def _plane_at(labels: LabelArray, position: Position) -> npt.NDArray[Any]:
    return np.asarray(labels[position] if position else labels[...])


def _voxel(axes: str, spacing: Sequence[float] | None, unit: str | Sequence[str] | None) -> Voxel:
    if spacing is None:
        return {}
    steps = [float(step) for step in spacing]
    units = [unit or "pixel"] * len(axes) if unit is None or isinstance(unit, str) else list(unit)
    if len(steps) != len(axes) or len(units) != len(axes):
        raise ExportError(
            f"{len(steps)} spacing(s) and {len(units)} unit(s) were given for {len(axes)} axes; give one for each"
        )
    if not all(math.isfinite(step) and step > 0 for step in steps):
        raise ExportError(f"spacing {tuple(steps)} is not a size; give numbers above 0")
    voxel = {axis: (step, unit_symbol(name)) for axis, step, name in zip(axes, steps, units, strict=True)}
    return {} if all(value == (1.0, "pixel") for value in voxel.values()) else voxel


def _check_labels(labels: LabelArray, name: str) -> None:
    shape = tuple(map(int, labels.shape))
    if np.dtype(labels.dtype).kind not in "uib":
        raise ExportError(
            f"'{name}' would hold values of type {labels.dtype}; labels are whole numbers: "
            "convert them, for example with labels.astype('uint16')"
        )
    if len(shape) < 2:
        raise ExportError(f"'{name}' would have shape {shape}; give a label map (height, width) or a stack of them")
    if math.prod(shape) == 0:
        raise ExportError(f"'{name}' would be empty, shape {shape}; choose a layer that has pixels")
    if len(shape) not in DEFAULT_AXES:
        raise ExportError(f"'{name}' would have {len(shape)} dimensions; at most 8 fit: export a part of it")
