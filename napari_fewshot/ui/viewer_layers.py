"""The layers of a viewer: nobody hears of what we do to them ourselves, and all that listens is let go of."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from napari_fewshot.ui.linked_image import unwrapped


class ViewerLayers:
    """Adds, removes and selects layers, and listens to them.

    Parameters
    ----------
    viewer
        A napari viewer.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._disconnects: list[Callable[[], None]] = []
        self.is_changing = False
        """Whether what happens now is done by us."""

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """Do not report what we do ourselves."""
        before, self.is_changing = self.is_changing, True
        try:
            yield
        finally:
            self.is_changing = before

    def connect(self, emitter: Any, slot: Callable[..., None]) -> None:
        """Listen until `close`."""
        emitter.connect(slot)
        self._disconnects.append(lambda: emitter.disconnect(slot))

    def close(self) -> None:
        """Listen to nothing any more."""
        for disconnect in self._disconnects:
            with suppress(Exception):  # the viewer may be half gone
                disconnect()
        self._disconnects.clear()

    # ------------------------------------------------------------------ what is there
    def __iter__(self) -> Iterator[Any]:
        return iter(self._viewer.layers)

    @property
    def selected(self) -> Any:
        """The layer that is selected, None where none is, or several are."""
        return self._viewer.layers.selection.active

    def is_selected(self, layer: Any) -> bool:
        """Whether this one is."""
        selected = self.selected
        return selected is not None and bool(selected.unique_id == layer.unique_id)

    # ------------------------------------------------------------------ changes
    def select(self, layer: Any) -> None:
        """Select a layer, which is told like a click on it."""
        self._viewer.layers.selection.active = unwrapped(layer)

    def add(self, layer: Any) -> None:
        """Add a layer on top; napari selects it."""
        with self.quietly():
            self._viewer.add_layer(layer)

    def insert(self, place: int, layer: Any) -> None:
        """Add a layer; the selected one stays selected."""
        selected = self.selected
        with self.quietly():
            self._viewer.layers.insert(place, layer)
            if selected is not None:
                self.select(selected)

    def insert_above(self, below: Any, layer: Any) -> None:
        """Add a layer right above another one; the selected one stays selected."""
        ids = [other.unique_id for other in self._viewer.layers]
        self.insert(ids.index(below.unique_id) + 1, layer)

    def remove(self, layer: Any) -> None:
        """Remove a layer, if it is there."""
        with self.quietly(), suppress(ValueError, KeyError):
            self._viewer.layers.remove(unwrapped(layer))
