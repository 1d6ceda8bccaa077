"""Where to compute."""

import torch

from napari_fewshot.errors import SettingsError


def choose_device(name: str = "auto") -> str:
    """Return the device to compute on.

    Parameters
    ----------
    name
        "auto" (cuda, else mps, else cpu), or a device that torch knows, such as "cuda:1".

    Raises
    ------
    SettingsError
        If there is no such device on this computer.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = name.partition(":")
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available()
        and (not number or (number.isdigit() and int(number) < torch.cuda.device_count())),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(kind, False):
        usable = ", ".join(kind for kind, there in available.items() if there)
        raise SettingsError(f"device '{name}' is not available here; choose auto or one of: {usable}")
    return name
