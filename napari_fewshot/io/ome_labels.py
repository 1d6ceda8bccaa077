"""Labels beside their image in an OME-Zarr: the group ``labels``, with colours and the names of classes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import ExportError, ReadError
from napari_fewshot.io.atomic import filling, replacing, replacing_folder
from napari_fewshot.io.formats import Share, one_after_the_other
from napari_fewshot.io.label_stack import LabelArray, LabelStack, Position
from napari_fewshot.io.names import safe_name
from napari_fewshot.io.objects import classes_of
from napari_fewshot.io.ome_zarr import OmeImage, is_zarr, ome_image, open_node
from napari_fewshot.io.optional import needed
from napari_fewshot.io.units import METRES, SECONDS

_CHUNK: Final = 512
_BATCH_PIXELS: Final = 1 << 24
_SMALLEST: Final = 256  # side of the coarsest level, where there is no image to go by
_WORDS: Final = {
    "µm": "micrometer", "nm": "nanometer", "mm": "millimeter", "cm": "centimeter", "m": "meter", "Å": "angstrom",
    "pm": "picometer", "in": "inch", "s": "second", "ms": "millisecond", "µs": "microsecond", "min": "minute",
    "h": "hour",
}  # fmt: skip

_Band: TypeAlias = tuple[Position, int, int]
"""A plane, the first of some of its rows, and the one behind the last."""


def write_ome_labels(
    path: Path,
    stack: LabelStack,
    *,
    overwrite: bool = False,
    name: str = "labels",
    share: Share = one_after_the_other,
) -> tuple[Path, ...]:
    """Write labels into the group ``labels`` of an OME-Zarr.

    They get as many levels as the image has, of the same sizes, by nearest neighbours; the version of the format is
    that of the image, or 0.4, which most programs read, where there is none. The labels appear in one step.

    Parameters
    ----------
    path
        The image's group; where nothing is there, a new group is made that holds the labels alone.
    stack
        What to write, plane by plane.
    overwrite
        Whether labels of this name that are there already may be replaced.
    name
        Of these labels.
    share
        Writes the regions of the arrays, none of which has a chunk in common with another.

    Raises
    ------
    ExportError
        If labels of this name exist, there is something else at ``path``, they lie on an image of another size, or they
        cannot be written.
    """
    needed("zarr", "zarr", "OME-Zarr")
    name = safe_name(name) or "labels"
    image = _image_at(path)
    layout = _layout(stack, image, path)
    dtype = stack.smallest_dtype()
    if not path.exists():
        with filling(path) as partial:
            _write_group(partial, layout.zarr_format)
            _write_labels(partial / "labels" / name, stack, layout, dtype, share)
            _list_label(partial / "labels", name, layout)
        return (path / "labels" / name,)
    folder = path / "labels"
    if not folder.resolve().is_relative_to(path.resolve()):
        raise ExportError(f"'{folder}' is a link to outside of the image; nothing is written there")
    with replacing_folder(folder / name, overwrite=overwrite) as partial:
        _write_labels(partial, stack, layout, dtype, share)
    _list_label(folder, name, layout)
    return (folder / name,)


@dataclass(frozen=True)
class _Layout:
    """How labels are stored: the version, steps along each axis of the finest level, and shapes of all levels."""

    version: str
    units: tuple[str, ...]
    scales: tuple[tuple[float, ...], ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def zarr_format(self) -> int:
        return 2 if self.version in ("0.1", "0.2", "0.3", "0.4") else 3


def _image_at(path: Path) -> OmeImage | None:
    if not path.exists():
        return None
    if not path.is_dir() or not is_zarr(path):
        raise ExportError(f"'{path}' is there already, and is no OME-Zarr; choose another name")
    try:
        return ome_image(open_node(path), path)
    except ReadError as error:
        if (path / "labels").is_dir():
            return None  # a group of labels alone
        raise ExportError(f"labels cannot be put beside that image: {error}") from error


def _layout(stack: LabelStack, image: OmeImage | None, path: Path) -> _Layout:
    if image is None:
        steps = tuple(stack.voxel.get(axis, (1.0, ""))[0] for axis in stack.axes)
        units = tuple(stack.voxel.get(axis, (1.0, "pixel"))[1] for axis in stack.axes)
        count = 1
        while min(stack.shape[-2:]) >> count >= _SMALLEST:
            count += 1
        shapes = tuple((*stack.shape[:-2], *(-(-n // 2**k) for n in stack.shape[-2:])) for k in range(count))
        scales = tuple((*steps[:-2], *(step * 2**k for step in steps[-2:])) for k in range(count))
        return _Layout("0.4", units, scales, shapes)
    places = [image.axes.find(axis) for axis in stack.axes]
    there = tuple(int(image.arrays[0].shape[place]) if place >= 0 else 1 for place in places)
    if there != stack.shape:
        raise ExportError(
            f"labels of shape {stack.shape} ({stack.axes}) do not lie on the image in '{path.name}', "
            f"which has {tuple(image.arrays[0].shape)} ({image.axes}); choose its own labels, or another name"
        )
    shapes = tuple(tuple(int(array.shape[p]) if p >= 0 else 1 for p in places) for array in image.arrays)
    scales = tuple(tuple(scale[p] if p >= 0 else 1.0 for p in places) for scale in image.scales)
    return _Layout(image.version, tuple(image.units[p] if p >= 0 else "pixel" for p in places), scales, shapes)


# ---------------------------------------------------------------------------- on the disk
def _write_labels(folder: Path, stack: LabelStack, layout: _Layout, dtype: np.dtype[Any], share: Share) -> None:
    """Write the group of one label image."""
    _write_group(folder, layout.zarr_format, _metadata(stack, layout))
    source: LabelArray | Path = stack.labels
    for level, shape in enumerate(layout.shapes):
        target = folder / str(level)
        _new_array(target, shape, dtype, stack.axes, layout.zarr_format)
        share(_write_planes, [(source, target, some) for some in _batches(shape)])
        source = target  # a level follows from the one before


def _batches(shape: tuple[int, ...]) -> list[tuple[_Band, ...]]:
    """Cut an array into bands of rows that are a chunk high, and put some together: as much as one process does."""
    bands = [
        (position, top, min(top + _CHUNK, shape[-2]))
        for position in np.ndindex(*shape[:-2])
        for top in range(0, shape[-2], _CHUNK)
    ]
    count = max(1, _BATCH_PIXELS // (_CHUNK * shape[-1]))
    return [tuple(bands[i : i + count]) for i in range(0, len(bands), count)]


def _write_planes(source: LabelArray | Path, target: Path, bands: Sequence[_Band]) -> None:
    """Write some bands of rows of an array, by nearest neighbours from one that covers the same; maybe in a worker."""
    there, made = (_opened(each) if isinstance(each, Path) else each for each in (source, target))
    indices = [_nearest(int(n), int(m)) for n, m in zip(made.shape, there.shape, strict=True)]
    for position, top, bottom in bands:
        at = tuple(int(index[i]) for index, i in zip(indices, position, strict=False))
        rows = indices[-2][top:bottom]
        band = np.asarray(there[(*at, slice(int(rows[0]), int(rows[-1]) + 1), slice(None))])
        made[(*position, slice(top, bottom), slice(None))] = band[rows - rows[0]][:, indices[-1]]


def _opened(folder: Path) -> Any:
    zarr = needed("zarr", "zarr", "OME-Zarr")
    return zarr.open_array(zarr.storage.LocalStore(folder), mode="r+")


def _nearest(wanted: int, there: int) -> npt.NDArray[np.int64]:
    """Which of ``there`` samples lie nearest to ``wanted`` ones that cover the same length."""
    return ((np.arange(wanted) + 0.5) * there / wanted).astype(np.int64)


def _new_array(folder: Path, shape: tuple[int, ...], dtype: np.dtype[Any], axes: str, zarr_format: int) -> None:
    zarr = needed("zarr", "zarr", "OME-Zarr")
    chunks = (*[1] * (len(shape) - 2), *(min(_CHUNK, n) for n in shape[-2:]))
    options: dict[str, Any] = {"dimension_names": list(axes.lower())}
    if zarr_format == 2:
        options = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    zarr.create_array(
        zarr.storage.LocalStore(folder), shape=shape, chunks=chunks, dtype=dtype, zarr_format=zarr_format, **options
    )


def _metadata(stack: LabelStack, layout: _Layout) -> dict[str, Any]:
    axes = []
    for axis, unit in zip(stack.axes, layout.units, strict=True):
        kind = "time" if axis == "T" else "channel" if axis == "C" else "space"
        word = _WORDS.get(unit) if unit in (SECONDS if kind == "time" else METRES) else None
        axes.append({"name": axis.lower(), "type": kind} | ({"unit": word} if word else {}))
    datasets = [
        {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": list(scale)}]}
        for level, scale in enumerate(layout.scales)
    ]
    classes = () if stack.classes is None else classes_of(stack)
    colours = [
        {"label-value": each.id, "rgba": [*(int(each.colour[i : i + 2], 16) for i in (1, 3, 5)), 255]}
        for each in classes
    ]
    properties = [{"label-value": each.id, "class": each.name} for each in classes]
    label: dict[str, Any] = {"source": {"image": "../../"}}
    label |= {"colors": colours, "properties": properties} if classes else {}
    scales = {"name": stack.name, "axes": axes, "datasets": datasets, "type": "nearest"}
    if layout.zarr_format == 2:
        return {
            "multiscales": [{"version": layout.version, **scales}],
            "image-label": {"version": layout.version, **label},
        }
    return {"ome": {"version": layout.version, "multiscales": [scales], "image-label": label}}


def _write_group(folder: Path, zarr_format: int, attributes: dict[str, Any] | None = None) -> None:
    zarr = needed("zarr", "zarr", "OME-Zarr")
    zarr.create_group(zarr.storage.LocalStore(folder), zarr_format=zarr_format, attributes=attributes or {})


def _list_label(folder: Path, name: str, layout: _Layout) -> None:
    """Enter a name into the list of the group ``labels``, in one step."""
    file = folder / (".zattrs" if layout.zarr_format == 2 else "zarr.json")
    if not file.is_file():
        _write_group(folder, layout.zarr_format)
    told = json.loads(file.read_bytes()) if file.is_file() else {}
    if layout.zarr_format == 2:
        told["labels"] = [*dict.fromkeys([*told.get("labels", ()), name])]
    else:
        ome = told.setdefault("attributes", {}).setdefault("ome", {"version": layout.version})
        ome["labels"] = [*dict.fromkeys([*ome.get("labels", ()), name])]
    with replacing(file, overwrite=True) as stream:
        stream.write(json.dumps(told, indent=1).encode())
