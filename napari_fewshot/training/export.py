"""From a checkpoint of training to the file that a backbone reads, its card, and where both are found."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

import napari_fewshot
from napari_fewshot.errors import WeightsError
from napari_fewshot.io.atomic import make_folder, replacing
from napari_fewshot.models.weights import own_folder
from napari_fewshot.training.pictures import BUNDLED_CARD, data_cards
from napari_fewshot.training.products import MICA, Product
from napari_fewshot.training.recipe import Recipe

_AVERAGED = "module."
"""What names of averaged weights begin with."""


def averaged_net(checkpoint: Path, net: nn.Module) -> nn.Module:
    """Read the moving average of weights from a checkpoint into a network of the same shape, and return that.

    Raises
    ------
    WeightsError
        If the file cannot be read, or holds another network.
    """
    try:
        average: Mapping[str, Tensor] = torch.load(checkpoint, map_location="cpu", weights_only=True)["average"]
        net.load_state_dict({k.removeprefix(_AVERAGED): v for k, v in average.items() if k.startswith(_AVERAGED)})
    except Exception as error:
        raise WeightsError(f"{checkpoint} is no checkpoint of such a network ({error})") from error
    return net


def write_weights(net: nn.Module, file: Path, product: Product = MICA, settings: Any = None) -> None:
    """Write the weights of a network for use; ``settings`` are those of the last stage that trained it.

    Raises
    ------
    WeightsError
        If a number is not finite.
    """
    content = save(product.tensors(net), product.header(settings) or None)
    with replacing(file, overwrite=True) as stream:
        stream.write(content)


# ---------------------------------------------------------------------------- cards
def write_card(recipe: Recipe, file: Path, data: Path | None) -> Path:
    """Write the card of weights beside their file, as JSON; ``weights/README.md`` says what is on it."""
    card = file.with_suffix(".json")
    with replacing(card, overwrite=True) as stream:
        stream.write((json.dumps(card_of(recipe, file, data), indent=2) + "\n").encode())
    return card


def card_of(recipe: Recipe, file: Path, data: Path | None) -> dict[str, Any]:
    """Tell what weights are, how they were made and from what.

    Parameters
    ----------
    recipe
        That was carried out.
    file
        That came out.
    data
        Folder of the data sets that were used, if any.
    """
    content = file.read_bytes()
    return {
        "name": recipe.name,
        "file": file.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        **recipe.product.card(recipe.stages[-1].settings, sum(tensor.numel() for tensor in load(content).values())),
        "recipe": {
            "command": f"napari-fewshot train {recipe.name} --seed {recipe.seed}",
            "seed": recipe.seed,
            "precision": recipe.precision,
            "stages": [{"kind": s.kind, **asdict(s.schedule), **asdict(s.settings)} for s in recipe.stages],
            "version": napari_fewshot.__version__,
            "commit": _commit(),
        },
        "data": _data(recipe, data),
        "licence": recipe.licence,
        "metrics": {},
    }


def _data(recipe: Recipe, folder: Path | None) -> list[dict[str, str]]:
    pictures = recipe.pictures
    cards = [] if folder is None else data_cards(folder)
    if pictures.bundled:
        cards.append(dict(BUNDLED_CARD))
    if pictures.worlds and pictures.real + pictures.bundled < 1:
        made = f"{pictures.worlds * pictures.views} pictures made by napari_fewshot.training.made"
        cards.append({"name": made, "licence": "BSD-3-Clause", "source": "this package"})
    return cards


def _commit() -> str:
    """Of the package, where it runs from a checkout; "-dirty" behind it where what training uses was changed."""
    package = Path(napari_fewshot.__file__).parent
    if not (package.parent / ".git").exists():
        return ""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=package, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "training", "models") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


# ---------------------------------------------------------------------------- putting them where they are found
def install(file: Path) -> Path:
    """Copy weights and their card to the user's own folder, where backbones and methods find them."""
    folder = make_folder(own_folder())
    for each in (file.with_suffix(".json"), file):
        _copy(each, folder / each.name)
    return folder / file.name


def ship(file: Path, folder: Path) -> None:
    """Put weights into the package's folder, and their card into its index, in the place of those of the same name.

    Metrics that were written on the card by hand stay if the file is the same.
    """
    index = folder / "index.json"
    content = json.loads(index.read_text("utf-8"))
    card = json.loads(file.with_suffix(".json").read_text("utf-8"))
    for old in content["weights"]:
        if old["name"] == card["name"] and old["sha256"] == card["sha256"]:
            card["metrics"] = card["metrics"] or old["metrics"]
    others = [old for old in content["weights"] if old["name"] != card["name"]]
    content["weights"] = sorted([*others, card], key=lambda each: str(each["name"]))
    _copy(file, folder / file.name)
    with replacing(index, overwrite=True) as stream:
        stream.write((json.dumps(content, indent=2) + "\n").encode())


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as content, replacing(target, overwrite=True) as stream:
        shutil.copyfileobj(content, stream)
