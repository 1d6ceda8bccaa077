"""Feature pyramids on the disk, one safetensors file each: written by a thread in the background, checked on reading.

A file is ``length of the header (8 bytes, little endian) | header (JSON) | the values of every level``. Everything
that is to be known about an entry stands in the header's metadata, with a checksum for itself and for every level.
A reader makes the header again from it and compares, so a changed byte anywhere makes an entry that is not there.

The format is read and written here and not by the safetensors library, which maps files into memory (Windows then
refuses to remove them, some network drives refuse to map) or copies everything twice while all other threads wait.
Nothing is ever unpickled.
"""

import errno
import json
import math
import os
import time
import zlib
from contextlib import suppress
from io import FileIO
from itertools import accumulate, pairwise
from threading import Condition, Lock, Thread
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.cache_folder import CacheFolder
from napari_fewshot.models.cache_settings import FOLDER_VARIABLE

FORMAT: Final = "napari-fewshot features 1"
"""Changes with whatever makes older files unreadable; files of another format are dropped."""

QUEUE_BYTES: Final = 256 << 20
"""Features that wait to be written, at most; they take memory beside the cache's own limit.

What comes when the queue is full is not kept: computing is faster than this disk then, so there is no use in waiting.
"""

PAUSE: Final = 60.0
"""Seconds without an attempt after a write has failed: a full disk does not become emptier by trying."""

_DTYPES: Final = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_DTYPE_NAMES: Final = {dtype: name for name, dtype in _DTYPES.items()}
_LONGEST_HEADER: Final = 1 << 20


class DiskCache:
    """Feature pyramids by key in a folder. Safe with several threads and processes; never raises for want of a disk.

    Parameters
    ----------
    folder
        Where, and how much. With a limit of 0 nothing is read or written; what is there can still be cleared.
    """

    def __init__(self, folder: CacheFolder) -> None:
        self.folder = folder
        self.notice: str | None = None
        """Why features are not kept on the disk just now, and what to do about it; None while they are."""
        self._waiting: dict[str, _Waiting] = {}
        self._changed = Condition()
        self._writer: Thread | None = None  # lives while there is something to write; Python waits for it at exit
        self._writing = Lock()
        self._resume = 0.0  # on the monotonic clock

    def get(self, key: str, device: str | None = None) -> FeaturePyramid | None:
        """Return what is kept under this key, each value as it was put, bit for bit.

        An entry that is damaged or of another version is removed.

        Parameters
        ----------
        key
            As it was put.
        device
            Where the features are wanted; by default on the CPU.
        """
        with self._changed:
            waiting = self._waiting.get(key)
        if not self.folder.limit:
            return None
        pyramid = waiting.pyramid if waiting else self._read(key)
        return None if pyramid is None else on_device(pyramid, device or "cpu")

    def put(self, key: str, pyramid: FeaturePyramid) -> None:
        """Keep a pyramid of floating point numbers; it is written later, so its values must not be changed.

        Entries are not kept, and nothing is raised, where the disk is too slow, too full or not ours to write on.
        """
        if not self.folder.limit or any(feature.dtype not in _DTYPE_NAMES for feature in pyramid.features.values()):
            return
        waiting = _Waiting(pyramid, _computed(pyramid))
        with self._changed:
            if time.monotonic() >= self._resume and self._has_room(pyramid.nbytes):
                self._waiting[key] = waiting
                self._start()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything is written, at most that many seconds; tell whether it is."""
        with self._changed:
            self._start()
            return self._changed.wait_for(lambda: not self._waiting, timeout)

    def clear(self) -> None:
        """Remove everything, and try again where a write has failed."""
        with self._changed:
            self._waiting.clear()
            self._changed.notify_all()
        with self._writing:
            self.folder.clear()
            self._resume, self.notice = 0.0, None

    def usage(self) -> tuple[int, set[str]]:
        """Bytes that are taken on the disk, and the file names of entries there and of those still to be written."""
        files = self.folder.files()
        with self._changed:
            waiting = {self.folder.path_of(key).name for key in self._waiting}
        return sum(file.size for file in files), {file.path.name for file in files if file.finished} | waiting

    # ------------------------------------------------------------ reading

    def _read(self, key: str) -> FeaturePyramid | None:
        path = self.folder.path_of(key)
        try:
            with open(path, "rb", buffering=0) as file:
                pyramid = _decode(file, key)
        except _DamagedError:
            with suppress(OSError):
                path.unlink()
            return None
        except OSError:  # not there, for the most part
            return None
        with suppress(OSError):
            os.utime(path)  # the least recently used is given up first
        return pyramid

    # ------------------------------------------------------------ writing

    def _has_room(self, size: int) -> bool:
        taken = sum(waiting.pyramid.nbytes for waiting in self._waiting.values())
        return not taken or taken + size <= QUEUE_BYTES

    def _start(self) -> None:
        if self._waiting and not (self._writer and self._writer.is_alive()):
            self._writer = Thread(target=self._write_waiting, name="napari-fewshot feature cache")
            try:
                self._writer.start()
            except RuntimeError:  # Python is about to exit
                self._waiting.clear()

    def _write_waiting(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._writer = None
                    return
                key, waiting = next(iter(self._waiting.items()))
            try:
                with self._writing:
                    if self._waiting.get(key) is waiting:  # else cleared since
                        self._write(key, waiting)
            finally:
                with self._changed:
                    if self._waiting.get(key) is waiting:
                        del self._waiting[key]
                    self._changed.notify_all()

    def _write(self, key: str, waiting: "_Waiting") -> None:
        if time.monotonic() < self._resume:
            return
        try:
            parts = _encode(key, waiting)
            kept = self.folder.write(key, parts, sum(len(part) for part in parts))
        except (OSError, RuntimeError, MemoryError) as error:
            self.notice = f"features are kept in memory only: {_reason(error, self.folder)}"
            self._resume = time.monotonic() + PAUSE
        else:
            self.notice = None if kept else "features of one image take more than the disk limit; raise the limit"


class _Waiting(NamedTuple):
    """A pyramid to be written, and what to wait for until its values are there."""

    pyramid: FeaturePyramid
    computed: "list[torch.cuda.Event]"


class _DamagedError(Exception):
    """A file is not what was once written under its name."""


def on_device(pyramid: FeaturePyramid, device: str) -> FeaturePyramid:
    """Move a pyramid; the same one where it is there already."""
    moved = {level: feature.to(device) for level, feature in pyramid.features.items()}
    if all(moved[level] is feature for level, feature in pyramid.features.items()):
        return pyramid
    return FeaturePyramid(moved, pyramid.size)


def _computed(pyramid: FeaturePyramid) -> "list[torch.cuda.Event]":
    """Mark what CUDA has still to do: the writer's own stream would not wait for it."""
    devices = {feature.device for feature in pyramid.features.values() if feature.is_cuda}
    return [torch.cuda.current_stream(device).record_event() for device in devices]


def _encode(key: str, waiting: _Waiting) -> list[bytes | memoryview]:
    """Make the parts of a file."""
    for event in waiting.computed:
        event.synchronize()
    described, values = [], []
    for level, feature in waiting.pyramid.features.items():
        order, dense = _dense(feature.detach().cpu())
        values.append(_values(dense))
        described.append(
            {
                "stride": level.stride,
                "alignment": level.alignment,
                "dtype": _DTYPE_NAMES[feature.dtype],
                "shape": list(dense.shape),
                "order": order,
                "crc32": zlib.crc32(values[-1]),
            }
        )
    header = _header({"format": FORMAT, "key": key, "size": list(waiting.pyramid.size), "levels": described})
    return [len(header).to_bytes(8, "little"), header, *values]


def _dense(feature: Tensor) -> tuple[list[int], Tensor]:
    """Order of the axes as they lie in memory, and the tensor in that order, without gaps.

    Channels-last features come back channels-last: sums over another layout may differ in the last bit.
    """
    order = sorted(range(feature.ndim), key=lambda axis: -feature.stride()[axis])
    dense = feature.permute(order)
    if dense.is_contiguous():
        return order, dense
    return list(range(feature.ndim)), feature.contiguous()


def _values(dense: Tensor) -> memoryview:
    """Memory of a contiguous tensor."""
    flat: npt.NDArray[np.uint8] = dense.flatten().view(torch.uint8).numpy()
    return flat.data


def _header(entry: dict[str, Any]) -> bytes:
    """Make the header of a safetensors file; it depends on the entry alone."""
    text = json.dumps(entry)
    metadata = {"entry": text, "crc32": str(zlib.crc32(text.encode()))}
    ends = accumulate((_nbytes(level) for level in entry["levels"]), initial=0)
    tensors = {
        f"level {index}": {"dtype": level["dtype"], "shape": level["shape"], "data_offsets": offsets}
        for index, (level, offsets) in enumerate(zip(entry["levels"], pairwise(ends), strict=True))
    }
    header = json.dumps({"__metadata__": metadata, **tensors}).encode()
    return header + b" " * (-len(header) % 8)


def _nbytes(level: dict[str, Any]) -> int:
    count: int = math.prod(level["shape"])
    return count * _DTYPES[level["dtype"]].itemsize


def _decode(file: FileIO, key: str) -> FeaturePyramid:
    """Read a file; memory is taken only for what was found to be there."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 0 < length <= min(_LONGEST_HEADER, size - 8):
        raise _DamagedError
    header = file.read(length)
    try:
        entry = json.loads(json.loads(header)["__metadata__"]["entry"])
        if entry["format"] != FORMAT or entry["key"] != key or _header(entry) != header:
            raise _DamagedError
        if 8 + length + sum(_nbytes(level) for level in entry["levels"]) != size:
            raise _DamagedError
        height, width = entry["size"]
        features = {Level(lv["stride"], lv["alignment"]): _feature(file, lv) for lv in entry["levels"]}
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        raise _DamagedError from error  # no JSON, JSON of something else, or nested without end
    return FeaturePyramid(features, (height, width))


def _feature(file: FileIO, level: dict[str, Any]) -> Tensor:
    """Read one level into memory of its own, aligned like that of any new tensor."""
    dense = torch.empty(level["shape"], dtype=_DTYPES[level["dtype"]])
    values = rest = _values(dense)
    while rest:
        count = file.readinto(rest)
        if not count:
            raise _DamagedError
        rest = rest[count:]
    if zlib.crc32(values) != level["crc32"]:
        raise _DamagedError
    order = level["order"]
    return dense.permute([order.index(axis) for axis in range(len(order))])


def _reason(error: Exception, folder: CacheFolder) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of '{folder.path}' is all but full; free some space or clear the cache"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return f"'{folder.path}' cannot be written to; name another folder by {FOLDER_VARIABLE}"
    return f"'{folder.path}' was not written to ({error})"
