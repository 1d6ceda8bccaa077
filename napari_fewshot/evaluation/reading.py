"""Finding the folders of data sets, with errors that say where they were looked for; and squashing what is in them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from napari_fewshot.errors import SettingsError
from napari_fewshot.frames import Image, Labels


def find_folder(root: Path, places: Sequence[str], needed: str, what: str) -> Path:
    """Return the first of some places below a folder that has what is needed in it.

    Parameters
    ----------
    root
        What the user named.
    places
        Folders below it, "" for itself.
    needed
        File or folder that has to be there, "" for the place itself.
    what
        What is looked for, for the message.

    Raises
    ------
    SettingsError
        If it is nowhere.
    """
    tried = [root / place for place in places]
    for folder in tried:
        if (folder / needed).exists():
            return folder
    if not root.is_dir():
        raise SettingsError(f"{root} is not a folder; name the one that holds {what}")
    told = f"{needed} is in none of" if needed else "there is none of"
    raise SettingsError(
        f"{what} was not found: {told} {', '.join(map(str, tried))}; name the folder that holds it, or complete it"
    )


def resized(image: Image, size: int) -> Image:
    """Squash an image (H, W, 3) uint8 to a square of so many pixels, bilinear, as published loaders do."""
    return np.asarray(PIL.Image.fromarray(image).resize((size, size), PIL.Image.Resampling.BILINEAR))


def resized_labels(labels: Labels, size: int) -> Labels:
    """Squash a label map (H, W) to a square of so many pixels, by nearest neighbours."""
    small = PIL.Image.fromarray(labels.astype(np.uint8)).resize((size, size), PIL.Image.Resampling.NEAREST)
    return np.asarray(small).astype(np.int32)
