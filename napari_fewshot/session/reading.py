"""From the head of a session to all that was saved: everything is checked before anything is made of it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from napari_fewshot.frames import Frame, FrameKey, frame_name, image_name
from napari_fewshot.io.content_store import ContentStore
from napari_fewshot.io.image_places import ImagePlace, KnownImage
from napari_fewshot.segmenter import SegmenterSettings
from napari_fewshot.session.contents import MissingImage, SessionContents
from napari_fewshot.session.entries import axes_in, effort_in, image_in, key_in, linked_in, propagation_in, text_in
from napari_fewshot.session.finding import ImageSearch
from napari_fewshot.session.head import ARRAYS, OBJECTS, OF_PROPOSAL
from napari_fewshot.session.stacks import stacked, with_axes
from napari_fewshot.session.state import OpenProposal, SessionState
from napari_fewshot.support import LabelClass, Shot, SupportSet, Tag

Watcher = Callable[[str, int, int], None]
"""Told what is read next: "labels" or "image", how many are read already, and of how many; may raise to end it."""


class HeadReader:
    """A head with everything that it names, checked.

    Parameters
    ----------
    store
        Where arrays are.
    head
        See `napari_fewshot.session.head.opened`.
    watch
        Told how far it is.
    """

    def __init__(self, store: ContentStore, head: dict[str, Any], watch: Watcher) -> None:
        self._store = store
        self._settings = SegmenterSettings(**head["settings"])
        self._propagation = propagation_in(head["propagation"])
        self._weights = {text_in(k): text_in(v) for k, v in head["weights"].items()}
        self._effort = effort_in(head.get("effort", {}))
        self._classes = tuple(LabelClass(**each) for each in head["classes"])
        self._taught = [key_in(key) for key in head["taught"]]
        self._images = {text_in(each["name"]): image_in(each) for each in head["images"]}
        self._axes = {text_in(each["name"]): axes_in(each) for each in head.get("stacks", [])}
        self._linked = {text_in(each["name"]): linked_in(each) for each in head.get("linked", [])}
        self._records = {key_in(record["key"]): record for record in head["frames"]}
        self.embedded: dict[FrameKey, tuple[str, int]] = {}
        """Frames of which the pixels are kept: under what name, and how much they are."""
        if len(self._records) != len(head["frames"]):
            raise ValueError("a frame is named twice")
        if not self._linked.keys() <= set(map(image_name, self._records)):
            raise ValueError("an image is linked that is not there")
        self._arrays: dict[FrameKey, dict[str, Any]] = {}
        for key, record in self._records.items():
            watch("labels", len(self._arrays), len(self._records))
            self._arrays[key] = self._arrays_of(key, record)
        if {key for key, arrays in self._arrays.items() if "shot" in arrays} != set(self._taught):
            raise ValueError("shots are missing")

    def contents(self, search: ImageSearch, watch: Watcher) -> SessionContents:
        """Look for the images, and put everything together."""
        found: dict[FrameKey, Frame] = {}
        places, missing = {}, {}
        for done, (name, known) in enumerate(self._images.items()):
            watch("image", done, len(self._images))
            shapes = {key: record["shape"] for key, record in self._records.items() if image_name(key) == name}
            there = search.find(name, known, shapes)
            if there is None:
                missing[name] = known
            else:
                places[name] = there[0]
                found.update(there[1])
        return self._contents(found, places, missing)

    def _contents(
        self, found: Mapping[FrameKey, Frame], places: Mapping[str, ImagePlace], missing: Mapping[str, KnownImage]
    ) -> SessionContents:
        frames = {key: self._frame(key, found) for key in self._records}
        frames = stacked(frames, {key for key, record in self._records.items() if record.get("stacked")})
        frames = with_axes(frames, self._axes)
        arrays = self._arrays
        shots = []
        for key in self._taught:
            shot = Shot(frames[key], arrays[key]["shot"], arrays[key].get("guessed"), arrays[key].get("shot_objects"))
            self._store.same(shot.labels, self._records[key]["shot"])
            if shot.instances is not None:
                self._store.same(shot.instances, self._records[key]["shot_objects"])
            shots.append(shot)
        tags = [Tag(frames[key], tuple(r["contains"])) for key, r in self._records.items() if "contains" in r]
        state = SessionState(
            SupportSet(shots, self._classes, tags),
            {key: self._proposal(key) for key in arrays if "proposal" in self._records[key]},
            {key: self._arrays[key]["accepted"] for key, named in arrays.items() if "accepted" in named},
            frozenset(key for key, record in self._records.items() if record.get("rejected")),
            {key: named["origins"] for key, named in arrays.items() if "origins" in named},
            frozenset(key for key in self._taught if self._records[key].get("aside")),
            {key: named["accepted_objects"] for key, named in arrays.items() if "accepted_objects" in named},
        )
        listed = {key: frames[key] for key, record in self._records.items() if record.get("listed", True)}
        painted = {key: named["painted"] for key, named in arrays.items() if "painted" in named}
        return SessionContents(
            state, listed, self._settings, self._propagation, places, self._weights, missing, painted, self._effort,
            self._linked,
        )  # fmt: skip

    def _frame(self, key: FrameKey, found: Mapping[FrameKey, Frame]) -> Frame:
        if key in found:
            return found[key]
        record, pixels = self._records[key], self._arrays[key].get("pixels")
        spacing = None if record["spacing"] is None else (float(record["spacing"][0]), float(record["spacing"][1]))
        if pixels is not None:
            return Frame(key, pixels, spacing)
        known = self._images.get(image_name(key))
        path = "" if known is None else known.place.path
        return Frame(key, MissingImage(frame_name(key), path, tuple(record["shape"])), spacing)

    def _proposal(self, key: FrameKey) -> OpenProposal:
        record, arrays = self._records[key]["proposal"], self._arrays[key]
        score = float(record["score"])
        if not 0 <= score <= 1:
            raise ValueError(f"a score is {score}")
        corrections, uncleaned = arrays.get("corrections"), arrays.get("uncleaned")
        note, ids = text_in(record["note"]), arrays.get("objects")
        return OpenProposal(arrays["proposal"], score, 0, corrections, note, uncleaned, instances=ids)

    def _arrays_of(self, key: FrameKey, record: dict[str, Any]) -> dict[str, Any]:
        """Read every array of a frame; all are as large as each other."""
        names: dict[str, Any] = {name: record[name] for name in ARRAYS if name in record}
        if "proposal" in record:
            names["proposal"] = record["proposal"]["labels"]
            names |= {name: record["proposal"][name] for name in OF_PROPOSAL if name in record["proposal"]}
        arrays = {name: self._store.get(text_in(stored)) for name, stored in names.items()}
        shapes = {array.shape[:2] for array in arrays.values()}
        if "pixels" in arrays:
            self.embedded[key] = names["pixels"], arrays["pixels"].nbytes
        if record["shape"]:
            shapes.add(tuple(map(int, record["shape"][:2])))
        if len(shapes) > 1:
            raise ValueError(f"what is kept of '{frame_name(key)}' has the sizes {sorted(shapes)}")
        if "accepted" in arrays and "origins" not in arrays:
            raise ValueError(f"it is not said who labelled '{frame_name(key)}'")
        for name, array in arrays.items():
            wanted = np.int32 if name in OBJECTS else np.uint8
            if name != "pixels" and (array.ndim != 2 or array.dtype != wanted):
                raise ValueError(f"{name} of '{frame_name(key)}' is no label map")
        for name in OBJECTS.keys() & arrays.keys():
            labels = arrays.get(OBJECTS[name])
            if labels is None:
                raise ValueError(f"{name} of '{frame_name(key)}' are of nothing")
            nowhere = Frame(key, MissingImage("", "", ()))
            Shot(nowhere, labels, instances=arrays[name])  # which says what does not go together
        return arrays
