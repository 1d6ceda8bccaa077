"""Shots that are painted across a stack, on a cut along z, and learnt from on the slices that it crosses."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import MaskError
from napari_fewshot.frames import Frame, FrameKey
from napari_fewshot.support import UNLABELLED, Shot, SupportSet


def shots_across(
    frames: Sequence[Frame],
    across: Literal["y", "x"],
    index: int,
    labels: npt.NDArray[np.integer[Any]],
    support: SupportSet | None = None,
) -> list[Shot]:
    """Turn what is painted on a cut through a stack into a partial shot on each slice that it crosses.

    A slice knows then of one row, or one column, of its pixels; that suffices for methods that learn from scribbles.

    Parameters
    ----------
    frames
        The slices, in their order.
    across
        The axis of the slices that the cut is at right angles to: "y" for a cut along x and z.
    index
        Where on that axis the cut is.
    labels
        (slices, W), or (slices, H) for a cut along y: 0 background, 1..254 classes, 255 not labelled.
    support
        What was taught before: what else is known of a slice stays known, and a slice of which every pixel is labelled
        stays as it is.

    Returns
    -------
    list of Shot
        One for each slice of which something is labelled on the cut, and something was unknown before.

    Raises
    ------
    MaskError
        If the labels do not fit the stack, or nothing is labelled.

    Examples
    --------
    >>> frames = Frame.of_stack("stack", np.zeros((3, 16, 20), np.uint8))
    >>> labels = np.full((3, 20), 255)
    >>> labels[1, :10], labels[1, 10:] = 1, 0
    >>> [shot.key for shot in shots_across(frames, "y", 7, labels)]
    [('stack', 1)]
    """
    painted = np.asarray(labels)
    earlier = {} if support is None else {shot.key: shot for shot in support}
    if painted.ndim != 2 or len(painted) != len(frames):
        raise MaskError(f"the cut is {painted.shape} but the stack has {len(frames)} slices; paint on the same stack")
    shots = [
        shot
        for frame, line in zip(frames, painted, strict=True)
        if (shot := _shot(frame, across, index, line, earlier)) is not None
    ]
    if not shots:
        raise MaskError("nothing new is painted on that cut; paint an example of what you look for, and background")
    return shots


def _shot(
    frame: Frame, across: str, index: int, line: npt.NDArray[np.integer[Any]], earlier: Mapping[FrameKey, Shot]
) -> Shot | None:
    if bool((line == UNLABELLED).all()):
        return None
    size, axis = frame.size or frame.open().size, "yx".index(across)
    if not 0 <= index < size[axis] or len(line) != size[1 - axis]:
        raise MaskError(
            f"a cut at {across} = {index} of {len(line)} pixels does not lie on '{frame.name}', which is {size}; "
            "paint on the same stack"
        )
    before = earlier.get(frame.key)
    known = np.full(size, UNLABELLED, np.int32) if before is None else before.said.copy()
    if not (known == UNLABELLED).any():
        return None
    cut = known[index] if axis == 0 else known[:, index]
    cut[line != UNLABELLED] = line[line != UNLABELLED]
    return Shot(frame, known)
