"""What napari calls for File > Save and File > Open: label layers to files of any format, files to layers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_fewshot.io import dicom, nifti
from napari_fewshot.io.atomic import refuse_existing
from napari_fewshot.io.formats import LABEL_FORMATS, LabelFormat, label_format, write_labels
from napari_fewshot.io.image_file import ImageFile
from napari_fewshot.io.images import open_images, stem_of
from napari_fewshot.io.label_stack import LabelArray, LabelStack
from napari_fewshot.io.masks import open_labels, whole_numbers
from napari_fewshot.io.names import check_inside, default_names
from napari_fewshot.io.numpy_files import is_cellpose
from napari_fewshot.io.ome_zarr import is_zarr, label_names, open_node
from napari_fewshot.io.units import axes_letters
from napari_fewshot.support import LabelClass

LayerData: TypeAlias = tuple[Any, dict[str, Any], str]
"""(data, attributes, layer type), as napari wants it."""

_OPENED: Final = (*nifti.SUFFIXES, *dicom.SUFFIXES)  # what napari does not open itself

_DOCK_KEY: Final = "napari_fewshot"  # in the metadata of label layers that belong to the dock: what they hold
_NUMBERS: Final = "objects"
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
        in others, and in the dock's layer of objects, each id is an object.

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


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """Return what opens a file as layers (npe2 reader), or None for what others open."""
    paths = [path] if isinstance(path, str) else path
    known = all(is_zarr(each) or is_cellpose(Path(each)) or each.lower().endswith(_OPENED) for each in paths)
    return read_layers if paths and known else None


def read_layers(path: str | list[str]) -> list[LayerData]:
    """Open images as image layers, lazily, with the size of their voxels; labels of OME-Zarr and Cellpose as labels.

    Raises
    ------
    ReadError
        If one cannot be read.
    """
    return [layer for each in ([path] if isinstance(path, str) else path) for layer in _layers(each)]


def _layers(path: str) -> list[LayerData]:
    name = stem_of(Path(path).name)
    if is_cellpose(Path(path)):
        return [_layer(open_labels(path), f"{name} masks", "labels")]
    if not is_zarr(path):
        return [_layer(image, name, "image") for image in open_images(path)]
    node = open_node(path)
    attributes = {} if hasattr(node, "chunks") else dict(node.attrs)
    if "image-label" in attributes.get("ome", attributes):
        return [_layer(open_labels(path), name, "labels")]
    beside = () if hasattr(node, "chunks") else label_names(node)
    return [
        _layer(open_images(path)[0], name, "image"),
        *(
            _layer(open_labels(f"{path}/labels/{check_inside(each, path)}"), f"{name} {each}", "labels")
            for each in beside
        ),
    ]


def _layer(image: ImageFile, name: str, kind: str) -> LayerData:
    order = f"{image.stack_axes}YX"
    attributes: dict[str, Any] = {"name": name, "scale": [image.step(axis)[0] for axis in order]}
    if image.units is not None and len({image.step(axis)[1] for axis in order}) == 1 and image.step("X")[1] != "pixel":
        attributes["units"] = image.step("X")[1]
    if kind == "labels":
        return np.asarray(whole_numbers(image.ordered()[...], image.path)), attributes, kind
    if image.channel_axis == "S":
        attributes["rgb"] = True
    elif image.channel_axis:
        attributes["channel_axis"] = len(order)
    return image.ordered(), attributes, kind


def stack_of(data: LabelArray, attributes: dict[str, Any]) -> LabelStack:
    """Make a stack of a layer's data and state."""
    full = data[0] if attributes.get("multiscale") else data
    of_dock = (attributes.get("metadata") or {}).get(_DOCK_KEY, _NUMBERS) != _NUMBERS
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
