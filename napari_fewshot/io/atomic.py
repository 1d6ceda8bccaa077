"""Writing files so that what was there before survives whatever goes wrong."""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from napari_fewshot.errors import ExportError


@contextmanager
def replacing(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Open a file to write that takes the place of ``path`` at the end, in one step, or not at all.

    Bytes go to a hidden file in the same folder, which is renamed when the block ends without an error and
    removed when it does not: a reader of ``path`` sees the old content or the new one, never a part.

    Parameters
    ----------
    path
        Where the file goes; missing folders are made. A link is followed.
    overwrite
        Whether a file that is there already may be replaced.

    Yields
    ------
    BinaryIO
        Open for reading and writing.

    Raises
    ------
    ExportError
        If the file exists and may not be replaced, or if it cannot be written.
    """
    target = Path(os.path.realpath(path))
    refuse_existing(target, overwrite=overwrite)
    partial = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(partial, "x+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())  # a power cut after the rename must not leave an empty file
            refuse_existing(target, overwrite=overwrite)  # somebody else may have been faster
            _keep_mode(target, partial)
            os.replace(partial, target)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ExportError(f"'{target.name}' was not written: {_reason(error, target)}") from error


@contextmanager
def filling(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Fill a folder whose files appear together at the end, or not at all.

    They are written into a hidden folder beside it. Where ``path`` is new, that folder is renamed in one step; where it
    is there, each file is moved into it in one step, and what else it holds stays.

    Parameters
    ----------
    path
        The folder; missing ones above it are made.
    overwrite
        Whether files that are there already may be replaced.

    Yields
    ------
    Path
        An empty folder.

    Raises
    ------
    ExportError
        If a file exists and may not be replaced, or one cannot be written.
    """
    target = Path(os.path.realpath(path))
    partial = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        if not target.exists():
            os.rename(partial, target)
            return
        files = sorted(file.relative_to(partial) for file in partial.rglob("*") if file.is_file())
        for file in files:
            refuse_existing(target / file, overwrite=overwrite)
        for file in files:
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            os.replace(partial / file, target / file)
    except OSError as error:
        raise ExportError(f"'{target.name}' was not written: {_reason(error, target)}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def replacing_folder(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Fill a folder that takes the place of another as a whole: for folders that one program writes, as those of zarr.

    The old one is set aside, the new one renamed, and only then is the old one removed.

    Raises
    ------
    ExportError
        If the folder exists and may not be replaced, or it cannot be written; the old one is there then.
    """
    target = Path(os.path.realpath(path))
    partial, retired = (
        target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.{w}") for w in ("partial", "old")
    )
    if target.exists() and not overwrite:
        raise ExportError(f"'{path}' exists already; choose another name, or allow it to be overwritten")
    try:
        partial.mkdir(parents=True)
        yield partial
        if target.exists():
            os.rename(target, retired)
        try:
            os.rename(partial, target)
        except OSError:
            if retired.exists():
                os.rename(retired, target)
            raise
    except OSError as error:
        raise ExportError(f"'{target.name}' was not written: {_reason(error, target)}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if target.exists():
            shutil.rmtree(retired, ignore_errors=True)


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise an `ExportError` where a file may not be written because something is there."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise ExportError(f"'{path.name}' was not written: {_reason(error, path)}") from error
    if stat.S_ISDIR(mode):
        raise ExportError(f"'{path}' is a folder; give the name of a file in it")
    if not overwrite:
        raise ExportError(f"'{path}' exists already; choose another name, or allow it to be overwritten")
    if not mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
        raise ExportError(f"'{path}' is write-protected; choose another name, or lift the protection")


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder, and those above it, where it is missing.

    Raises
    ------
    ExportError
        If it cannot be made.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"the folder was not made: {_reason(error, folder / 'in it')}") from error
    return folder


def _keep_mode(target: Path, partial: Path) -> None:
    """Give the new file the permissions of the one that it replaces."""
    with suppress(OSError):
        partial.chmod(target.stat().st_mode)


def _reason(error: OSError, target: Path) -> str:
    folder = target.parent
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk that holds '{folder}' is full; free some space or choose another folder"
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"you may not write in '{folder}', or another program has the file open; "
            "close it there or choose another folder"
        )
    if error.errno == errno.EROFS:
        return f"'{folder}' is read-only; choose another folder"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"'{folder}' is not a folder; choose another one"
    if error.errno == errno.ENAMETOOLONG:
        return "its name is too long; choose a shorter one"
    return f"{error.strerror or error}; check the folder '{folder}' or choose another one"
