"""Cutting large images into tiles that overlap as far as features reach, so that no seam shows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

Span = tuple[int, int]
"""First pixel, and the one after the last."""

_SURROUNDINGS: Final = 2
"""Coarsest cells around a tile whose features are kept: between cells, features are interpolated."""


@dataclass(frozen=True)
class Tile:
    """A part of an image.

    Attributes
    ----------
    rows, columns
        What the tile answers for; the tiles of an image share no pixel and leave none out.
    kept_rows, kept_columns
        What features are needed of for that: a little more on all sides that are not the border of the image.
    read_rows, read_columns
        What must be read for those: a margin on the same sides.
    """

    rows: Span
    columns: Span
    kept_rows: Span
    kept_columns: Span
    read_rows: Span
    read_columns: Span

    @property
    def read(self) -> tuple[slice, slice]:
        """Index of the pixels to read, in the image."""
        return slice(*self.read_rows), slice(*self.read_columns)

    @property
    def core(self) -> tuple[slice, slice]:
        """Index of what it answers for, in the image."""
        return slice(*self.rows), slice(*self.columns)

    @property
    def kept(self) -> tuple[slice, slice]:
        """Index of what features are needed of, in what was read."""
        return _within(self.kept_rows, self.read_rows), _within(self.kept_columns, self.read_columns)

    @property
    def inner(self) -> tuple[slice, slice]:
        """Index of what it answers for, in what features are needed of."""
        return _within(self.rows, self.kept_rows), _within(self.columns, self.kept_columns)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of what features are needed of."""
        return self.kept_rows[1] - self.kept_rows[0], self.kept_columns[1] - self.kept_columns[0]


def plan_tiles(size: tuple[int, int], max_pixels: int, halo: int, multiple: int) -> tuple[Tile, ...]:
    """Cover an image with tiles.

    Parameters
    ----------
    size
        (H, W) of the image.
    max_pixels
        Pixels to read per tile, about; an image that has no more is one tile.
    halo
        Margin in pixels.
    multiple
        Tiles are read from multiples of this on, so that the cells of all levels fall on the same pixels as they
        would without tiles.

    Returns
    -------
    tuple
        Row by row. At least 8 cells of the coarsest level each, however small ``max_pixels``.
    """
    height, width = size
    if height * width <= max_pixels:
        whole = (0, height), (0, width)
        return (Tile(*whole, *whole, *whole),)
    margin = -(-halo // multiple) * multiple
    little = min(margin, _SURROUNDINGS * multiple)
    side = int(max_pixels**0.5) - 2 * margin
    side = max(side // multiple, 8) * multiple
    return tuple(
        Tile(
            rows,
            columns,
            _with_margin(rows, little, height),
            _with_margin(columns, little, width),
            _with_margin(rows, margin, height),
            _with_margin(columns, margin, width),
        )
        for rows in _spans(height, side)
        for columns in _spans(width, side)
    )


def some_of(tiles: tuple[Tile, ...], count: int) -> tuple[Tile, ...]:
    """Choose some tiles, evenly spread and always the same."""
    if len(tiles) <= count:
        return tiles
    return tuple(tiles[int(i)] for i in np.unique(np.linspace(0, len(tiles) - 1, count).round()))


def _spans(length: int, side: int) -> Iterator[Span]:
    for start in range(0, length, side):
        yield start, min(start + side, length)


def _within(span: Span, outer: Span) -> slice:
    return slice(span[0] - outer[0], span[1] - outer[0])


def _with_margin(span: Span, margin: int, length: int) -> Span:
    return max(0, span[0] - margin), min(length, span[1] + margin)
