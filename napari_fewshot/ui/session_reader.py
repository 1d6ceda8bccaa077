"""What napari calls for File > Open of a session: the dock takes it up, in the window that is in front."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari import current_viewer

from napari_fewshot.errors import ReadError
from napari_fewshot.session.head import HEAD

NO_LAYERS = [(None,)]
"""What npe2 takes for "opened, and there are no layers to add": the session brings its images on screen by itself."""


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[tuple[Any, ...]]] | None:
    """Return what opens the folder of a session, or the file with its head (npe2 reader), or None for anything else."""
    return None if _folder(path) is None else open_in_dock


def open_in_dock(path: str | list[str]) -> list[tuple[Any, ...]]:
    """Open a session in the dock, which comes on screen if it is not there yet.

    Parameters
    ----------
    path
        The folder of a session, or the file with its head.

    Returns
    -------
    list
        napari's sign for no layers: images and labels come on screen as the dock takes the session up.

    Raises
    ------
    ReadError
        If it is no session, or there is no window of napari to open it in.
    """
    folder, viewer = _folder(path), current_viewer()
    if folder is None:
        raise ReadError(f"{path} holds no session; choose the folder in which '{HEAD}' lies")
    if viewer is None:
        raise ReadError(f"{folder} is a session, which needs napari's window; in Python use open_session(folder)")
    _, dock = viewer.window.add_plugin_dock_widget("napari-fewshot", "Few-shot propagation")
    dock.open_session(folder)
    return NO_LAYERS


def _folder(path: str | list[str]) -> Path | None:
    """The folder of the one session that is named, None where that is something else."""
    paths = [path] if isinstance(path, str) else path
    if len(paths) != 1 or "://" in paths[0]:
        return None
    named = Path(paths[0])
    folder = named.parent if named.name == HEAD else named
    return folder if (folder / HEAD).is_file() else None
