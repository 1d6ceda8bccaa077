"""Tidying what was proposed: what is sure enough, smooth outlines, no holes, no specks, touching things apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.measure import label as connected_components

from napari_fewshot.frames import Labels
from napari_fewshot.imaging.masks import drop_small
from napari_fewshot.label_values import BACKGROUND, MAX_CLASSES, UNLABELLED

_ROWS: Final = 512
"""That are worked on at once where a step needs much memory for each pixel."""
_REACH: Final = 3.0
"""Of the Gaussian, in standard deviations."""


@dataclass(frozen=True, kw_only=True)
class CleanUp:
    """How proposals are tidied; the steps are taken in the order of these fields, and by default there is none.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> CleanUp(min_area=20, max_hole=50).does_nothing
    False
    """

    thresholds: Annotated[
        Mapping[int, float],
        "Class id -> how probable the class must be, in (0, 1]; below 0.5 more becomes this class than was proposed.",
    ] = field(default_factory=dict)
    smooth: Annotated[float, "Outlines are smoothed over about this many pixels; 0 leaves them as they are."] = 0.0
    max_hole: Annotated[int, "Holes inside an object with up to this many pixels are filled; 0 fills none."] = 0
    split_neck: Annotated[
        float, "Touching objects are cut apart where they are narrower than beside by this many pixels; 0 cuts nowhere."
    ] = 0.0
    min_area: Annotated[int, "Objects with fewer pixels than this are left out of proposals."] = 0
    largest_only: Annotated[bool, "Of each class only the largest object of a slice is kept."] = False

    def __post_init__(self) -> None:
        for name, value, unit in (
            ("min_area", self.min_area, " pixels"),
            ("max_hole", self.max_hole, " pixels"),
            ("smooth", self.smooth, " pixels"),
            ("split_neck", self.split_neck, " pixels"),
        ):
            if not 0 <= value < np.inf:
                raise ValueError(f"{name} is {value}{unit}; use 0 or more")
        thresholds = {int(c): float(t) for c, t in sorted(self.thresholds.items())}
        for class_id, threshold in thresholds.items():
            if not 1 <= class_id <= MAX_CLASSES:
                raise ValueError(f"thresholds names the class {class_id}; use ids from 1 to {MAX_CLASSES}")
            if not 0 < threshold <= 1:
                raise ValueError(f"the threshold of class {class_id} is {threshold}; use more than 0, up to 1")
        object.__setattr__(self, "thresholds", thresholds)

    @property
    def does_nothing(self) -> bool:
        """Whether every proposal stays as it is."""
        shapes = self.smooth or self.max_hole or self.split_neck or self.min_area > 1 or self.largest_only
        return not (self.thresholds or shapes)

    @property
    def steps(self) -> "CleanUp":
        """These steps alone, where other settings come with them."""
        return CleanUp(**{each.name: getattr(self, each.name) for each in fields(CleanUp)})


def clean_up(labels: Labels, steps: CleanUp) -> Labels:
    """Tidy a label map: all steps but thresholds, see `above_thresholds`.

    Parameters
    ----------
    labels
        (H, W), 0 background.
    steps
        What to do.

    Returns
    -------
    Labels
        (H, W); ``labels`` itself where there is nothing to do.
    """
    if steps.smooth:
        labels = smooth_outlines(labels, steps.smooth)
    if steps.max_hole:
        labels = fill_holes(labels, steps.max_hole)
    if steps.split_neck:
        labels = split_touching(labels, steps.split_neck)
    labels = drop_small(labels, steps.min_area)
    return keep_largest(labels) if steps.largest_only else labels


def above_thresholds(
    labels: Labels, probabilities: npt.NDArray[Any], label_ids: Sequence[int], thresholds: Mapping[int, float]
) -> Labels:
    """Give each pixel the most probable class that is probable enough, background where none is.

    A class without a threshold stays where it was proposed.

    Parameters
    ----------
    labels
        (H, W) as proposed.
    probabilities
        (1 + C, H, W) of background and the classes: floating-point numbers in [0, 1], or whole ones of which the
        largest of their type is certain. May lie in a file: it is read some rows at a time.
    label_ids
        Background (0) and the C classes, in the order of ``probabilities``.
    thresholds
        Class id -> in (0, 1]; classes that are not among the labels are left aside.

    Returns
    -------
    Labels
        (H, W), ``labels`` itself where no threshold is about a class of it.
    """
    asked = {c: t for c, t in thresholds.items() if c in label_ids}
    if not asked:
        return labels
    top = float(np.iinfo(probabilities.dtype).max) if probabilities.dtype.kind in "ui" else 1.0
    chosen = np.empty(labels.shape, np.int32)
    for begin in range(0, len(labels), _ROWS):
        rows = slice(begin, begin + _ROWS)
        best = np.zeros(labels[rows].shape, np.float32)
        winner = np.zeros(labels[rows].shape, np.int32)
        for plane, class_id in zip(probabilities, label_ids, strict=True):
            if class_id == BACKGROUND:
                continue
            sure = plane[rows].astype(np.float32) / top
            threshold = asked.get(class_id)
            candidate = labels[rows] == class_id if threshold is None else sure >= threshold
            better = candidate & (sure > best)
            np.copyto(best, sure, where=better)
            np.copyto(winner, class_id, where=better)
        chosen[rows] = winner
    return chosen


def smooth_outlines(labels: Labels, pixels: float) -> Labels:
    """Smooth outlines: each pixel becomes what most of its neighbourhood is, weighed by a Gaussian.

    All classes and the background compete, so that no gap opens between neighbours.

    Parameters
    ----------
    labels
        (H, W), 0 background.
    pixels
        Standard deviation of the Gaussian.
    """
    ids = np.unique(labels)
    if pixels <= 0 or len(ids) < 2:
        return labels
    smoothed = np.empty_like(labels)
    halo = int(np.ceil(_REACH * pixels)) + 1
    for begin in range(0, len(labels), _ROWS):
        first, last = max(0, begin - halo), min(len(labels), begin + _ROWS + halo)
        own = slice(begin - first, begin - first + _ROWS)
        around = labels[first:last]
        most = np.full(around[own].shape, -1, np.float32)
        winner = np.zeros(around[own].shape, labels.dtype)
        for value in ids:
            share = ndimage.gaussian_filter((around == value).astype(np.float32), pixels, truncate=_REACH)[own]
            # at a draw a pixel stays what it is
            better = (share > most + 1e-6) | ((share > most - 1e-6) & (around[own] == value))
            np.copyto(most, share, where=better)
            np.copyto(winner, value, where=better)
        smoothed[begin : begin + _ROWS] = winner
    return smoothed


def fill_holes(labels: Labels, max_hole: int) -> Labels:
    """Fill background that a single class encloses.

    A hole is 4-connected, does not reach the border of the image, and touches one class only.

    Parameters
    ----------
    labels
        (H, W), 0 background.
    max_hole
        Largest hole that is filled, in pixels.
    """
    if max_hole < 1:
        return labels
    holes = connected_components(labels == BACKGROUND, connectivity=1)
    count = int(holes.max()) + 1
    areas = np.bincount(holes.ravel(), minlength=count)
    least, most = np.full(count, UNLABELLED), np.zeros(count, np.int64)
    for here, beside in _neighbours(holes, labels):
        enclosed = (here > 0) & (beside != BACKGROUND)
        np.minimum.at(least, here[enclosed], beside[enclosed])
        np.maximum.at(most, here[enclosed], beside[enclosed])
    filled = (areas <= max_hole) & (least == most)
    filled[0] = False
    filled[np.unique(np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]]))] = False
    return np.where(filled[holes], most[holes], labels).astype(np.int32)


def _neighbours(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Values of one map beside values of another, in the four directions."""
    return [(a[1:], b[:-1]), (a[:-1], b[1:]), (a[:, 1:], b[:, :-1]), (a[:, :-1], b[:, 1:])]


def split_touching(labels: Labels, neck: float) -> Labels:
    """Cut objects of one class apart where they are narrow, by a line of background one pixel wide.

    Watershed on the distance to the outline (Vincent and Soille 1991), from those of its maxima that stand out.

    Parameters
    ----------
    labels
        (H, W), 0 background.
    neck
        How many pixels narrower than the narrower of both parts the place between them must be.
    """
    from skimage.morphology import local_maxima, reconstruction  # slow to import, and the dock opens without
    from skimage.segmentation import watershed

    split = labels
    for class_id in np.unique(labels):
        inside = labels == class_id
        if class_id == BACKGROUND or neck <= 0:
            continue
        depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]  # beyond the image is outside
        # h-maxima (Soille 2003, section 6.3.4); a width is twice the distance
        levelled = reconstruction(depth - neck / 2, depth)
        centres = connected_components(local_maxima(levelled) & inside & (levelled > 0), connectivity=2)
        parts = watershed(-depth, centres, mask=inside, watershed_line=True)
        split = np.where(inside & (parts == 0) & _has_centre(inside, centres), BACKGROUND, split)
    return split.astype(np.int32)


def _has_centre(inside: npt.NDArray[np.bool_], centres: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether each pixel is of an object that has a centre: one that is narrow all over has none, and stays whole."""
    objects = connected_components(inside, connectivity=1)
    with_centre = np.zeros(int(objects.max()) + 1, bool)
    with_centre[objects[centres > 0]] = True
    with_centre[0] = False
    has_one: npt.NDArray[np.bool_] = with_centre[objects]
    return has_one


def keep_largest(labels: Labels) -> Labels:
    """Keep the largest object (8-connected) of each class; of equally large ones the first from the top."""
    objects = connected_components(labels, background=BACKGROUND, connectivity=2)
    areas = np.bincount(objects.ravel())
    classes = np.zeros(len(areas), np.int64)
    classes[objects.ravel()] = labels.ravel()
    kept = np.zeros(len(areas), bool)
    for class_id in np.unique(classes[1:]):
        kept[int(np.argmax(np.where(classes == class_id, areas, -1)))] = True
    kept[0] = False
    return np.where(kept[objects], labels, BACKGROUND).astype(np.int32)
