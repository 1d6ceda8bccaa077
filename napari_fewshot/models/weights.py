"""Where trained weights come from: the package, a folder of the user's, the caches of other programs, the internet.

Nothing here ever falls back to random weights, and nothing is unpickled: files are safetensors, or tensors
only (``torch.load(weights_only=True)``).
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlparse

import torch
from platformdirs import user_data_dir
from torch import Tensor

import napari_fewshot
from napari_fewshot.errors import WeightsError
from napari_fewshot.models.downloads import (
    DamagedFileError,
    Report,
    cached_from_hub,
    download,
    download_from_hub,
    hash_in_name,
    hub_folder,
    sha256,
    to_stderr,
)

FOLDER_VARIABLE: Final = "NAPARI_FEWSHOT_WEIGHTS"
"""Environment variable that names a folder with weights for machines without internet."""

_SUFFIXES: Final = (".safetensors", ".pth", ".pt", ".bin")
_HUB_FILES: Final = ("model.safetensors", "pytorch_model.bin")
_WRAPPINGS: Final = ("state_dict", "model")  # under which training programs keep the tensors of a network


@dataclass(frozen=True)
class WeightsSource:
    """How to come by the weights of one backbone.

    Attributes
    ----------
    backbone
        Its name.
    stems
        Patterns of file names, without suffix, by which its weights are known in a folder; the best first.
    notice
        What a person should know of the licence before the first use.
    licence
        The same in a few words.
    url
        Address of the file, or "".
    repository
        ``owner/name`` on the Hugging Face hub, or "".
    size
        Bytes, about; 0 where unknown.
    """

    backbone: str
    stems: tuple[str, ...]
    notice: str
    licence: str
    url: str = ""
    repository: str = ""
    size: int = 0

    @property
    def address(self) -> str:
        """Where a person finds the weights."""
        return self.url or f"https://huggingface.co/{self.repository}/resolve/main/{_HUB_FILES[0]}"

    @property
    def own_name(self) -> str:
        """Name by which a downloaded file is known in a folder."""
        return Path(urlparse(self.url).path).name if self.url else f"{self.stems[0]}.safetensors"

    def file_name(self, path: Path) -> str:
        """Name by which a copy of this file is known again in a folder."""
        known = any(fnmatchcase(path.stem, pattern) for pattern in self.stems)
        return path.name if known else self.stems[0] + path.suffix


# ---------------------------------------------------------------------------- folders
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


def own_folder() -> Path:
    """Return the folder where a user may put weights without telling anybody; it need not exist."""
    return Path(user_data_dir("napari-fewshot", appauthor=False)) / "weights"


def user_folders() -> tuple[Path, ...]:
    """Return the folders to look for weights in: the one that ``NAPARI_FEWSHOT_WEIGHTS`` names, and `own_folder`.

    Raises
    ------
    WeightsError
        If the variable names something else than a folder.
    """
    named = os.environ.get(FOLDER_VARIABLE, "").strip()
    folders = [Path(named).expanduser()] if named else []
    if folders and not folders[0].is_dir():
        raise WeightsError(f"{FOLDER_VARIABLE} names {folders[0]}, which is not a folder; correct it or unset it")
    if own_folder().is_dir():
        folders.append(own_folder())
    return tuple(folders)


def torch_folder() -> Path:
    """Return the folder where torchvision keeps its downloads, which is shared with it."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def folders() -> tuple[tuple[str, Path], ...]:
    """Return every folder in which weights are looked for, with what it is; they need not exist.

    Raises
    ------
    WeightsError
        If ``NAPARI_FEWSHOT_WEIGHTS`` names something else than a folder.
    """
    own = [(FOLDER_VARIABLE, folder) for folder in user_folders() if folder != own_folder()]
    caches = [("cache of torchvision", torch_folder())]
    hub = hub_folder()
    if hub is not None:
        caches.append(("cache of the Hugging Face hub", hub))
    return (*own, ("folder of your own", own_folder()), *caches)


def shipped_weights(folder: Path | None = None) -> tuple[Mapping[str, Any], ...]:
    """Return the cards of the weights that come with the package; ``weights/README.md`` says what is on them.

    Raises
    ------
    WeightsError
        If the folder or its index cannot be read.
    """
    index = (shipped_folder() if folder is None else folder) / "index.json"
    try:
        return tuple(json.loads(index.read_text("utf-8"))["weights"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{index} cannot be read ({error}); install napari-fewshot again") from error


def shipped(name: str, folder: Path | None = None) -> Mapping[str, Tensor]:
    """Read weights that come with the package, once their file is what their card says.

    Parameters
    ----------
    name
        On the card.
    folder
        By default the package's.

    Raises
    ------
    WeightsError
        If there is no such card, or its file is missing, damaged or another one.
    """
    folder = shipped_folder() if folder is None else folder
    cards = [card for card in shipped_weights(folder) if card["name"] == name]
    if not cards:
        raise WeightsError(f"this installation has no weights '{name}'; install napari-fewshot again")
    return _read_checked(folder / cards[0]["file"], cards[0]["sha256"], "install napari-fewshot again")


def read_own(path: Path) -> Mapping[str, Tensor]:
    """Read weights of the user's own; where a card lies beside them (``<stem>.json``), only if they agree.

    Raises
    ------
    WeightsError
        If the file is damaged, holds anything but named tensors, or is not the one of its card.
    """
    card = path.with_suffix(".json")
    if path.suffix != ".safetensors" or not card.is_file():
        return read_weights(path)
    try:
        expected = str(json.loads(card.read_text("utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{card} cannot be read ({error}); delete it, or copy it again") from error
    return _read_checked(path, expected, "copy both files again")


def _read_checked(path: Path, expected: str, remedy: str) -> Mapping[str, Tensor]:
    """Read safetensors with a known hash: what is hashed is what is used."""
    from safetensors.torch import load

    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error}); {remedy}") from error
    if hashlib.sha256(content).hexdigest() != expected:
        raise WeightsError(f"{path} is not the file that its card describes (another SHA-256); {remedy}")
    try:
        return load(content)
    except Exception as error:
        raise WeightsError(f"{path} cannot be read as weights ({error}); {remedy}") from error


# ---------------------------------------------------------------------------- finding and fetching
def locate(source: WeightsSource) -> Path | None:
    """Return the file of these weights on this computer: of the user's folders, else of a cache; no network.

    Raises
    ------
    WeightsError
        If ``NAPARI_FEWSHOT_WEIGHTS`` names something else than a folder.
    """
    for folder in user_folders():
        offered = [(_stem(path), path) for path in weights_in(folder)]
        for pattern in source.stems:
            fitting = [path for stem, path in offered if fnmatchcase(stem, pattern)]
            if fitting:
                return fitting[0]
    if source.repository:
        return cached_from_hub(source.repository, _HUB_FILES)
    cached = _cached(source)
    return cached if cached is not None and cached.is_file() else None


def fetch(source: WeightsSource, report: Report = lambda done, total: None) -> Path:
    """Return the file of these weights, downloading it where it is not here.

    Parameters
    ----------
    source
        Which.
    report
        Told how far the download is.

    Raises
    ------
    WeightsError
        If they can be had from nowhere; the message says what to do.
    """
    found = locate(source)
    if found is not None:
        return found
    target = _cached(source)
    if target is None and not source.repository:
        raise WeightsError(
            f"nobody offers trained weights for {source.backbone}; put your own, named {source.stems[0]}.safetensors, "
            f"into {own_folder()}, or choose another backbone"
        )
    try:
        if target is None:
            return download_from_hub(source.repository, _HUB_FILES, report)
        download(source.url, target, report)
        return target
    except DamagedFileError as error:
        raise WeightsError(f"the weights of {source.backbone} arrived damaged ({error}); try again") from error
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise WeightsError(
            f"the weights of {source.backbone} are not on this computer and could not be downloaded ({reason}). "
            f"On a computer with internet run 'napari-fewshot weights fetch {source.backbone} --to FOLDER', or "
            f"download {source.address} as {source.own_name}; then put the file into {own_folder()}, or set the "
            f"environment variable {FOLDER_VARIABLE} to its folder. The backbones 'mica' and 'scale-space' need none"
        ) from error


def obtain(source: WeightsSource) -> Mapping[str, Tensor]:
    """Read these weights, downloading them where they are not here; licence and progress are told on stderr then.

    Raises
    ------
    WeightsError
        If they can be had from nowhere, or are damaged.
    """
    return read_weights(fetch(source, to_stderr(source.backbone, source.notice)))


def copy_into(source: WeightsSource, folder: Path) -> Path:
    """Copy weights that are here into a folder, under a name by which they are found there.

    Raises
    ------
    WeightsError
        If they are not here, or the folder cannot be written.
    """
    here = locate(source)
    if here is None:
        raise WeightsError(f"the weights of {source.backbone} are not on this computer; fetch them first")
    target = folder / source.file_name(here)
    partial = target.with_name(target.name + ".partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (target.exists() and target.samefile(here)):
            try:
                shutil.copyfile(here, partial)
                os.replace(partial, target)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise WeightsError(f"the weights cannot be written to {folder} ({error}); choose another folder") from error
    return target


# ---------------------------------------------------------------------------- reading and checking
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
        raise WeightsError(f"{path} cannot be read as weights ({error}); delete it and download it again") from error
    for key in _WRAPPINGS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"{path} holds something other than named tensors; export its state_dict")
    return content


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Short hash of all weights, part of the key of what is computed with them."""
    digest = hashlib.blake2b(digest_size=8)
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


Verdict = Literal["intact", "damaged", "missing", "no checksum"]


def verify(path: Path) -> Verdict:
    """Compare a file with the hash that its name tells; "no checksum" where it tells none."""
    expected = hash_in_name(path)
    if expected is None:
        return "no checksum"
    return "intact" if sha256(path).startswith(expected) else "damaged"


def verify_shipped(folder: Path | None = None) -> Iterator[tuple[Path, Verdict]]:
    """Compare every file of the package's weights with its card.

    Raises
    ------
    WeightsError
        If the folder or its index cannot be read.
    """
    folder = shipped_folder() if folder is None else folder
    for card in shipped_weights(folder):
        path = folder / card["file"]
        if path.is_file():
            yield path, "intact" if sha256(path) == card["sha256"] else "damaged"
        else:
            yield path, "missing"


def files_here() -> tuple[Path, ...]:
    """Return every weights file in the user's folders and in the caches of torchvision and timm."""
    return tuple(dict.fromkeys(path for _, folder in folders() for path in weights_in(folder)))


def weights_in(folder: Path) -> tuple[Path, ...]:
    """Return the weights files of a folder, shortest names first, with those of repositories of the hub in it."""
    if not folder.is_dir():
        return ()
    files = [path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file()]
    for name in _HUB_FILES:
        files += [*folder.glob(f"*/{name}"), *folder.glob(f"models--timm--*/snapshots/*/{name}")]
    return tuple(sorted(files, key=lambda path: (len(_stem(path)), str(path))))


def _cached(source: WeightsSource) -> Path | None:
    """File that a download from an address goes to; None for weights of the hub, whose client knows."""
    return torch_folder() / Path(urlparse(source.url).path).name if source.url else None


def _stem(path: Path) -> str:
    """What a file is called after: its name without suffix, or its folder for a repository of the hub."""
    return path.parent.name if path.name in _HUB_FILES else path.stem
