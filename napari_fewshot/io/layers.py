"""What napari calls for File > Save and File > Open: label layers to files of any format, files to layers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from napari_fewshot.io.atomic import refuse_existing
from napari_fewshot.io.formats import LABEL_FORMATS, LabelFormat, label_format, write_labels
from napari_fewshot.io.label_stack import LabelArray, LabelStack
from napari_fewshot.io.names import default_names
from napari_fewshot.io.units import axes_letters
from napari_fewshot.support import LabelClass

_DOCK_KEY: Final = "napari_fewshot"  # in the metadata of label layers that belong to the dock
_PAINTED_BACKGROUND: Final = 254  # in those layers, where 0 says that nobody painted


def write_layer(path: str, data: LabelArray, attributes: dict[str, Any]) -> list[str]:
    """Write one napari labels layer (npe2 writer for ``labels``); napari has asked about overwriting.

    Parameters
    ----------
    path
        Where to write; how it ends tells the format, TIFF where it tells nothing.
    data
        The layer's data; of a multiscale layer the full resolution is written.
    attributes
        The layer's state; ``scale``, ``units`` and ``axis_labels`` are kept in the file. In a layer of the dock, which
        has ``napari_fewshot`` in its ``metadata``, ids are classes and painted background becomes 0, as it is in files;
        in others each id is an object.

    Returns
    -------
    list of str
        The files that were written.
    """
    written = write_labels(path, stack_of(data, attributes), format=_format(path).name, overwrite=True)
    return [str(file) for file in written]


def write_layers(path: str, layer_data: Sequence[tuple[Any, dict[str, Any], str]]) -> list[str]:
    """Write several napari labels layers (npe2 writer for ``labels+``), each to a file named after its layer.

    One layer goes to ``path`` itself, and so do all of them in formats of one file for all images. Otherwise they go
    into a folder that is named like ``path`` without its suffix; as napari has not asked about the files in there, none
    of them is overwritten.

    Parameters
    ----------
    path
        Where to write.
    layer_data
        (data, attributes, "labels") of each layer.

    Returns
    -------
    list of str
        The files that were written.

    Raises
    ------
    ExportError
        If one of the files in the folder exists, or cannot be written.
    """
    chosen = _format(path)
    stacks = [stack_of(data, attributes) for data, attributes, _ in layer_data]
    if chosen.joint or len(stacks) == 1:
        written = write_labels(path, stacks if chosen.joint else stacks[0], format=chosen.name, overwrite=True)
        return [str(file) for file in written]
    folder = _without_suffix(Path(path), chosen)
    for name in default_names((stack.name for stack in stacks), chosen.suffix):
        refuse_existing(folder / name, overwrite=False)
    return [str(file) for file in write_labels(folder, stacks, format=chosen.name)]


def stack_of(data: LabelArray, attributes: dict[str, Any]) -> LabelStack:
    """Make a stack of a layer's data and state."""
    full = data[0] if attributes.get("multiscale") else data
    of_dock = _DOCK_KEY in (attributes.get("metadata") or {})
    ndim = len(full.shape)
    scale, units = attributes.get("scale"), attributes.get("units")
    return LabelStack(
        _WithoutPaintedBackground(full) if of_dock else full,
        str(attributes.get("name", "")),
        axes_letters(attributes.get("axis_labels"), ndim) or "",
        # a mirrored axis has a negative scale; a size is positive
        None if scale is None else [abs(float(step)) for step in scale],
        None if units is None else [str(unit) for unit in ([units] * ndim if isinstance(units, str) else units)],
        _classes(attributes) if of_dock else None,
    )


def _classes(attributes: dict[str, Any]) -> tuple[LabelClass, ...]:
    """Read the names of classes out of the table that the dock gives its layers, a row for each."""
    features = attributes.get("features")
    if features is None or not {"index", "name"} <= set(features):
        return ()
    colours = getattr(attributes.get("colormap"), "color_dict", {})
    rows = zip(features["index"], features["name"], strict=True)
    return tuple(
        LabelClass(int(i), str(name), _hex(colours.get(int(i)))) for i, name in rows if 0 < int(i) < _PAINTED_BACKGROUND
    )


def _hex(colour: Any) -> str:
    """Turn (R, G, B, A) of 0 to 1 into #rrggbb."""
    return "" if colour is None else "#" + "".join(f"{round(255 * float(part)):02x}" for part in colour[:3])


def _format(path: str) -> LabelFormat:
    return next((each for each in LABEL_FORMATS if each.fits(path)), label_format("tiff"))


def _without_suffix(path: Path, chosen: LabelFormat) -> Path:
    suffix = next((each for each in chosen.suffixes if each and path.name.lower().endswith(each)), "")
    return path.with_name(path.name[: len(path.name) - len(suffix)]) if suffix else path


class _WithoutPaintedBackground:
    """Labels of the dock, 0 where background was painted; read in slabs like any lazy array."""

    def __init__(self, labels: LabelArray) -> None:
        self._labels = labels
        self.shape: tuple[int, ...] = tuple(map(int, labels.shape))
        self.dtype: np.dtype[Any] = np.dtype(labels.dtype)

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        part = np.asarray(self._labels[index])
        return np.where(part == _PAINTED_BACKGROUND, part.dtype.type(0), part)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[...].astype(dtype or self.dtype, copy=False)
