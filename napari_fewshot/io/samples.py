"""Sample data that needs no download: two real images that come with scikit-image, and a synthetic stack.

`ihc_tiles`, `coins`, `synthetic_cells` and `numbered_cells` are what napari's File > Open Sample calls. The same images
as frames, for scripts and tests, come from `ihc_sample`, `coins_sample`, `cells_sample` and `numbered_sample`, together
with masks to compare with: true ones of the synthetic cells, ones computed by a classical rule for the two real images.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_fewshot.frames import Frame, FrameKey, Instances, Labels
from napari_fewshot.imaging.phantom import CELL, NUCLEUS, Phantom, touching_cells
from napari_fewshot.support import LabelClass, Shot

LayerData: TypeAlias = tuple[Any, dict[str, Any], str]
"""(data, attributes, layer type), as napari wants it."""

_TILES: Final = 3  # along each side of the immunohistochemistry picture
NUMBERED: Final = (1, 4, 7)
"""Slices of `numbered_cells` on which cells are numbered."""
_COIN_ROWS: Final = ((0, 82), (82, 151), (151, 226), (226, 303))
"""Where each row of coins begins and ends, in pixels."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Frames, and masks to teach with and to compare with.

    Attributes
    ----------
    name
        Short, without spaces.
    title
        For people.
    frames
        In the order of the stack.
    masks
        (H, W) int32 for each frame.
    masks_are_true
        Whether the masks are known to be right; otherwise they are computed by a rule that stands in for a person.
    rule
        Where the masks come from.
    classes
        What the masks hold.
    spacing
        Size of a voxel along z, y and x; None where unknown.
    unit
        Of ``spacing``.
    instances
        (H, W) int32 objects of each frame; empty where they are not told apart.
    """

    name: str
    title: str
    frames: tuple[Frame, ...]
    masks: dict[FrameKey, Labels]
    masks_are_true: bool
    rule: str
    classes: tuple[LabelClass, ...]
    spacing: tuple[float, float, float] | None = None
    unit: str | None = None
    instances: dict[FrameKey, Instances] = field(default_factory=dict)

    def shot(self, index: int) -> Shot:
        """Return a frame with its mask and its objects, as if somebody had painted it."""
        frame = self.frames[index]
        return Shot(frame, self.masks[frame.key], instances=self.instances.get(frame.key))


# ---------------------------------------------------------------------------- for napari
def ihc_tiles() -> list[LayerData]:
    """Open a tissue section, stained brown where the epithelium of glands is, as a stack of nine tiles.

    Returns
    -------
    list of LayerData
        One RGB image layer (9, 170, 170, 3) uint8.
    """
    attributes = {"name": "IHC tiles", "rgb": True, "axis_labels": ("tile", "y", "x")}
    return [(_ihc_stack(), attributes, "image")]


def coins() -> list[LayerData]:
    """Open a photograph of Greek coins as four images, one for each row of coins.

    Returns
    -------
    list of LayerData
        Four image layers (69..82, 384) uint8, placed one below the other.
    """
    return [
        (strip, {"name": f"coins {number}", "translate": (start + 8 * (number - 1), 0)}, "image")
        for number, (strip, (start, _)) in enumerate(zip(_coin_strips(), _COIN_ROWS, strict=True), start=1)
    ]


def synthetic_cells() -> list[LayerData]:
    """Open a simulated confocal stack of touching cells with nuclei, brighter near the surface.

    The true labels are left out so that there is something to paint; `synthetic_cells_with_truth` has them.

    Returns
    -------
    list of LayerData
        One image layer (12, 256, 256) uint16 with its voxel size.
    """
    return synthetic_cells_with_truth()[:1]


def synthetic_cells_with_truth(seed: int = 0) -> list[LayerData]:
    """Make the synthetic stack together with the labels that are really in it.

    Parameters
    ----------
    seed
        The same seed makes the same stack.

    Returns
    -------
    list of LayerData
        An image layer and a labels layer, 1 cell body and 2 nucleus.
    """
    phantom = touching_cells(seed=seed)
    return _layers_of(phantom, "cells", "truth", phantom.labels.astype(np.uint8))


def numbered_cells() -> list[LayerData]:
    """Open a simulated stack of touching cells that are numbered on three slices, to be told apart on all others.

    With *Separate touching objects* on, the dock takes the second layer for that of the objects: teach these slices.

    Returns
    -------
    list of LayerData
        An image layer (9, 192, 192) uint16 and a labels layer int32, 0 on all slices but `NUMBERED`.
    """
    phantom = _numbered_phantom()
    shown = np.zeros_like(phantom.instances, np.int32)
    shown[list(NUMBERED)] = phantom.instances[list(NUMBERED)]
    return _layers_of(phantom, "numbered cells", "objects", shown)


def _layers_of(phantom: Phantom, name: str, what: str, labels: npt.NDArray[Any]) -> list[LayerData]:
    """The image of a phantom, and labels (Z, Y, X) of it that are called ``NAME WHAT``."""
    place = {"scale": phantom.spacing, "units": ("um",) * 3, "axis_labels": ("z", "y", "x")}
    top = int(np.percentile(phantom.image, 99.9))
    return [
        (phantom.image, {"name": name, "contrast_limits": (0, top), **place}, "image"),
        (labels, {"name": f"{name} {what}", **place}, "labels"),
    ]


# ---------------------------------------------------------------------------- for scripts and tests
def ihc_sample() -> Sample:
    """Return the nine tiles with masks of the stained epithelium.

    The mask is a stand-in for what a person would paint: colour deconvolution [1]_, the DAB stain smoothed with
    sigma 3 px, Otsu's threshold over the whole picture, closed with a disk of 8 px because nuclei belong to the
    epithelium, without what is nearly white.

    References
    ----------
    .. [1] Ruifrok, Johnston: Quantification of histochemical staining by color deconvolution. 2001.
    """
    stack = _ihc_stack()
    masks = _tiles(_stained(_picture("immunohistochemistry")))
    frames = Frame.of_stack("IHC tiles", stack)
    return Sample(
        name="ihc_tiles",
        title="Immunohistochemistry tiles",
        frames=frames,
        masks={frame.key: mask for frame, mask in zip(frames, masks, strict=True)},
        masks_are_true=False,
        rule="colour deconvolution, DAB stain above Otsu's threshold",
        classes=(LabelClass(1, "epithelium", "#22d3ee"),),
    )


def coins_sample() -> Sample:
    """Return the four rows of coins with masks of the coins.

    The mask is a stand-in for what a person would paint: the watershed of the edges, from markers that are
    certainly dark or certainly bright, as in the scikit-image tutorial on segmenting coins.
    """
    picture = _picture("coins")
    mask = _bright_discs(picture)
    frames = tuple(Frame(f"coins {number}", strip) for number, strip in enumerate(_coin_strips(), start=1))
    return Sample(
        name="coins",
        title="Coins",
        frames=frames,
        masks={frame.key: mask[a:b] for frame, (a, b) in zip(frames, _COIN_ROWS, strict=True)},
        masks_are_true=False,
        rule="watershed of the edges",
        classes=(LabelClass(1, "coin"),),
    )


def cells_sample(seed: int = 0, make: Callable[..., Phantom] = touching_cells) -> Sample:
    """Return the slices of the synthetic stack with the labels that are really in them.

    Parameters
    ----------
    seed
        The same seed makes the same stack.
    make
        What makes the stack, called with ``seed``; for a smaller one use
        ``functools.partial(touching_cells, shape=(4, 96, 96))``.
    """
    phantom = make(seed=seed)
    classes = [LabelClass(CELL, "cell body", "#3182bd"), LabelClass(NUCLEUS, "nucleus", "#e6550d")]
    there = tuple(c for c in classes if (phantom.labels == c.id).any())
    return _sample_of(phantom, "cells", "synthetic_cells", "Synthetic stack of touching cells", there)


def numbered_sample(seed: int = 0, make: Callable[..., Phantom] | None = None) -> Sample:
    """Return the slices of the stack of `numbered_cells`, with the numbers that cells really have.

    Parameters
    ----------
    seed, make
        See `cells_sample`; by default it is the stack of `numbered_cells`.
    """
    phantom = (make or _numbered_phantom)(seed=seed)
    classes = (LabelClass(CELL, "cell", "#3182bd"),)
    sample = _sample_of(phantom, "numbered cells", "numbered_cells", "Synthetic stack of numbered cells", classes)
    numbered = zip(sample.frames, phantom.instances, strict=True)
    return replace(sample, instances={frame.key: ids.astype(np.int32) for frame, ids in numbered})


def _sample_of(phantom: Phantom, stack: str, name: str, title: str, classes: tuple[LabelClass, ...]) -> Sample:
    frames = Frame.of_stack(stack, phantom.image, phantom.spacing[1:], step=phantom.spacing[0])
    return Sample(
        name=name,
        title=title,
        frames=frames,
        masks={frame.key: mask for frame, mask in zip(frames, phantom.labels, strict=True)},
        masks_are_true=True,
        rule="known from the simulation",
        classes=classes,
        spacing=phantom.spacing,
        unit=phantom.unit,
    )


# ---------------------------------------------------------------------------- pixels
def _numbered_phantom(seed: int = 0) -> Phantom:
    return touching_cells((9, 192, 192), cells=40, nuclei=False, seed=seed)


def _picture(name: str) -> npt.NDArray[np.uint8]:
    """Read one of the pictures that lie inside the scikit-image wheel."""
    from skimage import data

    return np.asarray(getattr(data, name)(), np.uint8)


def _tiles(picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Cut (H, W, ...) into (9, H // 3, W // 3, ...), row by row; up to two pixels at the far edges are left out."""
    height, width = (side // _TILES for side in picture.shape[:2])
    corners = [(row * height, column * width) for row in range(_TILES) for column in range(_TILES)]
    return np.stack([picture[y : y + height, x : x + width] for y, x in corners])


def _ihc_stack() -> npt.NDArray[np.uint8]:
    return _tiles(_picture("immunohistochemistry"))


def _coin_strips() -> list[npt.NDArray[np.uint8]]:
    picture = _picture("coins")
    return [picture[start:end] for start, end in _COIN_ROWS]


# ---------------------------------------------------------------------------- stand-ins for a person
def _stained(picture: npt.NDArray[np.uint8]) -> Labels:
    from skimage.color import rgb2gray, rgb2hed
    from skimage.filters import gaussian, threshold_otsu
    from skimage.morphology import closing, disk

    stain = gaussian(rgb2hed(picture)[..., 2], 3)
    tissue = gaussian(rgb2gray(picture), 2) < 0.8  # the bright lumen of a gland is empty
    return _tidied(closing(stain > threshold_otsu(stain), disk(8)) & tissue, hole=300, speck=500)


def _bright_discs(picture: npt.NDArray[np.uint8]) -> Labels:
    from skimage.filters import sobel
    from skimage.segmentation import watershed

    markers = np.zeros(picture.shape, np.int32)
    markers[picture < 30] = 1
    markers[picture > 150] = 2
    return _tidied(watershed(sobel(picture), markers) == 2, hole=2000, speck=200)


def _tidied(mask: npt.NDArray[np.bool_], hole: int, speck: int) -> Labels:
    """Fill holes and leave out specks of fewer pixels than these."""
    from napari_fewshot.imaging.masks import drop_small

    background = drop_small((~mask).astype(np.int32), hole)
    return drop_small((background == 0).astype(np.int32), speck)
