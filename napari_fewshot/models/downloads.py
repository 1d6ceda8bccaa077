"""Files from the internet: told how far they are, checked by their hash, and never half there."""

import hashlib
import inspect
import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import napari_fewshot

Report = Callable[[int, int | None], None]
"""Called with the bytes that have arrived and how many there are in all, None where nobody knows."""

_BLOCK: Final = 1 << 20
_SILENCE: Final = 30.0  # seconds without a byte after which a server is given up

_HASH_IN_NAME: Final = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
"""As torch.hub has it: ``resnet18-f37072fd.pth`` begins, in SHA-256, with f37072fd."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class DamagedFileError(OSError):
    """What arrived is not what was sent."""


def download(url: str, target: Path, report: Report) -> None:
    """Write what is at an address to a file that is there completely or not at all.

    Parameters
    ----------
    url
        http or https.
    target
        The file. If its name carries a hash, the content must have it.
    report
        Told after every mebibyte.

    Raises
    ------
    OSError
        If the server cannot be reached, goes silent, or the disk is full.
    DamagedFileError
        If the content is cut off or has another hash.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    asked = Request(url, headers={"User-Agent": f"napari-fewshot/{napari_fewshot.__version__}"})
    digest, done = hashlib.sha256(), 0
    with _answer(asked) as answer:
        length = answer.headers.get("Content-Length")
        total = int(length) if length else None
        handle, partial = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".partial")
        try:
            with os.fdopen(handle, "wb") as file:
                while block := answer.read(_BLOCK):
                    file.write(block)
                    digest.update(block)
                    done += len(block)
                    report(done, total)
            if total is not None and done != total:
                raise DamagedFileError(f"{url} ended after {done} of {total} bytes")
            expected = hash_in_name(target)
            if expected is not None and not digest.hexdigest().startswith(expected):
                raise DamagedFileError(f"{url} has another checksum than its name promises")
            os.replace(partial, target)
        finally:
            Path(partial).unlink(missing_ok=True)


def download_from_hub(repository: str, filenames: Sequence[str], report: Report) -> Path:
    """Get the first of these files that a repository on the Hugging Face hub has, into the cache of its client.

    Parameters
    ----------
    repository
        ``owner/name``.
    filenames
        The one wanted most first.
    report
        Told how far it is.

    Raises
    ------
    OSError
        If the hub cannot be reached, refuses, or has none of the files.
    DamagedFileError
        If the content has another hash than the hub announced.
    """
    import huggingface_hub as hub
    from huggingface_hub.errors import EntryNotFoundError

    for filename in filenames:
        try:
            announced = hub.get_hf_file_metadata(hub.hf_hub_url(repository, filename))
        except EntryNotFoundError:
            continue
        path = Path(hub.hf_hub_download(repository, filename, **_bar(hub.hf_hub_download, report)))
        if _SHA256.fullmatch(announced.etag or "") and sha256(path) != announced.etag:
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise DamagedFileError(f"{filename} of {repository} has another checksum than the hub announced")
        return path
    raise FileNotFoundError(f"{repository} on the Hugging Face hub has none of: {', '.join(filenames)}")


def cached_from_hub(repository: str, filenames: Sequence[str]) -> Path | None:
    """Return the file that an earlier `download_from_hub`, or another program, left in the cache; no network."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:  # nobody can have left anything that could be read
        return None
    for filename in filenames:
        found = try_to_load_from_cache(repository, filename)
        if isinstance(found, str):
            return Path(found)
    return None


def hub_folder() -> Path | None:
    """Return where the client of the Hugging Face hub keeps its downloads; None where it is not installed."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return None
    return Path(constants.HF_HUB_CACHE)


def hash_in_name(path: Path) -> str | None:
    """Return the beginning of the SHA-256 that a file should have, if its name tells.

    It does for what torchvision and timm offer (``resnet18-f37072fd.pth``) and, followed through links, in the cache
    of the Hugging Face client, which names files by their hash.
    """
    blob = path.resolve().name
    if _SHA256.fullmatch(blob):
        return blob
    found = _HASH_IN_NAME.search(path.name)
    return found[1] if found else None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def to_stderr(name: str, notice: str) -> Report:
    """Return a report for whoever has no better one: the notice first, then, on a terminal, how far it is."""
    stream = sys.stderr
    if stream is None:  # a program without a console on Windows
        return lambda done, total: None
    told = False

    def report(done: int, total: int | None) -> None:
        nonlocal told
        if not told:
            stream.write(f"{notice}\n")
            told = True
        if stream.isatty():
            of = "" if total is None else f" of {total / 1e6:.0f}"
            stream.write(f"\rDownloading {name}: {done / 1e6:.0f}{of} MB" + ("\n" if done == total else ""))
        stream.flush()

    return report


def _answer(asked: Request) -> Any:
    try:
        return urlopen(asked, timeout=_SILENCE)
    except HTTPError as refusal:
        refusal.close()  # it is an open connection as well
        raise


def _bar(function: Callable[..., Any], report: Report) -> dict[str, Any]:
    """Argument that makes the hub's client report to us instead of drawing a bar; older ones can only draw."""
    if "tqdm_class" not in inspect.signature(function).parameters:
        return {}
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc, type-arg, unused-ignore]
        def __init__(self, *args: Any, **settings: Any) -> None:
            settings.pop("name", None)  # of the client's own bars
            super().__init__(*args, **{**settings, "disable": True})
            self.total = settings.get("total")  # a disabled bar forgets it
            self.arrived = int(settings.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            self.arrived += int(n or 0)
            report(self.arrived, int(self.total) if self.total else None)

    return {"tqdm_class": Bar}
