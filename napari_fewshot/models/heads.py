"""Trained heads of methods: their files, and which of them fits a method and a backbone.

A head's file tells itself what it is, in the header of its safetensors: the method, the identity of the features that
it was trained on (`Backbone.key`) and the configuration of its network, as JSON. On other features it would only guess.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from napari_fewshot.errors import SettingsError, WeightsError
from napari_fewshot.models.backbones.base import Backbone
from napari_fewshot.models.weights import read_own, shipped, shipped_folder, shipped_weights, user_folders, weights_in

_HEADER: Final = "head"
"""Its one entry: with several, their order, and so the bytes of the file, would not be the same every time."""


@dataclass(frozen=True)
class HeadFile:
    """A head that somebody trained.

    Attributes
    ----------
    method
        Name of the method that it belongs to.
    features
        `Backbone.key` of what it was trained on.
    config
        Of its network: names and values of the fields of the method's configuration.
    path
        Of the file.
    shipped_as
        Name on its card where it comes with the package; "" for one of the user's own.
    """

    method: str
    features: str
    config: Mapping[str, Any]
    path: Path
    shipped_as: str = ""

    def read(self) -> Mapping[str, Tensor]:
        """Read its weights, in single precision, once the file is what its card says.

        Raises
        ------
        WeightsError
            If it is damaged, or not what its card describes.
        """
        tensors = shipped(self.shipped_as) if self.shipped_as else read_own(self.path)
        return {name: tensor.float() for name, tensor in tensors.items()}


def header_of(method: str, features: str, config: Any) -> dict[str, str]:
    """What the header of a head's file tells; ``config`` is a dataclass of numbers and texts."""
    told = {"method": method, "features": features, "config": asdict(config)}
    return {_HEADER: json.dumps(told, sort_keys=True)}


def find_head(method: str, backbone: Backbone) -> HeadFile | None:
    """Return the head of a method that was trained on the features of a backbone; the user's own come first."""
    for head in (*_own_heads(), *_shipped_heads()):
        if head.method == method and head.features == backbone.key:
            return head
    return None


def no_head(method: str) -> SettingsError:
    """What to raise where a method is nothing without a head, and there is none for the chosen backbone."""
    return SettingsError(
        f"there is no trained head of '{method}' for this backbone; choose the backbone mica, "
        "or train one on yours: docs/training.md says how"
    )


def fill(head: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Put trained weights into a network, which is for use from then on.

    Raises
    ------
    WeightsError
        If they do not fit.
    """
    try:
        head.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise WeightsError(
            f"{name} is not for this version of its method; train it again with 'napari-fewshot train'"
        ) from error
    head.requires_grad_(False).eval()


def channels_of(backbone: Backbone) -> dict[int, int]:
    """Find out how many features a backbone has at each stride."""
    side = 4 * backbone.levels[-1].stride
    with torch.inference_mode():
        features = backbone(torch.zeros(3, side, side))
    return {level.stride: f.shape[0] for level, f in features.items()}


def _shipped_heads() -> Iterator[HeadFile]:
    for card in shipped_weights():
        if "method" in card["architecture"]:
            head = _described(shipped_folder() / card["file"], card["name"])
            if head is not None:
                yield head


def _own_heads() -> Iterator[HeadFile]:
    for folder in user_folders():
        for path in weights_in(folder):
            if path.suffix == ".safetensors" and (head := _described(path)) is not None:
                yield head


def _described(path: Path, shipped_as: str = "") -> HeadFile | None:
    """What a file tells of itself; None where it is no head."""
    try:
        told = _header(path, path.stat().st_mtime_ns)
    except OSError:
        return None
    if told is None:
        return None
    try:
        return HeadFile(**json.loads(told), path=path, shipped_as=shipped_as)
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{path} cannot be read as a trained head ({error}); delete it or copy it again") from error


@lru_cache(maxsize=256)
def _header(path: Path, _changed: int) -> str | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
    except (OSError, SafetensorError):  # damaged, or something else: whoever needs it is told when it is read
        return None
    return metadata.get(_HEADER)
