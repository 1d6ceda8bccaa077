"""What episodes are drawn from: the images of each class of one fold of a benchmark."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from napari_fewshot.errors import SettingsError
from napari_fewshot.frames import Image, Labels

Report = Callable[[int, int], None]
"""Told how many masks were looked through, and how many there are."""

FOLDS = (0, 1, 2, 3)


@dataclass(frozen=True, eq=False)
class Pool:
    """The classes of one fold, and which images show them.

    Attributes
    ----------
    name
        Of the benchmark.
    fold
        0..3; None where there are none.
    about
        Where images and masks are from, for the head of a table.
    class_names
        Class id -> name; ids are those of the benchmark.
    members
        Class id -> names of the images that show it, sorted.
    image
        Reads an image by name: (H, W, 3) uint8.
    labels
        Reads the label map of an image for some classes: ``class_ids[i]`` becomes i + 1, other classes and background
        0, what is not known 255.
    """

    name: str
    fold: int | None
    about: str
    class_names: Mapping[int, str]
    members: Mapping[int, tuple[str, ...]]
    image: Callable[[str], Image]
    labels: Callable[[str, tuple[int, ...]], Labels]

    @property
    def digest(self) -> str:
        """Hash of which image shows what: two runs are one only if it is the same."""
        told = json.dumps({str(c): list(names) for c, names in sorted(self.members.items())})
        return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


def check_fold(fold: int) -> None:
    """Raise a `SettingsError` for a fold that there is not."""
    if fold not in FOLDS:
        raise SettingsError(f"there is no fold {fold}; choose one of 0, 1, 2, 3")
