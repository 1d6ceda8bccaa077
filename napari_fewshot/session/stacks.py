"""Along which axes the images of a session lie, whatever their files say of it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from napari_fewshot.frames import Frame, FrameKey, Stack, image_name

StackAxes = tuple[str, tuple[float | None, ...]]
"""Letters of the axes that images of a stack lie along, and the distances of two images along each."""


def axes_of(frames: Mapping[FrameKey, Frame]) -> dict[str, StackAxes]:
    """Return what axes the frames of each image lie along, as far as it is known."""
    return {
        image_name(key): (frame.stack.axes, frame.stack.steps)
        for key, frame in frames.items()
        if frame.stack is not None and frame.stack.axes
    }


def with_axes(frames: Mapping[FrameKey, Frame], axes: Mapping[str, StackAxes]) -> dict[FrameKey, Frame]:
    """Let the frames of images lie along these axes, whatever their files say: a person may have known better."""
    stacks: dict[str, Stack] = {}
    found = {}
    for key, frame in frames.items():
        name = image_name(key)
        if name in axes and not isinstance(key, str) and len(key) - 1 == len(axes[name][0]):
            letters, steps = axes[name]
            if frame.stack is None or frame.stack.axes != letters:
                if name not in stacks:
                    stacks[name] = (frame.stack or Stack(list)).with_axes(letters, steps)
                frame = replace(frame, stack=stacks[name])
        found[key] = frame
    return found


def stacked(frames: Mapping[FrameKey, Frame], together: set[FrameKey]) -> dict[FrameKey, Frame]:
    """Put frames that were taken together into their stacks again."""
    images: dict[str, list[Any]] = {}
    for key in frames:
        if key in together:
            images.setdefault(image_name(key), []).append(frames[key].image)
    stacks = {name: Stack.of(each) for name, each in images.items()}
    return {key: replace(f, stack=stacks[image_name(key)]) if key in together else f for key, f in frames.items()}
