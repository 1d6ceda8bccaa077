"""Masks as COCO writes them: polygons and run-length encodings, there and back.

The format has no other specification than the code of its authors (cocodataset/cocoapi, ``maskApi.c``), by whose Python
package, pycocotools, the tests check what is written here.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.draw import polygon

from napari_fewshot.errors import ReadError


def encode(
    mask: npt.NDArray[np.bool_], corner: tuple[int, int] = (0, 0), size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Write a mask as a compressed run-length encoding, column by column.

    Parameters
    ----------
    mask
        (h, w), a part of the image outside of which there is nothing.
    corner
        (y, x) of its upper left pixel.
    size
        (H, W) of the image; by default the mask is all of it.

    Returns
    -------
    dict
        ``{"size": [H, W], "counts": text}``.

    Examples
    --------
    >>> encode(np.array([[False, True], [True, False]]))
    {'size': [2, 2], 'counts': '121'}
    """
    height, width = size or mask.shape
    columns = np.zeros((mask.shape[1], height), bool)
    columns[:, corner[0] : corner[0] + mask.shape[0]] = mask.T
    values = np.concatenate([[False], columns.ravel(), [False]])
    changes = np.flatnonzero(values[1:] != values[:-1]) + corner[1] * height
    ends = changes if len(changes) and changes[-1] == height * width else np.append(changes, height * width)
    runs = np.diff(ends, prepend=0)  # the first is background
    return {"size": [int(height), int(width)], "counts": _packed(runs.tolist())}


def decode(segmentation: Any, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Draw what the field "segmentation" of an annotation says.

    Polygons are filled where the middle of a pixel lies inside; COCO's own library rounds to fifths of a pixel first,
    so a few pixels of the outline differ.

    Parameters
    ----------
    segmentation
        Polygons ``[[x0, y0, x1, y1, ...], ...]`` in pixels from the upper left corner, whose union is meant, or a
        run-length encoding ``{"counts": ..., "size": [H, W]}``, column by column, as numbers or packed in text.
    size
        (H, W) of the image.

    Raises
    ------
    ReadError
        If it is none of these.

    Examples
    --------
    >>> decode({"counts": [1, 2, 1], "size": [2, 2]}, (2, 2)).astype(int)
    array([[0, 1],
           [1, 0]])
    """
    mask = np.zeros(size, bool)
    if isinstance(segmentation, list):
        for corners in segmentation:
            xs, ys = np.asarray(corners, float).reshape(-1, 2).T
            mask[polygon(ys - 0.5, xs - 0.5, size)] = True
        return mask
    try:
        counts = segmentation["counts"]
        runs = _unpacked(counts) if isinstance(counts, str) else [int(run) for run in counts]
        if min(runs, default=0) < 0 or sum(runs) != mask.size:
            raise ValueError("the runs are not those of an image of this size")
        values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)  # the first run is background
        return np.ascontiguousarray(values.reshape(size[::-1]).T)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ReadError(
            f"a COCO mask does not fit its image of {size[0]} x {size[1]} pixels; fetch or export the annotations again"
        ) from error


def _unpacked(text: str) -> list[int]:
    """Numbers of COCO's compressed form: 5 bits a character, lowest first, a sixth says that there are more.

    From the fourth number on it is the difference from the one before the last that is written.
    """
    runs: list[int] = []
    characters = iter(text.encode("ascii"))
    for first in characters:
        value, shift, bits = 0, 0, first - 48
        while True:
            value |= (bits & 31) << shift
            shift += 5
            if not bits & 32:
                break
            bits = next(characters, 48) - 48
        if bits & 16:  # the highest bit is the sign
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


def _packed(runs: list[int]) -> str:
    """The inverse of `_unpacked`."""
    text: list[str] = []
    for position, run in enumerate(runs):
        value = run - runs[position - 2] if position > 2 else run
        while True:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text.append(chr(48 + bits + 32 * more))
            if not more:
                break
    return "".join(text)
