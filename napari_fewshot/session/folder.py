"""A session on the disk, in a folder that survives whatever happens to the program; see docs/session-format.md."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any, Final
from weakref import ref

import numpy as np
import numpy.typing as npt

from napari_fewshot.errors import ExportError, FewShotError, ImageError, ReadError, SettingsError
from napari_fewshot.frames import Frame, FrameKey, Stack, frame_name, image_name
from napari_fewshot.io.atomic import replacing
from napari_fewshot.io.content_store import ContentStore
from napari_fewshot.io.image_places import Finder, ImagePlace, KnownImage, find_again, frames_at, known_image
from napari_fewshot.io.ome_zarr import is_url
from napari_fewshot.propagation import PropagationSettings
from napari_fewshot.segmenter import SegmenterSettings
from napari_fewshot.session.state import Effort, OpenProposal, SessionState
from napari_fewshot.support import LabelClass, Shot, SupportSet, Tag

HEAD: Final = "session.json"
PREVIOUS: Final = "session.previous.json"
FORMAT: Final = "napari-fewshot session"
VERSION: Final = 2
"""The newest that is read. Without objects 1 is written, which versions before this one read too."""
Watcher = Callable[[str, int, int], None]
"""Told what is read next: "labels" or "image", how many are read already, and of how many; may raise to end it."""
EMBEDDED_BYTES: Final = 1 << 30
"""Most that is kept of images that lie in no file, but for those of shots, which are always kept."""


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
        What identifies the weights that were used, by part: backbone, head.
    missing
        Images that were not found, by name: their frames can be looked up but not read.
    painted
        (H, W) what is on a label layer of the dock: 0 where nothing is painted, 254 for painted background.
    effort
        What it took.
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


class SessionFolder:
    """Writes a session into a folder again and again, each time only what changed, and reads it.

    A small file, `HEAD`, names all others, which are never written over: with the head replaced in one step, the folder
    holds the session as it was before or as it is now, whenever the program dies.

    Parameters
    ----------
    folder
        Need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self._store = ContentStore(self.folder / "data")
        self._written: bytes | None = None
        self._known: dict[ImagePlace, KnownImage] = {}
        self._embedded: dict[FrameKey, _Embedded] = {}
        self._busy = Lock()

    # ------------------------------------------------------------------ writing
    def write(self, contents: SessionContents, *, overwrite: bool = False) -> bool:
        """Save a session. Returns whether anything had changed.

        Parameters
        ----------
        contents
            What to save.
        overwrite
            Whether a session may be replaced that this object has neither written nor read.

        Raises
        ------
        ExportError
            If it cannot be written, or the folder holds a session of somebody else; what was there is untouched.
        """
        with self._busy:
            there = self._head_on_disk()
            if there is not None and there != self._written and not overwrite:
                raise ExportError(
                    f"'{self.folder}' holds another session, or another window has changed it; choose another folder"
                )
            head = self._head_of(contents)
            content = _sealed(head)
            if content == there:
                self._written = content
                return False
            if there is not None:
                _write(self.folder / PREVIOUS, there)
            _write(self.folder / HEAD, content)
            self._written = content
            self._store.keep_only({*_names_in(head), *_names_in(_loosely(there))})
            return True

    def _head_on_disk(self) -> bytes | None:
        try:
            return (self.folder / HEAD).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ExportError(
                f"'{self.folder}' cannot be looked into ({error.strerror}); choose another one"
            ) from error

    def _head_of(self, contents: SessionContents) -> dict[str, Any]:
        state = contents.state
        shots = {shot.key: shot for shot in state.support.shots}
        tags = {tag.key: tag for tag in state.support.tags}
        keys = dict.fromkeys((*contents.frames, *shots, *tags))
        embedding = _Embedding(self._store, contents, self._embedded)
        images = {name: self._known_image(place) for name, place in contents.places.items()}
        images |= contents.missing
        frames = [self._record(key, contents, shots.get(key), tags.get(key), embedding) for key in keys]
        return {
            "format": FORMAT,
            "version": VERSION if contents.settings.instances else _version_of(frames),
            "settings": _settings_out(contents.settings),
            "propagation": _propagation_out(contents.propagation),
            "weights": dict(contents.weights),
            "effort": asdict(contents.effort),
            "classes": [asdict(each) for each in state.support.classes],
            "taught": [_key_out(key) for key in shots],
            "images": [
                {"name": name, **asdict(known.place), **{k: v for k, v in asdict(known).items() if k != "place"}}
                for name, known in images.items()
            ],
            "stacks": [
                {"name": name, "axes": axes, "steps": list(steps)}
                for name, (axes, steps) in axes_of(contents.frames).items()
            ],
            "frames": frames,
        }

    def _known_image(self, place: ImagePlace) -> KnownImage:
        known = self._known.get(place)
        if known is None or not known.fingerprint:
            known = self._known[place] = known_image(place, self.folder)
        return known

    def _record(
        self, key: FrameKey, contents: SessionContents, shot: Shot | None, tag: Tag | None, embedding: "_Embedding"
    ) -> dict[str, Any]:
        state, put, put_objects = contents.state, self._store.put_labels, self._store.put_objects
        frame = contents.frames.get(key) or (shot.frame if shot is not None else tag.frame if tag is not None else None)
        assert frame is not None  # a key comes from one of them
        spacing = None if frame.spacing is None else list(frame.spacing)
        record: dict[str, Any] = {"key": _key_out(key), "shape": _shape_of(frame), "spacing": spacing}
        if key not in contents.frames:
            record["listed"] = False
        pixels = embedding.pixels(key, frame, shot)
        if pixels:
            record |= {"pixels": pixels, "stacked": frame.stack is not None}
        if shot is not None:
            record["shot"] = put(shot.labels)
            if shot.guessed is not None:
                record["guessed"] = put(shot.guessed)
            if shot.instances is not None:
                record["shot_objects"] = put_objects(shot.instances)
            if key in state.aside:
                record["aside"] = True
        if tag is not None:
            record["contains"] = list(tag.class_ids)
        waiting = state.proposals.get(key)
        if waiting is not None:
            record["proposal"] = {"labels": put(waiting.labels), "score": waiting.score, "note": waiting.note}
            if waiting.corrections is not None:
                record["proposal"]["corrections"] = put(waiting.corrections)
            if waiting.uncleaned is not None:
                record["proposal"]["uncleaned"] = put(waiting.uncleaned)
            if waiting.instances is not None:
                record["proposal"]["objects"] = put_objects(waiting.instances)
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

    # ------------------------------------------------------------------ reading
    def read(
        self, *, search: Iterable[Path] = (), find: Finder | None = None, with_pixels: bool = True,
        watch: Watcher = lambda what, done, total: None,
    ) -> SessionContents:  # fmt: skip
        """Read the session, all of it or nothing, and find its images.

        Parameters
        ----------
        search
            Folders in which images are looked for that are not where they were.
        find
            Asked for those that are found nowhere.
        with_pixels
            Whether images are opened; otherwise it is only looked where they are.
        watch
            Told how far it is; an exception of its own ends the reading, and nothing has happened.

        Raises
        ------
        ReadError
            If there is no session, it is damaged, or a newer version wrote it; then a copy of its head is made.
        """
        with self._busy:
            head_file = self.folder / HEAD
            try:
                content = head_file.read_bytes()
            except OSError as error:
                raise ReadError(
                    f"{self.folder} holds no session ({error.strerror}); choose the folder in which '{HEAD}' lies"
                ) from error
            try:
                contents = self._decoded(_opened(content), _Search(list(search), find, with_pixels), watch)
            except _NewerError as error:
                self._back_up(content)
                raise ReadError(
                    f"the session in {self.folder} was saved by a newer napari-fewshot (format {error}, this one reads "
                    f"{VERSION}); update napari-fewshot to open it. Nothing of it was changed"
                ) from error
            except _FAULTS as error:
                raise self._damaged(content, error) from error
            self._written = content
            return contents

    def _damaged(self, content: bytes, error: Exception) -> ReadError:
        backup = self._back_up(content)
        older = self.folder / PREVIOUS
        way_back = (
            f"; '{PREVIOUS}' beside it is the state one change before: rename it to '{HEAD}' to go on from there"
            if older.is_file()
            else ""
        )
        return ReadError(
            f"the session in {self.folder} is damaged ({_said(error)}) and was not opened; "
            f"{'a copy is in ' + repr(backup) if backup else 'nothing of it was changed'}{way_back}"
        )

    def _back_up(self, content: bytes) -> str:
        """Keep a copy of a head that was refused, so that nothing that is done next can lose it."""
        name = f"session.refused-{hashlib.blake2b(content, digest_size=4).hexdigest()}.json"
        with suppress(ExportError):
            if not (self.folder / name).exists():
                _write(self.folder / name, content)
            return name
        return ""

    def _decoded(self, head: dict[str, Any], search: "_Search", watch: Watcher) -> SessionContents:
        reading = _Reading(self._store, head, watch)  # checks everything before anything is looked for
        frames: dict[FrameKey, Frame] = {}
        places, missing = {}, {}
        for done, (name, known) in enumerate(reading.images.items()):
            watch("image", done, len(reading.images))
            found = self._found(name, known, reading.shapes_of(name), search)
            if found is None:
                missing[name] = known
            else:
                places[name] = found[0]
                frames.update(found[1])
        contents = reading.contents(frames, places, missing)
        for key, (pixels, nbytes) in reading.embedded.items():
            frame = contents.frames.get(key)
            if frame is not None:
                self._embedded[key] = _Embedded(ref(frame), pixels, nbytes)
        return contents

    def _found(
        self, name: str, known: KnownImage, shapes: Mapping[FrameKey, list[int]], search: "_Search"
    ) -> tuple[ImagePlace, dict[FrameKey, Frame]] | None:
        """Return where an image is, and its frames; None where it is nowhere, or another by now."""
        path = find_again(known, self.folder, search.folders)
        if path is None and search.ask is not None:
            told = search.ask(name, known)
            path = None if told is None else str(Path(told).expanduser().absolute())
        if path is None:
            return None
        place = replace(known.place, path=path)
        if not is_url(path) and Path(path).parent not in search.folders:
            search.folders.append(Path(path).parent)  # who moved one image moved others with it
        if not search.with_pixels:
            return place, {}
        frames = opened_frames(name, place, shapes)
        return (place, frames) if frames else None


def opened_frames(name: str, place: ImagePlace, shapes: Mapping[FrameKey, list[int]]) -> dict[FrameKey, Frame]:
    """Open an image and return its frames, none where it cannot be opened or they are not of these shapes."""
    with suppress(ReadError, SettingsError):
        frames = {frame.key: frame for frame in frames_at(place, name)}
        if all(key in frames and frames[key].size in (None, tuple(shape[:2])) for key, shape in shapes.items()):
            return frames
    return {}


@dataclass(frozen=True)
class _Search:
    """How images are looked for."""

    folders: list[Path]
    ask: Finder | None
    with_pixels: bool


_FAULTS: Final = (FewShotError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


_ARRAYS: Final[tuple[str, ...]] = (
    "shot", "shot_objects", "guessed", "accepted", "accepted_objects", "origins", "pixels", "painted",
)  # fmt: skip
"""Of a frame, beside its proposal."""
_OF_PROPOSAL: Final = ("corrections", "uncleaned", "objects")
"""Beside its labels."""
_OBJECTS: Final = {"shot_objects": "shot", "accepted_objects": "accepted", "objects": "proposal"}
"""Maps of objects, and the labels that they are about."""


class _NewerError(Exception):
    """Written by a newer version, whose number it names."""


def describe(folder: Path) -> dict[str, Any]:
    """Return what a session says of itself, with all checks made but without looking for its images.

    Raises
    ------
    ReadError
        As `SessionFolder.read`.
    """
    contents = SessionFolder(folder).read(with_pixels=False)
    state = contents.state
    states: dict[str, int] = {}
    for key in contents.frames:
        states[state.frame_state(key)] = states.get(state.frame_state(key), 0) + 1
    return {
        "folder": str(folder),
        "version": VERSION,
        "classes": [each.name for each in state.support.classes],
        "frames": len(contents.frames),
        "shots": len(state.support),
        "tags": len(state.support.tags),
        "proposals": len(state.proposals),
        "states": states,
        "images": {name: place.path for name, place in contents.places.items()},
        "missing": {name: known.place.path for name, known in contents.missing.items()},
        "settings": asdict(contents.settings),
        "weights": dict(contents.weights),
    }


@dataclass(frozen=True)
class _Embedded:
    """Pixels that are kept: of which frame, under what name, and how much they are."""

    frame: "ref[Frame]"
    name: str
    nbytes: int


class _Embedding:
    """Keeps the pixels of frames that lie in no file."""

    def __init__(self, store: ContentStore, contents: SessionContents, embedded: dict[FrameKey, _Embedded]) -> None:
        self._store, self._embedded, self._left = store, embedded, EMBEDDED_BYTES
        self._in_files = contents.places.keys() | contents.missing.keys()

    def pixels(self, key: FrameKey, frame: Frame, shot: Shot | None) -> str:
        """Name of the array with the pixels of a frame, "" where its image lies in a file or they cannot be had."""
        if image_name(key) in self._in_files:
            return ""
        frame = frame if shot is None or isinstance(shot.frame.image, MissingImage) else shot.frame
        known = self._embedded.get(key)
        if known is None or known.frame() is not frame:
            pixels = _pixels_of(frame)
            if pixels is None or (shot is None and pixels.nbytes > self._left):
                return ""
            known = self._embedded[key] = _Embedded(ref(frame), self._store.put_pixels(pixels), pixels.nbytes)
        if shot is None:
            self._left -= known.nbytes
        return known.name if self._left >= 0 else ""


def _pixels_of(frame: Frame) -> npt.NDArray[Any] | None:
    """The pixels of a frame as they are, None where they cannot be had."""
    try:
        source = frame.image() if callable(frame.image) else frame.image
        whole = slice(0, source.shape[0]), slice(0, source.shape[1])
        pixels = np.asarray(source if isinstance(source, np.ndarray) else source[whole])
    except Exception:  # noqa: BLE001 - a layer that is gone, a graph of dask that fails: whatever may be behind it
        return None
    return pixels if pixels.dtype.kind in "uifb" else None


class _Reading:
    """A head with everything that it names, checked."""

    def __init__(self, store: ContentStore, head: dict[str, Any], watch: Watcher) -> None:
        self._store = store
        self._settings = SegmenterSettings(**head["settings"])
        self._propagation = _propagation_in(head["propagation"])
        self._weights = {_text(k): _text(v) for k, v in head["weights"].items()}
        self._effort = _effort_in(head.get("effort", {}))
        self._classes = tuple(LabelClass(**each) for each in head["classes"])
        self._taught = [_key_in(key) for key in head["taught"]]
        self.images = {_text(each["name"]): _image_in(each) for each in head["images"]}
        self._axes = {_text(each["name"]): _axes_in(each) for each in head.get("stacks", [])}
        self._records = {_key_in(record["key"]): record for record in head["frames"]}
        self.embedded: dict[FrameKey, tuple[str, int]] = {}
        """Frames of which the pixels are kept: under what name, and how much they are."""
        if len(self._records) != len(head["frames"]):
            raise ValueError("a frame is named twice")
        self._arrays: dict[FrameKey, dict[str, Any]] = {}
        for key, record in self._records.items():
            watch("labels", len(self._arrays), len(self._records))
            self._arrays[key] = self._arrays_of(key, record)
        if {key for key, arrays in self._arrays.items() if "shot" in arrays} != set(self._taught):
            raise ValueError("shots are missing")

    def shapes_of(self, name: str) -> dict[FrameKey, list[int]]:
        """Frames of an image, with their shapes as far as they are known."""
        return {key: record["shape"] for key, record in self._records.items() if image_name(key) == name}

    def contents(
        self, found: Mapping[FrameKey, Frame], places: Mapping[str, ImagePlace], missing: Mapping[str, KnownImage]
    ) -> SessionContents:
        """Put everything together, with the images that were found."""
        frames = {key: self._frame(key, found) for key in self._records}
        frames = _stacked(frames, {key for key, record in self._records.items() if record.get("stacked")})
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
            state, listed, self._settings, self._propagation, places, self._weights, missing, painted, self._effort
        )

    def _frame(self, key: FrameKey, found: Mapping[FrameKey, Frame]) -> Frame:
        if key in found:
            return found[key]
        record, pixels = self._records[key], self._arrays[key].get("pixels")
        spacing = None if record["spacing"] is None else (float(record["spacing"][0]), float(record["spacing"][1]))
        if pixels is not None:
            return Frame(key, pixels, spacing)
        known = self.images.get(image_name(key))
        path = "" if known is None else known.place.path
        return Frame(key, MissingImage(frame_name(key), path, tuple(record["shape"])), spacing)

    def _proposal(self, key: FrameKey) -> OpenProposal:
        record, arrays = self._records[key]["proposal"], self._arrays[key]
        score = float(record["score"])
        if not 0 <= score <= 1:
            raise ValueError(f"a score is {score}")
        corrections, uncleaned = arrays.get("corrections"), arrays.get("uncleaned")
        note, ids = _text(record["note"]), arrays.get("objects")
        return OpenProposal(arrays["proposal"], score, 0, corrections, note, uncleaned, instances=ids)

    def _arrays_of(self, key: FrameKey, record: dict[str, Any]) -> dict[str, Any]:
        """Read every array of a frame; all are as large as each other."""
        names: dict[str, Any] = {name: record[name] for name in _ARRAYS if name in record}
        if "proposal" in record:
            names["proposal"] = record["proposal"]["labels"]
            names |= {name: record["proposal"][name] for name in _OF_PROPOSAL if name in record["proposal"]}
        arrays = {name: self._store.get(_text(stored)) for name, stored in names.items()}
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
            wanted = np.int32 if name in _OBJECTS else np.uint8
            if name != "pixels" and (array.ndim != 2 or array.dtype != wanted):
                raise ValueError(f"{name} of '{frame_name(key)}' is no label map")
        for name in _OBJECTS.keys() & arrays.keys():
            labels = arrays.get(_OBJECTS[name])
            if labels is None:
                raise ValueError(f"{name} of '{frame_name(key)}' are of nothing")
            Shot(
                Frame(key, MissingImage("", "", ())), labels, instances=arrays[name]
            )  # which says what does not go together
        return arrays


def _stacked(frames: Mapping[FrameKey, Frame], stacked: set[FrameKey]) -> dict[FrameKey, Frame]:
    """Put frames that were taken together into their stacks again."""
    images: dict[str, list[Any]] = {}
    for key in frames:
        if key in stacked:
            images.setdefault(image_name(key), []).append(frames[key].image)
    stacks = {name: Stack.of(each) for name, each in images.items()}
    return {key: replace(f, stack=stacks[image_name(key)]) if key in stacked else f for key, f in frames.items()}


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


def _axes_in(entry: dict[str, Any]) -> StackAxes:
    axes, steps = _text(entry["axes"]), tuple(None if step is None else float(step) for step in entry["steps"])
    if len(set(axes)) != len(axes) or not axes.isalpha() or len(steps) not in (0, len(axes)):
        raise ValueError(f"a stack cannot lie along '{axes}'")
    return axes, steps


def _sealed(head: dict[str, Any]) -> bytes:
    """The bytes of a head, with a digest by which damage is noticed."""
    return json.dumps({**head, "digest": _digest_of(head)}, ensure_ascii=False, indent=0).encode()


def _opened(content: bytes) -> dict[str, Any]:
    """The head of its bytes.

    Raises
    ------
    _NewerError
        If a newer version wrote it.
    ValueError
        If it is no head, or damaged.
    """
    head = json.loads(content)
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise ValueError(f"'{HEAD}' is no session")
    version = head.get("version")
    if not isinstance(version, int) or version < 1:
        raise ValueError("its version is not said")
    if version > VERSION:
        raise _NewerError(str(version))
    digest = head.pop("digest", "")
    if digest != _digest_of(head):
        raise ValueError("its checksum is another")
    return head


def _version_of(records: list[dict[str, Any]]) -> int:
    """The oldest version that reads these records whole."""
    told_apart = any(r.keys() & _OBJECTS.keys() or "objects" in r.get("proposal", {}) for r in records)
    return VERSION if told_apart else 1


def _digest_of(head: dict[str, Any]) -> str:
    canonical = json.dumps(head, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def _loosely(content: bytes | None) -> dict[str, Any]:
    """A head of which nothing is asked but what it names."""
    try:
        head = json.loads(content or b"{}")
    except ValueError:
        return {}
    return head if isinstance(head, dict) else {}


def _names_in(head: dict[str, Any]) -> set[str]:
    """Names of all arrays of a head."""
    names = set()
    for record in head.get("frames", ()):
        names |= {record[k] for k in _ARRAYS if k in record}
        names |= {v for k, v in record.get("proposal", {}).items() if k in ("labels", *_OF_PROPOSAL)}
    return names


def _settings_out(settings: SegmenterSettings) -> dict[str, Any]:
    """Settings as they are saved: that objects are told apart only where they are, so that older versions read it."""
    return {name: value for name, value in asdict(settings).items() if name != "instances" or value}


def _propagation_out(settings: PropagationSettings) -> dict[str, Any]:
    """Settings as they are saved: steps of clean-up only where they are taken, so that older versions read the rest."""
    always, told = ("skip_taught", "min_area"), asdict(settings)
    told["thresholds"] = {str(class_id): threshold for class_id, threshold in settings.thresholds.items()}
    defaults = asdict(PropagationSettings())
    return {name: value for name, value in told.items() if name in always or value != defaults[name]}


def _propagation_in(saved: dict[str, Any]) -> PropagationSettings:
    thresholds = {int(class_id): float(value) for class_id, value in saved.get("thresholds", {}).items()}
    return PropagationSettings(**{**saved, "thresholds": thresholds})


def _effort_in(saved: dict[str, Any]) -> Effort:
    effort = Effort(float(saved.get("seconds", 0)), int(saved.get("strokes", 0)), int(saved.get("clicks", 0)))
    if not (0 <= effort.seconds < float("inf") and effort.strokes >= 0 and effort.clicks >= 0):
        raise ValueError(f"it took {effort}")
    return effort


def _image_in(entry: dict[str, Any]) -> KnownImage:
    number, axis = entry["number"], entry["channel_axis"]
    if not isinstance(number, int) or not isinstance(axis, int | None) or not isinstance(entry["size"], int):
        raise ValueError("an image is described wrongly")
    place = ImagePlace(_text(entry["path"]), number, _text(entry["axes"]), _text(entry["reader"]), axis)
    return KnownImage(place, _text(entry["relative"]), _text(entry["fingerprint"]), entry["size"])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _key_out(key: FrameKey) -> str | list[str | int]:
    return key if isinstance(key, str) else [part if isinstance(part, str) else int(part) for part in key]


def _key_in(key: Any) -> FrameKey:
    if isinstance(key, str):
        return key
    if isinstance(key, list) and key and all(isinstance(part, str | int) for part in key):
        return tuple(key)
    raise TypeError(f"{key!r} names no frame")


def _shape_of(frame: Frame) -> list[int]:
    """(H, W) or (H, W, channels) as far as it is known without reading."""
    return [int(n) for n in getattr(frame.image, "shape", ())]


def _write(path: Path, content: bytes) -> None:
    with replacing(path, overwrite=True) as file:
        file.write(content)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if isinstance(error, LookupError | AttributeError) else str(error)
