"""Where a proposal is put together tile by tile: in memory, or in a file where it is too large for that.

Labels, confidence and the probabilities of two classes take 16 bytes a pixel: 6 GiB for 20,000 x 20,000 pixels, several
times what all the rest of the work takes. Arrays of that size are mapped from a file without a name instead. What of it
lies in memory is up to the system, which can take it away at any time, and the file is gone with the arrays.
"""

import mmap
import os
import shutil
import tempfile
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from napari_fewshot.imaging.tiling import Tile
from napari_fewshot.models.cache_settings import GIB, user_cache_folder

IN_MEMORY: Final = GIB
"""Bytes of the arrays of one proposal up to which they are in memory."""

_RESERVE: Final = GIB  # of the disk, left to others


class Canvas:
    """The arrays of one proposal, all 0 at first.

    Parameters
    ----------
    layers
        1 + C, background and classes.
    size
        (H, W) of the image.
    """

    def __init__(self, layers: int, size: tuple[int, int]) -> None:
        self._maps: list[mmap.mmap] = []
        self._in_file = _is_large(layers, size)
        self.probabilities: npt.NDArray[np.float32] = self._zeros((layers, *size), np.float32)
        self.labels: npt.NDArray[np.int32] = self._zeros(size, np.int32)
        self.confidence: npt.NDArray[np.float32] = self._zeros(size, np.float32)

    def put(
        self,
        tile: Tile,
        probabilities: npt.NDArray[np.float32],
        labels: npt.NDArray[np.int32] | int,
        confidence: npt.NDArray[np.float32] | float,
    ) -> None:
        """Put down what a tile answers for: (1 + C, h, w), (h, w) and (h, w), or what gives that when repeated."""
        self.probabilities[:, *tile.core] = probabilities
        self.labels[tile.core] = labels
        self.confidence[tile.core] = confidence
        for mapped in self._maps:
            _let_go(mapped)

    def _zeros(self, shape: tuple[int, ...], kind: type) -> npt.NDArray[Any]:
        if self._in_file:
            try:
                mapped = _map_file(int(np.prod(shape)) * np.dtype(kind).itemsize)
            except (OSError, ValueError):  # no folder to write to, or no room after all
                self._in_file = False
            else:
                self._maps.append(mapped)
                return np.frombuffer(mapped, kind).reshape(shape)
        return np.zeros(shape, kind)


def _is_large(layers: int, size: tuple[int, int]) -> bool:
    return (4 * layers + 8) * size[0] * size[1] > IN_MEMORY


def _map_file(size: int) -> mmap.mmap:
    """Map a new file of zeros without a name, but with all the room that it needs: the disk may be full later."""
    folder = user_cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < size + _RESERVE:
        raise OSError(f"the disk of {folder} is all but full")
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(size)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        return mmap.mmap(file.fileno(), size)


def _let_go(mapped: mmap.mmap) -> None:
    """Tell the system that nothing of it is needed in memory just now; what was written is in the file."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
