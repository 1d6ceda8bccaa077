"""Pixels of images that lie in no file: they are kept with the session."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from weakref import ref

import numpy as np
import numpy.typing as npt

from napari_fewshot.frames import Frame, FrameKey, image_name
from napari_fewshot.io.content_store import ContentStore
from napari_fewshot.session.contents import MissingImage, SessionContents

EMBEDDED_BYTES: Final = 1 << 30
"""Most that is kept of images that lie in no file, but for those of shots, which are always kept."""


@dataclass(frozen=True)
class _Embedded:
    """Pixels that are kept: of which frame, under what name, and how much they are."""

    frame: "ref[Frame]"
    name: str
    nbytes: int


class EmbeddedPixels:
    """Keeps the pixels of frames that lie in no file, each once.

    Parameters
    ----------
    store
        Where to.
    """

    def __init__(self, store: ContentStore) -> None:
        self._store = store
        self._kept: dict[FrameKey, _Embedded] = {}

    def remember(self, frames: Mapping[FrameKey, Frame], kept: Mapping[FrameKey, tuple[str, int]]) -> None:
        """Take note of what was read of the store: names of arrays, and how many bytes they are."""
        self._kept |= {key: _Embedded(ref(frames[key]), *told) for key, told in kept.items() if key in frames}

    def put(self, contents: SessionContents) -> dict[FrameKey, str]:
        """Keep pixels, and return the names of their arrays, by frame; those that cannot be had are not among them."""
        in_files = contents.places.keys() | contents.missing.keys()
        shots = {shot.key: shot.frame for shot in contents.state.support.shots}
        left, names = EMBEDDED_BYTES, {}
        for key, frame in contents.known_frames().items():
            if image_name(key) in in_files:
                continue
            taught = shots.get(key)
            source = frame if taught is None or isinstance(taught.image, MissingImage) else taught
            kept = self._put(key, source, None if taught is not None else left)
            if kept is None:
                continue
            if taught is None:
                if kept.nbytes > left:
                    continue
                left -= kept.nbytes
            names[key] = kept.name
        return names

    def _put(self, key: FrameKey, frame: Frame, most: int | None) -> _Embedded | None:
        kept = self._kept.get(key)
        if kept is None or kept.frame() is not frame:
            pixels = _pixels_of(frame)
            if pixels is None or (most is not None and pixels.nbytes > most):
                return None
            kept = self._kept[key] = _Embedded(ref(frame), self._store.put_pixels(pixels), pixels.nbytes)
        return kept


def _pixels_of(frame: Frame) -> npt.NDArray[Any] | None:
    """The pixels of a frame as they are, None where they cannot be had."""
    try:
        source = frame.image() if callable(frame.image) else frame.image
        whole = slice(0, source.shape[0]), slice(0, source.shape[1])
        pixels = np.asarray(source if isinstance(source, np.ndarray) else source[whole])
    except Exception:  # noqa: BLE001 - a layer that is gone, a graph of dask that fails: whatever may be behind it
        return None
    return pixels if pixels.dtype.kind in "uifb" else None
