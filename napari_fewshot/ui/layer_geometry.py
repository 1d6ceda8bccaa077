"""Where a layer lies in the world: copied from image to labels, and translated between units."""

from typing import Any

import numpy as np
import numpy.typing as npt


def geometry_like(image: Any, *, drop_axis: int | None = None) -> dict[str, Any]:
    """Return the keyword arguments that put a label layer where its image lies.

    Parameters
    ----------
    image
        A napari image layer.
    drop_axis
        An axis of the image that the labels do not have.
    """
    kept = [axis for axis in range(image.ndim) if axis != drop_axis]
    affine = np.asarray(image.affine.affine_matrix)
    with_offset = [*kept, image.ndim]
    geometry: dict[str, Any] = {
        "scale": np.asarray(image.scale)[kept],
        "translate": np.asarray(image.translate)[kept],
        "rotate": np.asarray(image.rotate)[np.ix_(kept, kept)],
        "shear": _shear_matrix(np.asarray(image.shear), image.ndim)[np.ix_(kept, kept)],
        "affine": affine[np.ix_(with_offset, with_offset)],
    }
    for name in ("units", "axis_labels"):
        values = getattr(image, name, None)
        if values is not None:
            geometry[name] = tuple(values[axis] for axis in kept)
    return geometry


def units_of(image: Any) -> tuple[str, ...]:
    """Return the unit of every axis as text; "pixel" where it has none."""
    units = getattr(image, "units", None)
    return ("pixel",) * image.ndim if units is None else tuple(map(str, units))


def world_to_layer_units(dims: Any, layer: Any) -> npt.NDArray[np.float64]:
    """Return how many of the layer's units one unit of the sliders is, for each axis of the layer.

    Since napari 0.9 layers in µm and in nm can lie side by side; the sliders then count in one of the two.
    """
    world, own = getattr(dims, "units", None), getattr(layer, "units", None)
    if world is None or own is None or len(world) < len(own):
        return np.ones(layer.ndim)
    pairs = zip(world[-len(own) :], own, strict=True)
    return np.array([1.0 if of == to else float((1 * of).to(to).magnitude) for of, to in pairs])


def _shear_matrix(shear: npt.NDArray[Any], ndim: int) -> npt.NDArray[np.float64]:
    """Return a shear as a matrix; napari gives upper triangular ones as a vector."""
    if shear.ndim == 2:
        return shear
    matrix = np.eye(ndim)
    matrix[np.triu_indices(ndim, k=1)] = shear
    return matrix
