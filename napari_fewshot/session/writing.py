"""From all that is saved of a session to its head, with every array in the store."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from napari_fewshot.frames import Frame, FrameKey
from napari_fewshot.io.content_store import ContentStore
from napari_fewshot.io.image_places import ImagePlace, KnownImage, known_image
from napari_fewshot.session.contents import SessionContents
from napari_fewshot.session.embedding import EmbeddedPixels
from napari_fewshot.session.entries import (
    axes_out,
    image_out,
    key_out,
    linked_out,
    propagation_out,
    settings_out,
    shape_out,
)
from napari_fewshot.session.head import FORMAT, VERSION, version_of
from napari_fewshot.session.stacks import axes_of
from napari_fewshot.session.state import OpenProposal
from napari_fewshot.support import Shot, Tag


class HeadWriter:
    """Makes the head of a session again and again, each time with only those arrays put that are new.

    Parameters
    ----------
    store
        Where arrays go.
    pixels
        Keeps those of images that lie in no file.
    folder
        Of the session: where images lie is also told as seen from it.
    """

    def __init__(self, store: ContentStore, pixels: EmbeddedPixels, folder: Path) -> None:
        self._store, self._pixels, self._folder = store, pixels, folder
        self._known: dict[ImagePlace, KnownImage] = {}

    def head_of(self, contents: SessionContents) -> dict[str, Any]:
        """Put all arrays into the store, and return what names them.

        Raises
        ------
        ExportError
            If one cannot be written.
        """
        support, pixels = contents.state.support, self._pixels.put(contents)
        images = {name: self._known_image(place) for name, place in contents.places.items()}
        images |= contents.missing
        taught = {tag.key: tag for tag in support.tags} | {shot.key: shot for shot in support.shots}
        frames = [
            self._record(key, frame, contents, taught.get(key), pixels.get(key, ""))
            for key, frame in contents.known_frames().items()
        ]
        return {
            "format": FORMAT,
            "version": VERSION if contents.settings.instances else version_of(frames),
            "settings": settings_out(contents.settings),
            "propagation": propagation_out(contents.propagation),
            "weights": dict(contents.weights),
            "effort": asdict(contents.effort),
            "classes": [asdict(each) for each in support.classes],
            "taught": [key_out(shot.key) for shot in support.shots],
            "images": [image_out(name, known) for name, known in images.items()],
            "stacks": [axes_out(name, axes) for name, axes in axes_of(contents.frames).items()],
            **({"linked": [linked_out(*each) for each in contents.linked.items()]} if contents.linked else {}),
            "frames": frames,
        }

    def _known_image(self, place: ImagePlace) -> KnownImage:
        known = self._known.get(place)
        if known is None or not known.fingerprint:
            known = self._known[place] = known_image(place, self._folder)
        return known

    def _record(
        self, key: FrameKey, frame: Frame, contents: SessionContents, taught: Shot | Tag | None, pixels: str
    ) -> dict[str, Any]:
        state, put, put_objects = contents.state, self._store.put_labels, self._store.put_objects
        spacing = None if frame.spacing is None else list(frame.spacing)
        record: dict[str, Any] = {"key": key_out(key), "shape": shape_out(frame), "spacing": spacing}
        if key not in contents.frames:
            record["listed"] = False
        if pixels:
            record |= {"pixels": pixels, "stacked": frame.stack is not None}
        if isinstance(taught, Shot):
            record |= self._of_shot(taught)
            if key in state.aside:
                record["aside"] = True
        elif taught is not None:
            record["contains"] = list(taught.class_ids)
        waiting = state.proposals.get(key)
        if waiting is not None:
            record["proposal"] = self._of_proposal(waiting)
        if key in state.accepted:
            record["accepted"] = put(state.accepted[key])
        if key in state.objects:
            record["accepted_objects"] = put_objects(state.objects[key])
        if key in state.origins:
            record["origins"] = put(state.origins[key])
        if key in state.rejected:
            record["rejected"] = True
        if key in contents.painted:
            record["painted"] = put(contents.painted[key])
        return record

    def _of_shot(self, shot: Shot) -> dict[str, Any]:
        record = {"shot": self._store.put_labels(shot.labels)}
        if shot.guessed is not None:
            record["guessed"] = self._store.put_labels(shot.guessed)
        if shot.instances is not None:
            record["shot_objects"] = self._store.put_objects(shot.instances)
        return record

    def _of_proposal(self, waiting: OpenProposal) -> dict[str, Any]:
        put = self._store.put_labels
        record: dict[str, Any] = {"labels": put(waiting.labels), "score": waiting.score, "note": waiting.note}
        if waiting.corrections is not None:
            record["corrections"] = put(waiting.corrections)
        if waiting.uncleaned is not None:
            record["uncleaned"] = put(waiting.uncleaned)
        if waiting.instances is not None:
            record["objects"] = self._store.put_objects(waiting.instances)
        return record
