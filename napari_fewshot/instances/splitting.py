"""From probabilities to objects: where there is anything, and a seeded watershed that tells apart what touches."""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi

from napari_fewshot.frames import Instances
from napari_fewshot.instances.hills import Hills, Relief
from napari_fewshot.instances.objects import EIGHT, without_small
from napari_fewshot.instances.scale import Scale

ReliefName = Literal["distance", "core", "both", "none"]
"""What hills are made of: the distance to the border, the probability of being core, the mean of both; or no hills, so
that what is connected is one object."""

_DEEP: Final = 1.5  # radii; deeper is no more inside


@dataclass(frozen=True)
class SplitSettings:
    """How objects are told apart. Lengths are in radii of the objects that were taught, areas in theirs."""

    relief: Annotated[ReliefName, "What hills are made of: distance, core, both, or none."] = "both"
    threshold: Annotated[float, "Probability from which on there is an object, between 0 and 1."] = 0.5
    smoothing: Annotated[float, "Standard deviation of the blur of the relief, in radii of an object."] = 0.2
    depth: Annotated[float, "How deep a valley parts two objects, as a share of a full hill."] = 0.1
    min_area: Annotated[float, "Objects smaller than this share of a usual one are left out."] = 0.1
    parts: Annotated[float, "How much cores and rims say of where objects are, beside classes; 0 to 1."] = 0.0

    def __post_init__(self) -> None:
        if self.relief not in ("distance", "core", "both", "none"):
            raise ValueError(f"relief is {self.relief!r}; use distance, core, both or none")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}; use a probability between 0 and 1")
        if not 0 <= self.parts <= 1:
            raise ValueError(f"parts is {self.parts}; use a share between 0 and 1")
        if min(self.smoothing, self.depth, self.min_area) < 0:
            raise ValueError("smoothing, depth and min_area must be 0 or more")


@dataclass(frozen=True, eq=False)
class Clues:
    """What is known of a frame before objects are told apart.

    Attributes
    ----------
    foreground
        (H, W) float32 probability that there is an object of any class that comes in objects.
    core
        (H, W) float32 probability that it is the inner part of one.
    parts
        (H, W) float32 probability that it is the inner part of one, or its rim: the foreground, learnt otherwise.
    """

    foreground: npt.NDArray[np.float32]
    core: npt.NDArray[np.float32]
    parts: npt.NDArray[np.float32]

    def at(self, scale: Scale) -> "Clues":
        """Return them at another scale."""
        return Clues(*(scale.reduced(each) for each in (self.foreground, self.core, self.parts)))


def filled(clues: Clues, threshold: float, parts: float = 0.0) -> npt.NDArray[np.bool_]:
    """Return where there is something (H, W), holes inside of it filled; ``parts`` as in `SplitSettings`."""
    there = clues.foreground if not parts else (1 - parts) * clues.foreground + parts * clues.parts
    return np.asarray(ndi.binary_fill_holes(there > threshold), bool)


def hills(clues: Clues, settings: SplitSettings, radius: float) -> Hills:
    """Return the hills of a frame: what `split` cuts.

    Parameters
    ----------
    clues
        At any scale.
    settings
        Depth and smallest area are not looked at.
    radius
        Of a usual object, in pixels of the clues.
    """
    mask = filled(clues, settings.threshold, settings.parts)
    if settings.relief == "none":
        ids, _ = ndi.label(mask, EIGHT)
        return Hills(ids.astype(np.int32), ())
    return Hills.of(_relief(clues, mask, settings, radius), mask)


def split(clues: Clues, settings: SplitSettings, radius: float) -> Instances:
    """Tell the objects of a frame apart.

    Parameters
    ----------
    clues
        Of every pixel.
    settings
        How.
    radius
        Of a usual object, in pixels.

    Returns
    -------
    Instances
        (H, W) int32, objects 1, 2, 3, ...
    """
    scale = Scale.for_radius(radius)
    ids = hills(clues.at(scale), settings, radius / scale.step).cut(settings.depth)
    ids = scale.restored(ids, filled(clues, settings.threshold, settings.parts))
    return without_small(in_one_piece(ids), settings.min_area * np.pi * radius**2)


def in_one_piece(ids: Instances) -> Instances:
    """Keep of every object its largest 8-connected piece, the first of those that are equally large."""
    kept = np.zeros_like(ids)
    for number, box in enumerate(ndi.find_objects(ids), start=1):
        if box is None:
            continue
        own = ids[box] == number
        pieces, count = ndi.label(own, EIGHT)
        if count > 1:
            own = pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()
        kept[box][own] = number
    return kept


def _relief(clues: Clues, mask: npt.NDArray[np.bool_], settings: SplitSettings, radius: float) -> Relief:
    relief = clues.core
    if settings.relief != "core":
        room = np.pad(mask, 1, mode="edge")  # what the edge of the image cuts goes on behind it
        distance = ndi.distance_transform_edt(room)[1:-1, 1:-1].astype(np.float32) / np.float32(radius)
        inside = np.minimum(distance, np.float32(_DEEP))
        relief = inside if settings.relief == "distance" else clues.core + inside / 2
    return np.asarray(ndi.gaussian_filter(relief, settings.smoothing * radius), np.float32)
