"""Features computed once are kept: in memory, the least recently used given up first, and below that on the disk."""

from collections import OrderedDict
from threading import Lock
from typing import Final

from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid
from napari_fewshot.models.cache_folder import CacheFolder, name_of
from napari_fewshot.models.cache_settings import CacheSettings, CacheUsage
from napari_fewshot.models.disk_cache import DiskCache, on_device

DEFAULT_LIMIT: Final = CacheSettings().memory_bytes
"""Bytes."""


class FeatureCache:
    """Feature pyramids by key, limited in bytes. Safe to use from several threads.

    A key says everything that the features depend on: the content of the image, and the extractor with its backbone,
    precision and settings. What comes back has the bits of what was put, from wherever it comes.

    Parameters
    ----------
    limit
        Bytes of memory at most; one pyramid larger than that is not kept there at all.
    disk
        What keeps them beyond this process; by default nothing does.

    Examples
    --------
    >>> cache = FeatureCache.from_settings(CacheSettings(memory_gib=0.5, disk_gib=0))
    >>> cache.size
    0
    """

    def __init__(self, limit: int = DEFAULT_LIMIT, disk: DiskCache | None = None) -> None:
        self.limit = limit
        self.disk = disk
        self._kept: OrderedDict[str, FeaturePyramid] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    @classmethod
    def from_settings(cls, settings: CacheSettings) -> "FeatureCache":
        """Make a cache with these limits."""
        cache = cls()
        cache.apply(settings)
        return cache

    def apply(self, settings: CacheSettings) -> None:
        """Change the limits and the folder; what is kept stays kept as far as there is room."""
        self.flush()
        folder = CacheFolder(settings.features_folder, settings.disk_bytes)
        if folder.limit:  # turned off, it stays as it is until it is cleared
            folder.trim()
        with self._lock:
            self.limit, self.disk = settings.memory_bytes, DiskCache(folder)
            self._trim()

    @property
    def size(self) -> int:
        """Bytes kept in memory at present."""
        return self._size

    @property
    def notice(self) -> str | None:
        """Why features are not kept on the disk just now, and what to do about it; None while all is well."""
        return self.disk.notice if self.disk else None

    def get(self, key: str, device: str | None = None) -> FeaturePyramid | None:
        """Return what was kept under this key.

        Parameters
        ----------
        key
            As it was put.
        device
            Where the features are wanted; by default where they are in memory, and on the CPU if they come from disk.
        """
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
        if kept is not None:
            return kept if device is None else on_device(kept, device)
        read = self.disk.get(key, device) if self.disk else None
        if read is not None:
            self._keep(key, read)
        return read

    def put(self, key: str, pyramid: FeaturePyramid) -> FeaturePyramid:
        """Keep a pyramid, giving up others where a limit asks for it. Its values must not be changed any more.

        Returns
        -------
        FeaturePyramid
            The same features without the memory of whatever they were cut out of, a batch for example. To go on with
            these makes fresh features lie in memory just as those that come back later.
        """
        pyramid = _compact(pyramid)
        self._keep(key, pyramid)
        if self.disk:
            self.disk.put(key, pyramid)
        return pyramid

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all is on the disk, at most that many seconds; tell whether it is. Python does so at exit."""
        return self.disk.flush(timeout) if self.disk else True

    def release_memory(self) -> None:
        """Give up what is in memory; the disk keeps what it has."""
        with self._lock:
            self._kept.clear()
            self._size = 0

    def clear(self) -> None:
        """Give everything up, in memory and on the disk."""
        self.release_memory()
        if self.disk:
            self.disk.clear()

    def usage(self) -> CacheUsage:
        """Measure what is taken at present; other processes may share the disk's part."""
        with self._lock:
            memory, names = self._size, {name_of(key) for key in self._kept}
        disk, on_disk = self.disk.usage() if self.disk else (0, set())
        return CacheUsage(memory, disk, len(names | on_disk))

    def _keep(self, key: str, pyramid: FeaturePyramid) -> None:
        with self._lock:
            self._drop(key)
            if pyramid.nbytes > self.limit:
                return
            self._kept[key] = pyramid
            self._size += pyramid.nbytes
            self._trim()

    def _trim(self) -> None:
        while self._size > self.limit:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: str) -> None:
        gone = self._kept.pop(key, None)
        if gone is not None:
            self._size -= gone.nbytes


def _compact(pyramid: FeaturePyramid) -> FeaturePyramid:
    if not any(_is_cut_out(feature) for feature in pyramid.features.values()):
        return pyramid
    features = {lv: f.clone() if _is_cut_out(f) else f for lv, f in pyramid.features.items()}
    return FeaturePyramid(features, pyramid.size)


def _is_cut_out(feature: Tensor) -> bool:
    return feature.untyped_storage().nbytes() > feature.nbytes
