"""The port for engines that know of each pixel to which others it belongs: vectors that are close within an object.

A network makes them, which is no business of this package; what becomes of them is `napari_fewshot.instances.growing`.
"""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from napari_fewshot.frames import Frame, Instances
from napari_fewshot.support import Shot

TAUS: Final = (0.25, 0.5, 0.75, 0.9)
"""Similarities from which on a pixel belongs to the mask that is grown from another one."""

Numbers = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Embedded:
    """What is known of N pixels of a frame.

    Attributes
    ----------
    vectors
        (N, D) float32. Two pixels are as similar as `napari_fewshot.instances.growing.similarity` says.
    goodness
        (N, T) float32 in [0, 1]: how probable it is that the mask that is grown from a pixel, at each of `TAUS`, is an
        object (seediness, before it is weighed with the class).
    """

    vectors: Numbers
    goodness: Numbers


class Embedder(Protocol):
    """What was learnt from the objects of some shots."""

    def at(self, frame: Frame, ys: npt.NDArray[np.intp], xs: npt.NDArray[np.intp]) -> Embedded:
        """Embed the pixels (ys, xs), (N,) each, of a frame."""
        ...


@dataclass(frozen=True, eq=False)
class NumberedShot:
    """A shot to learn an embedding from.

    Attributes
    ----------
    shot
        Its frame, and its labels: 255 where nobody said anything.
    ids
        (H, W) its objects, numbered 1, 2, 3, ...
    """

    shot: Shot
    ids: Instances


class EmbeddingModel(Protocol):
    """Learns to embed."""

    @property
    def key(self) -> str:
        """What identifies it: its name, with a hash of its weights where it begins with some."""
        ...

    def fit(self, shots: tuple[NumberedShot, ...], radius: float) -> Embedder:
        """Learn from the objects of shots; ``radius`` is that of a usual one, in pixels. Always the same."""
        ...
