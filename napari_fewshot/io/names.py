"""Names of files, from names of layers and images, that every file system takes."""

import posixpath
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from napari_fewshot.errors import ReadError

TIFF: Final = (".tif", ".tiff")
PICTURES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")

_REFUSED: Final = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\[\]]+')
_BYTES: Final = 200  # of a name; file systems count bytes
_TIFF_AT_END: Final = re.compile(r"\.tiff?$", re.IGNORECASE)
_LABELS_AT_END: Final = re.compile(r"(^|[ _-])labels$", re.IGNORECASE)


def safe_name(name: str) -> str:
    """Take out of a name what some file system refuses; "" where nothing is left.

    >>> safe_name("plate 3: well B/7"), safe_name("../etc")
    ('plate 3_ well B_7', 'etc')
    """
    name = _REFUSED.sub("_", unicodedata.normalize("NFC", name)).strip(" ._")
    return name.encode()[:_BYTES].decode(errors="ignore").strip(" ._")


def default_name(layer_name: str, suffix: str = ".tif") -> str:
    """Name the file for a layer, with nothing in it that a file system refuses.

    >>> default_name("plate 3: well B/7")
    'plate 3_ well B_7_labels.tif'
    """
    name = safe_name(layer_name)
    stem = _TIFF_AT_END.sub("", name)
    name = stem if stem == name else safe_name(stem)
    if _LABELS_AT_END.search(name):
        return f"{name}{suffix}"
    return f"{name}_labels{suffix}" if name else f"labels{suffix}"


def default_names(layer_names: Iterable[str], suffix: str = ".tif") -> list[str]:
    """Name the files for several layers so that none has the name of another, whatever its case.

    >>> default_names(["cells", "Cells"])
    ['cells_labels.tif', 'Cells_labels_2.tif']
    """
    stems = [default_name(name, suffix).removesuffix(suffix) for name in layer_names]
    return [f"{name}{suffix}" for name in distinct(stems)]


def distinct(names: Iterable[str]) -> list[str]:
    """Number names that came before, whatever their case: file systems of Windows and macOS do not tell them apart.

    >>> distinct(["a", "A", "b"])
    ['a', 'A_2', 'b']
    """
    taken: set[str] = set()
    found: list[str] = []
    for wanted in names:
        name, number = wanted, 2
        while name.casefold() in taken:
            name = f"{wanted}_{number}"
            number += 1
        taken.add(name.casefold())
        found.append(name)
    return found


def check_inside(inner: str, path: object) -> str:
    """Return a path that a file or folder names within itself, refusing one that leads out of it.

    Raises
    ------
    ReadError
        If it does.
    """
    tidy = posixpath.normpath(inner.replace("\\", "/"))
    if tidy.startswith(("/", "../")) or tidy in ("..", ".") or ":" in tidy.split("/")[0]:
        raise ReadError(f"{path} names '{inner}', which lies outside of it; it is not opened")
    return tidy
