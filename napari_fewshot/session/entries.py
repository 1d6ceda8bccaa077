"""Settings, images and keys as they stand in the head of a session: there, and checked on the way back."""

from dataclasses import asdict
from typing import Any

from napari_fewshot.frames import Frame, FrameKey
from napari_fewshot.io.image_places import ImagePlace, KnownImage
from napari_fewshot.propagation import PropagationSettings
from napari_fewshot.segmenter import SegmenterSettings
from napari_fewshot.session.stacks import StackAxes
from napari_fewshot.session.state import Effort


def settings_out(settings: SegmenterSettings) -> dict[str, Any]:
    """Settings as they are saved: that objects are told apart only where they are, so that older versions read it."""
    return {name: value for name, value in asdict(settings).items() if name != "instances" or value}


def propagation_out(settings: PropagationSettings) -> dict[str, Any]:
    """Settings as they are saved: steps of clean-up only where they are taken, so that older versions read the rest."""
    always, told = ("skip_taught", "min_area"), asdict(settings)
    told["thresholds"] = {str(class_id): threshold for class_id, threshold in settings.thresholds.items()}
    defaults = asdict(PropagationSettings())
    return {name: value for name, value in told.items() if name in always or value != defaults[name]}


def propagation_in(saved: dict[str, Any]) -> PropagationSettings:
    """Settings of how proposals are made."""
    thresholds = {int(class_id): float(value) for class_id, value in saved.get("thresholds", {}).items()}
    return PropagationSettings(**{**saved, "thresholds": thresholds})


def effort_in(saved: dict[str, Any]) -> Effort:
    """What it took."""
    effort = Effort(float(saved.get("seconds", 0)), int(saved.get("strokes", 0)), int(saved.get("clicks", 0)))
    if not (0 <= effort.seconds < float("inf") and effort.strokes >= 0 and effort.clicks >= 0):
        raise ValueError(f"it took {effort}")
    return effort


def image_out(name: str, known: KnownImage) -> dict[str, Any]:
    """Where an image lies, and by what it is known again."""
    return {"name": name, **asdict(known.place), **{k: v for k, v in asdict(known).items() if k != "place"}}


def image_in(entry: dict[str, Any]) -> KnownImage:
    """The same, from what `image_out` made of it."""
    number, axis = entry["number"], entry["channel_axis"]
    if not isinstance(number, int) or not isinstance(axis, int | None) or not isinstance(entry["size"], int):
        raise ValueError("an image is described wrongly")
    place = ImagePlace(text_in(entry["path"]), number, text_in(entry["axes"]), text_in(entry["reader"]), axis)
    return KnownImage(place, text_in(entry["relative"]), text_in(entry["fingerprint"]), entry["size"])


def axes_out(name: str, axes: StackAxes) -> dict[str, Any]:
    """Along which axes an image lies."""
    return {"name": name, "axes": axes[0], "steps": list(axes[1])}


def axes_in(entry: dict[str, Any]) -> StackAxes:
    """The same, from what `axes_out` made of it."""
    axes, steps = text_in(entry["axes"]), tuple(None if step is None else float(step) for step in entry["steps"])
    if len(set(axes)) != len(axes) or not axes.isalpha() or len(steps) not in (0, len(axes)):
        raise ValueError(f"a stack cannot lie along '{axes}'")
    return axes, steps


def linked_out(name: str, free: int) -> dict[str, Any]:
    """Which image is linked, and a number that no object on it has had."""
    return {"name": name, "free": int(free)}


def linked_in(entry: dict[str, Any]) -> int:
    """The number, from what `linked_out` made of it."""
    free = entry["free"]
    if isinstance(free, bool) or not isinstance(free, int) or not 1 <= free < 2**31:
        raise ValueError(f"objects cannot have the number {free!r}")
    return free


def key_out(key: FrameKey) -> str | list[str | int]:
    """A key, in numbers of Python."""
    return key if isinstance(key, str) else [part if isinstance(part, str) else int(part) for part in key]


def key_in(key: Any) -> FrameKey:
    """The same, from what `key_out` made of it."""
    if isinstance(key, str):
        return key
    if isinstance(key, list) and key and all(isinstance(part, str | int) for part in key):
        return tuple(key)
    raise TypeError(f"{key!r} names no frame")


def shape_out(frame: Frame) -> list[int]:
    """(H, W) or (H, W, channels) as far as it is known without reading."""
    return [int(n) for n in getattr(frame.image, "shape", ())]


def text_in(value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
