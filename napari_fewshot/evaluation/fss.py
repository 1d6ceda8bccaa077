"""FSS-1000: 1,000 classes of ten small photographs each, 240 for testing (Li et al., CVPR 2020, arXiv 1907.12347)."""

from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np

from napari_fewshot.errors import SettingsError
from napari_fewshot.evaluation.pools import Pool
from napari_fewshot.frames import Labels
from napari_fewshot.io.rasters import read_gray, read_rgb

_PLACES: Final = ("", "FSS-1000", "fewshot_data", "fewshot_data/fewshot_data")
_LIST: Final = "fss_test_set.txt"


def fss_test_classes() -> tuple[str, ...]:
    """Return the names of the 240 test classes, as the authors' repository lists them (``fss_test_set.txt``).

    Names are spelt as its folders are. The last line of that file ends without a line break: a loader that counts
    breaks has 239 classes.
    """
    return tuple(files("napari_fewshot.evaluation").joinpath(_LIST).read_text("utf-8").splitlines())


def fss_pools(root: Path) -> tuple[Pool]:
    """Look for the test classes of FSS-1000 and make a pool of them; there are no folds.

    Expected is the published layout: a folder for each class with ``1.jpg`` to ``10.jpg`` and their masks ``1.png`` to
    ``10.png``, in which values from 128 on are the object.

    HSNet asks for each of the 2,400 images once instead of drawing 1,000 episodes, and may draw one shot
    several times among five (`data/fss.py`); here shots of an episode differ.

    Parameters
    ----------
    root
        The folder with the classes, or one that holds it as ``FSS-1000`` or ``fewshot_data``.

    Raises
    ------
    SettingsError
        If none of the classes is there.
    """
    listed = fss_test_classes()
    if not root.is_dir():
        raise SettingsError(f"{root} is not a folder; name the one that holds FSS-1000")
    tried = [root / place for place in _PLACES]
    folder = next((each for each in tried if any((each / name).is_dir() for name in listed)), None)
    if folder is None:
        raise SettingsError(
            f"FSS-1000 was not found: none of {', '.join(map(str, tried))} holds a folder of one of its "
            f"{len(listed)} test classes, such as '{listed[0]}'; name the folder that holds them"
        )
    members = {class_id: _pairs(folder, name) for class_id, name in enumerate(listed, start=1)}
    there = {class_id: names for class_id, names in members.items() if names}
    return (
        Pool(
            "FSS-1000",
            None,
            f"FSS-1000, {len(there)} of the {len(listed)} published test classes",
            dict(enumerate(listed, start=1)),
            there,
            lambda name: read_rgb(folder / f"{name}.jpg"),
            lambda name, class_ids: _labels(folder, name, tuple(listed[c - 1] for c in class_ids)),
        ),
    )


def _pairs(folder: Path, name: str) -> tuple[str, ...]:
    images = (folder / name).glob("*.jpg")
    return tuple(sorted(f"{name}/{file.stem}" for file in images if file.with_suffix(".png").is_file()))


def _labels(folder: Path, name: str, class_names: tuple[str, ...]) -> Labels:
    mask = read_gray(folder / f"{name}.png") >= 128
    shown = name.rpartition("/")[0]
    position = class_names.index(shown) + 1 if shown in class_names else 0
    return np.where(mask, position, 0).astype(np.int32)
