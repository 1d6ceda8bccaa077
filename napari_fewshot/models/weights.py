"""Where trained weights come from: the package's own folder, a folder that the user names, or torchvision's download.

Nothing here ever falls back to random weights, and nothing is unpickled: files are safetensors, or tensors
only (``torch.load(weights_only=True)``).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.error import URLError

import torch
from torch import Tensor
from torchvision.models import WeightsEnum

import napari_fewshot
from napari_fewshot.errors import WeightsError

FOLDER_VARIABLE: Final = "NAPARI_FEWSHOT_WEIGHTS"
"""Environment variable that names a folder with weights for machines without internet."""

_SUFFIXES: Final = (".safetensors", ".pth", ".pt")


def shipped_folder() -> Path:
    """Return the folder of the weights that come with the package (``index.json`` and ``*.safetensors``).

    Raises
    ------
    WeightsError
        If the installation lacks it.
    """
    package = Path(napari_fewshot.__file__).parent
    for folder in (package / "weights", package.parent / "weights"):  # installed; a checkout
        if (folder / "index.json").is_file():
            return folder
    raise WeightsError("this installation lacks its weights folder; install napari-fewshot again")


def user_folder() -> Path | None:
    """Return the folder that the user named for weights, if any."""
    named = os.environ.get(FOLDER_VARIABLE, "").strip()
    return Path(named).expanduser() if named else None


def torchvision_weights(name: str, weights: WeightsEnum) -> Mapping[str, Tensor]:
    """Get the weights of a torchvision network: from the user's folder, from torchvision's cache, or by download.

    Parameters
    ----------
    name
        Name of the network: a file in the user's folder is recognised by beginning with it.
    weights
        What to download otherwise; torchvision checks the file by its hash.

    Raises
    ------
    WeightsError
        If they can be had from nowhere; the message says what to do.
    """
    local = _find(name, weights)
    if local is not None:
        return read_weights(local)
    try:
        downloaded: Mapping[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True)
        return downloaded
    except (URLError, OSError, RuntimeError) as error:
        file = Path(weights.url).name
        raise WeightsError(
            f"the weights of {name} are not on this computer and could not be downloaded ({error}). "
            f"Download {weights.url} elsewhere, put {file} in a folder, and set the environment variable "
            f"{FOLDER_VARIABLE} to that folder; or choose the backbone 'scale-space', which needs none"
        ) from error


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Read named tensors from a file.

    Raises
    ------
    WeightsError
        If the file is damaged or holds anything but named tensors.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{path} cannot be read as weights ({error}); download it again") from error
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"{path} holds something other than named tensors; export its state_dict")
    return content


def _find(name: str, weights: WeightsEnum) -> Path | None:
    folder = user_folder()
    if folder is None:
        return None
    if not folder.is_dir():
        raise WeightsError(f"{FOLDER_VARIABLE} names {folder}, which is not a folder; correct it or unset it")
    exact = folder / Path(weights.url).name
    if exact.is_file():
        return exact
    matches = sorted(p for p in folder.iterdir() if p.suffix in _SUFFIXES and p.stem.lower().startswith(name))
    return matches[0] if matches else None
