"""Shots and tags on images that were missing: they get their pixels once the image is there."""

from collections.abc import Mapping
from dataclasses import replace

from napari_fewshot.frames import Frame, FrameKey
from napari_fewshot.session.contents import MissingImage
from napari_fewshot.session.state import SessionState, fits
from napari_fewshot.support import Shot, SupportSet, Tag


def found_pixels(support: SupportSet, frames: Mapping[FrameKey, Frame]) -> dict[FrameKey, Frame]:
    """Return those of the frames that were taught or tagged while their pixels were missing."""
    taught: tuple[Shot | Tag, ...] = (*support.shots, *support.tags)
    found = {}
    for each in taught:
        frame = frames.get(each.key)
        if frame is None or isinstance(frame.image, MissingImage) or not isinstance(each.frame.image, MissingImage):
            continue
        if not isinstance(each, Shot) or fits(frame, each.labels):
            found[each.key] = frame
    return found


def with_pixels(state: SessionState, frames: Mapping[FrameKey, Frame]) -> SessionState:
    """Let shots and tags be of these frames, where they are about one of them."""
    support = state.support
    shots = [replace(shot, frame=frames[shot.key]) if shot.key in frames else shot for shot in support.shots]
    tags = [replace(tag, frame=frames[tag.key]) if tag.key in frames else tag for tag in support.tags]
    return replace(state, support=SupportSet(shots, support.classes, tags))
