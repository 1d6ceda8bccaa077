"""Features computed once are kept in memory, the least recently used given up first."""

from collections import OrderedDict
from threading import Lock
from typing import Final

from napari_fewshot.models.backbones.base import FeaturePyramid

DEFAULT_LIMIT: Final = 1 << 30
"""Bytes."""


class FeatureCache:
    """Feature pyramids by key, limited in bytes. Safe to use from several threads.

    Parameters
    ----------
    limit
        Bytes to keep at most; one pyramid larger than that is not kept at all.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self.limit = limit
        self._kept: OrderedDict[str, FeaturePyramid] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    @property
    def size(self) -> int:
        """Bytes kept at present."""
        return self._size

    def get(self, key: str) -> FeaturePyramid | None:
        """Return what was kept under this key."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: str, pyramid: FeaturePyramid) -> None:
        """Keep a pyramid, giving up others where the limit asks for it."""
        with self._lock:
            self._drop(key)
            if pyramid.nbytes > self.limit:
                return
            self._kept[key] = pyramid
            self._size += pyramid.nbytes
            while self._size > self.limit:
                self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        """Give everything up."""
        with self._lock:
            self._kept.clear()
            self._size = 0

    def _drop(self, key: str) -> None:
        gone = self._kept.pop(key, None)
        if gone is not None:
            self._size -= gone.nbytes
