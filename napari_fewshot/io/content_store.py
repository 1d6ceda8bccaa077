"""Arrays in a folder, each in a file that is named after what is in it: nothing is ever written over.

A file holds what its name says, or it is damaged: reading checks. What is there already is not written again.
"""

import hashlib
import io
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final
from weakref import ref

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import ReadError
from napari_fewshot.io.atomic import replacing

_NAME: Final = re.compile(r"[0-9a-f]{32}\.(tif|npy)")


class ContentStore:
    """The arrays of a folder.

    Parameters
    ----------
    folder
        Made when the first array comes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: dict[int, tuple[Any, str]] = {}  # id of an array -> (weak reference to it, name)

    def put_labels(self, labels: npt.NDArray[Any]) -> str:
        """Keep a label map (H, W) of values 0 to 255, as a TIFF file that every program opens. Returns its name.

        An array that was put before is known by its identity: it must not be written to.

        Raises
        ------
        ExportError
            If it cannot be written.
        """
        return self._put(labels, "tif", _tiff_of)

    def put_objects(self, ids: npt.NDArray[np.int32]) -> str:
        """Keep a map of objects (H, W) in the same way, with 32 bits for each. Returns its name.

        Raises
        ------
        ExportError
            If it cannot be written.
        """
        return self._put(ids, "tif", partial(_tiff_of, dtype=np.int32))

    def put_pixels(self, pixels: npt.NDArray[Any]) -> str:
        """Keep an array of any shape and type of numbers, as a NumPy file. Returns its name.

        Raises
        ------
        ExportError
            If it cannot be written.
        """
        return self._put(pixels, "npy", _npy_of)

    def _put(self, array: npt.NDArray[Any], suffix: str, encoded: Any) -> str:
        known = self._names.get(id(array))
        if known is not None and known[0]() is array and self._path(known[1]).is_file():
            return known[1]
        content = encoded(array)
        name = f"{_digest(content)}.{suffix}"
        if not self._path(name).is_file():
            with replacing(self._path(name), overwrite=True) as file:
                file.write(content)
        self._remember(array, name)
        return name

    def get(self, name: str) -> npt.NDArray[Any]:
        """Read an array, which cannot be written to.

        Raises
        ------
        ReadError
            If it is missing, or is not what it was.
        """
        if not _NAME.fullmatch(name):
            raise ReadError(f"'{name}' names no array")
        path = self._path(name)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ReadError(f"{path.name} cannot be read ({error.strerror})") from error
        if _digest(content) != name.partition(".")[0]:
            raise ReadError(f"{path.name} is damaged")
        array = _of_tiff(content) if name.endswith("tif") else np.load(io.BytesIO(content), allow_pickle=False)
        array.setflags(write=False)
        self._remember(array, name)
        return array

    def keep_only(self, names: Iterable[str]) -> None:
        """Remove all other arrays, and what is left of writing that was broken off."""
        kept = set(names)
        for folder in self.folder.glob("[0-9a-f][0-9a-f]"):
            for file in folder.iterdir():
                is_ours = _NAME.fullmatch(file.name) or file.name.endswith(".partial")
                if is_ours and file.name not in kept:
                    with suppress(OSError):  # somebody looks at it; next time
                        file.unlink()
        self._names = {i: known for i, known in self._names.items() if known[0]() is not None and known[1] in kept}

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name

    def _remember(self, array: npt.NDArray[Any], name: str) -> None:
        self._names[id(array)] = ref(array), name

    def same(self, array: npt.NDArray[Any], name: str) -> None:
        """Take note that an array in another form, such as of another data type, is what is kept under a name."""
        self._remember(array, name)


def fingerprint(path: str | os.PathLike[str]) -> tuple[str, int]:
    """Return by what a file or folder is known again wherever it goes: a hash and its size in bytes.

    A file of up to 64 MiB is hashed as a whole; of a larger one its size, its ends and 64 places in between. Of folders
    (OME-Zarr, DICOM) it is the names and sizes of all that is in them, and the small files of the top level.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    path = Path(path)
    digest = hashlib.blake2b(digest_size=16)
    if path.is_dir():
        return _fingerprint_of_folder(path, digest)
    size = path.stat().st_size
    digest.update(str(size).encode())
    with open(path, "rb") as file:
        if size <= _WHOLE:
            digest.update(file.read())
        else:
            for i in range(_PLACES + 2):
                file.seek((size - _PIECE) * i // (_PLACES + 1))
                digest.update(file.read(_PIECE))
    return digest.hexdigest(), size


_WHOLE: Final = 64 << 20
_PIECE: Final = 1 << 18
_PLACES: Final = 64
_TEXT: Final = 1 << 20


def _fingerprint_of_folder(path: Path, digest: Any) -> tuple[str, int]:
    total = 0
    for file in sorted(path.rglob("*")):
        if file.is_file():
            size = file.stat().st_size
            total += size
            digest.update(f"{file.relative_to(path).as_posix()} {size}\n".encode())
            if file.parent == path and size <= _TEXT:
                digest.update(file.read_bytes())
    return digest.hexdigest(), total


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _tiff_of(labels: npt.NDArray[Any], dtype: npt.DTypeLike = np.uint8) -> bytes:
    import tifffile

    buffer = io.BytesIO()
    compressionargs = {"level": 1}  # label maps are mostly the same: more effort brings next to nothing
    tifffile.imwrite(
        buffer,
        np.ascontiguousarray(labels, dtype),
        photometric="minisblack",
        compression="zlib",
        compressionargs=compressionargs,
        metadata=None,
        software=False,
    )
    return buffer.getvalue()


def _of_tiff(content: bytes) -> npt.NDArray[Any]:
    import tifffile

    return np.asarray(tifffile.imread(io.BytesIO(content)))


def _npy_of(pixels: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(pixels), allow_pickle=False)
    return buffer.getvalue()
