"""A folder of files that may be lost at any time, limited in bytes and shared by any number of processes.

There is no index and no lock. A file appears under its name complete or not at all, its modification time says
when it was last used, and whoever needs room removes what was used longest ago. So there is nothing that a killed
process could leave inconsistent, and nothing that network drives must support beyond renaming. No torch in it.
"""

import errno
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

Bytes: TypeAlias = bytes | memoryview

RESERVE: Final = 1 << 30
"""Bytes of the disk that are never taken: other programs need to write as well."""

ABANDONED: Final = 3600.0
"""Seconds after which an unfinished file has no writer any more."""

AFTER_EVICTION: Final = 0.9
"""Share of the limit that is left taken, so that not every file that is added costs a look at all others."""

_SUFFIX: Final = ".safetensors"
_PARTIAL: Final = ".partial"
_OURS: Final = re.compile(rf"[0-9a-f]{{40}}{re.escape(_SUFFIX)}(\.[0-9a-f]{{8}}{re.escape(_PARTIAL)})?")


@dataclass(frozen=True)
class CacheFile:
    """One file, as it was when the folder was looked at."""

    path: Path
    size: int
    used: float
    """Time of the last use, or of the last write where it is unfinished; seconds since 1970."""

    @property
    def finished(self) -> bool:
        """Whether it is an entry, not what a writer is busy with."""
        return self.path.suffix != _PARTIAL


def name_of(key: str) -> str:
    """Name of the file of a key: BLAKE2b, 160 bits."""
    return hashlib.blake2b(key.encode(), digest_size=20).hexdigest() + _SUFFIX


class CacheFolder:
    """Files by key under a limit. For one thread at a time; other threads and processes open it themselves.

    Parameters
    ----------
    path
        The folder; it is made with the first file. Files that do not look like entries are left alone.
    limit
        Bytes that all entries together may take.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.limit = limit
        self._allowance = -1  # bytes that may be added before the next look at the folder

    def path_of(self, key: str) -> Path:
        """Path of the file of a key, be it there or not."""
        return self.path / name_of(key)

    def files(self) -> list[CacheFile]:
        """Look at the folder: entries and unfinished files, in no order."""
        with suppress(OSError), os.scandir(self.path) as found:
            return list(_ours(found))
        return []  # not there yet, or not for us to see

    def write(self, key: str, parts: Iterable[Bytes], size: int) -> bool:
        """Write a file in one step, after making room for it.

        Parameters
        ----------
        key
            What to file it under; a file that is there already is replaced.
        parts
            Its bytes.
        size
            Their number.

        Returns
        -------
        bool
            False where it is larger than the limit, and nothing was done.

        Raises
        ------
        OSError
            If it cannot be written, or if the disk would be all but full; nothing has changed then.
        """
        if size > self.limit:
            return False
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)  # features show what the images showed
        self._make_room(size)
        target = self.path_of(key)
        partial = target.with_name(f"{target.name}.{secrets.token_hex(4)}{_PARTIAL}")
        try:
            with open(partial, "xb", buffering=0) as file:
                for part in parts:
                    _write_all(file.fileno(), part)
            _replace(target, partial)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        self._allowance -= size
        return True

    def trim(self) -> None:
        """Bring an older, larger content under the limit."""
        self._allowance = -1
        with suppress(OSError):
            self._make_room(0)

    def clear(self) -> None:
        """Remove all entries, and what killed writers left."""
        for file in self.files():
            if file.finished or _abandoned(file):
                _remove(file.path)
        self._allowance = -1

    def _make_room(self, size: int) -> None:
        spare = shutil.disk_usage(self.path).free - RESERVE
        if size <= min(self._allowance, spare):
            return
        total, entries = 0, []
        for file in self.files():
            if not file.finished and _abandoned(file):
                _remove(file.path)
                continue
            total += file.size
            if file.finished:
                entries.append(file)
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        limit = min(self.limit, total + spare)  # where the disk is short of space, old entries make way
        if size > limit:
            raise full
        if total + size > limit:
            for entry in sorted(entries, key=lambda entry: entry.used):
                if total + size <= AFTER_EVICTION * limit:
                    break
                refusal = _remove(entry.path)
                if refusal is None:
                    total -= entry.size
                else:
                    full = refusal
            if total + size > limit:
                raise full
        # Other processes write too. Half of what is left for each of two of them keeps both together under the limit.
        self._allowance = size + (limit - total - size) // 2


def _ours(found: Iterable[os.DirEntry[str]]) -> Iterator[CacheFile]:
    for file in found:
        if _OURS.fullmatch(file.name):
            with suppress(OSError):  # gone since
                status = file.stat(follow_symlinks=False)
                yield CacheFile(Path(file.path), status.st_size, status.st_mtime)


def _abandoned(file: CacheFile) -> bool:
    return not file.finished and time.time() - file.used > ABANDONED


def _remove(path: Path) -> OSError | None:
    """Remove a file, or say why not: Windows refuses while somebody reads it, a read-only disk always."""
    try:
        path.unlink(missing_ok=True)
    except OSError as refusal:
        return refusal
    return None


def _replace(target: Path, partial: Path) -> None:
    """Let a finished file appear. No fsync: what a power cut damages is noticed on reading."""
    try:
        os.replace(partial, target)
    except PermissionError:
        if not target.exists():
            raise
        partial.unlink()  # Windows, while somebody reads the very same entry: then it is there already


def _write_all(descriptor: int, part: Bytes) -> None:
    rest = memoryview(part)
    while rest:  # a write may take a part only: 2 GiB at most, or what the disk had left
        rest = rest[os.write(descriptor, rest) :]
