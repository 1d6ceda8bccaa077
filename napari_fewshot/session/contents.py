"""Everything about a session that is saved, as one frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import ImageError
from napari_fewshot.frames import Frame, FrameKey, image_name
from napari_fewshot.io.image_places import ImagePlace, KnownImage
from napari_fewshot.propagation import PropagationSettings
from napari_fewshot.segmenter import SegmenterSettings
from napari_fewshot.session.state import Effort, SessionState
from napari_fewshot.support import Shot, SupportSet, Tag


@dataclass(frozen=True, eq=False)
class SessionContents:
    """Everything about a session that is saved: a snapshot, safe to go through on any thread.

    Attributes
    ----------
    state
        Shots, tags, classes, proposals and decisions.
    frames
        All frames to label, in their order.
    settings, propagation
        Which segmenter, and how proposals are made.
    places
        Where images come from, by name; those that lie in no file are not in it.
    weights
        What identifies the weights that were used, by part: backbone, head, objects.
    missing
        Images that were not found, by name: their frames can be looked up but not read.
    painted
        (H, W) what is on a label layer of the dock: 0 where nothing is painted, 254 for painted background.
    effort
        What it took.
    linked
        Images whose objects have one number on all slices, or at all times, by name: a number that none of them had.
    """

    state: SessionState
    frames: Mapping[FrameKey, Frame]
    settings: SegmenterSettings = field(default_factory=SegmenterSettings)
    propagation: PropagationSettings = field(default_factory=PropagationSettings)
    places: Mapping[str, ImagePlace] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, KnownImage] = field(default_factory=dict)
    painted: Mapping[FrameKey, npt.NDArray[np.uint8]] = field(default_factory=dict)
    effort: Effort = field(default_factory=Effort)
    linked: Mapping[str, int] = field(default_factory=dict)

    def known_frames(self) -> dict[FrameKey, Frame]:
        """Return all frames about which anything is said: those to label, then others that were taught or tagged."""
        known = dict(self.frames)
        said: tuple[Shot | Tag, ...] = (*self.state.support.shots, *self.state.support.tags)
        for each in said:
            known.setdefault(each.key, each.frame)
        return known

    def renamed(self, names: Mapping[str, str]) -> "SessionContents":
        """Give images other names: the keys of all their frames begin with these from now on."""

        def new(key: FrameKey) -> FrameKey:
            name = names.get(image_name(key), image_name(key))
            return name if isinstance(key, str) else (name, *key[1:])

        def moved(by_key: Mapping[FrameKey, Any]) -> dict[FrameKey, Any]:
            return {new(key): value for key, value in by_key.items()}

        state = self.state
        shots = [replace(shot, frame=replace(shot.frame, key=new(shot.key))) for shot in state.support.shots]
        tags = [replace(tag, frame=replace(tag.frame, key=new(tag.key))) for tag in state.support.tags]
        return replace(
            self,
            state=SessionState(
                SupportSet(shots, state.support.classes, tags),
                moved(state.proposals),
                moved(state.accepted),
                frozenset(new(key) for key in state.rejected),
                moved(state.origins),
                frozenset(new(key) for key in state.aside),
                moved(state.objects),
            ),
            frames={new(key): replace(frame, key=new(key)) for key, frame in self.frames.items()},
            places={names.get(name, name): place for name, place in self.places.items()},
            missing={names.get(name, name): known for name, known in self.missing.items()},
            painted=moved(self.painted),
            linked={names.get(name, name): free for name, free in self.linked.items()},
        )


@dataclass(frozen=True)
class MissingImage:
    """Pixels that cannot be read, since their file was not found; stands in for them in a frame."""

    name: str
    path: str
    shape: tuple[int, ...]

    def __call__(self) -> Any:
        """Say that it is missing."""
        where = f"; it was at {self.path}" if self.path else ""
        raise ImageError(f"the image '{self.name}' was not found{where}: open it again, or tell where it is now")
