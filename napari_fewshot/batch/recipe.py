"""A recipe: all that a propagation from files to files depends on, in a small JSON file that repeats it."""

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import napari_fewshot
from napari_fewshot.errors import FewShotError, ReadError, SettingsError
from napari_fewshot.imaging.cleanup import CleanUp
from napari_fewshot.io.atomic import replacing
from napari_fewshot.io.formats import label_format
from napari_fewshot.io.label_stack import Position
from napari_fewshot.segmenter import SegmenterSettings
from napari_fewshot.support import LabelClass
from napari_fewshot.volumes.settings import VolumeSettings

FILE_NAME: Final = "recipe.json"
"""Of the recipe in the folder of the results."""

_FORMAT: Final = 1
_SECOND: Final = 2
"""Format of a recipe with tags or objects, which programs that know only the first would leave out without a word."""

_LARGEST: Final = 2**26  # bytes; a file that is longer is something else
_LIBRARIES: Final = ("numpy", "scikit-image", "scipy", "torch")  # what labels are computed with


@dataclass(frozen=True)
class ShotFiles:
    """An image and its mask, or a stack and its masks, to learn from.

    Attributes
    ----------
    image, mask
        Paths, or URLs.
    digests
        Of the shots that are in them, image and mask; () while nobody has read them.
    positions
        Which slices of a stack were painted; () for those with any label.
    instances
        Path of a map of the size of the mask that numbers objects; "" where the mask says all.
    """

    image: str
    mask: str
    digests: tuple[str, ...] = ()
    positions: tuple[Position, ...] = ()
    instances: str = ""


@dataclass(frozen=True)
class TagFile:
    """An image, or a slice of a stack, of which it is known only what it contains.

    Attributes
    ----------
    image
        Path, or URL.
    class_ids
        What it contains.
    position
        Of the slice; () for an image that is no stack.
    digest
        See `Tag.digest`; "" while nobody has read it.
    """

    image: str
    class_ids: tuple[int, ...]
    position: Position = ()
    digest: str = ""


@dataclass(frozen=True)
class Recipe:
    """What to propagate onto what, and how.

    Attributes
    ----------
    images
        Files, folders, patterns and URLs, as `find_images` takes them.
    shots
        What to learn from.
    segmenter
        Method, backbone and device.
    classes
        Names and colours; by default those that the masks tell.
    formats
        Of the labels to write, names of `LABEL_FORMATS`.
    min_area
        Objects of fewer pixels are left out.
    axes
        Of the images, where they do not say; "" where they do.
    objects
        Whether masks number objects of one class.
    seed, threads
        See `fix_chance`.
    clean_up
        What else proposals are tidied by; its ``min_area`` says nothing.
    volume
        What proposals take from the slices around them.
    weights
        What the segmenter computes with, hashes included; {} before it was loaded.
    inputs
        Hash of the names of all images; "" before they were looked for.
    versions
        Of this package and of what it computes with.
    tags
        What some images are only said to contain, for methods that learn from that as well.

    Raises
    ------
    SettingsError
        If something of it makes no sense.
    """

    images: tuple[str, ...]
    shots: tuple[ShotFiles, ...]
    segmenter: SegmenterSettings = field(default_factory=SegmenterSettings)
    classes: tuple[LabelClass, ...] = ()
    formats: tuple[str, ...] = ("tiff",)
    min_area: int = 0
    axes: str = ""
    objects: bool = False
    seed: int = 0
    threads: int = 0
    clean_up: CleanUp = field(default_factory=CleanUp)
    volume: VolumeSettings = field(default_factory=VolumeSettings)
    weights: Mapping[str, str] = field(default_factory=dict)
    inputs: str = ""
    versions: Mapping[str, str] = field(default_factory=lambda: installed())
    tags: tuple[TagFile, ...] = ()

    def __post_init__(self) -> None:
        if not self.images:
            raise SettingsError("there is no image to propose for; name files, folders or patterns")
        if not self.shots:
            raise SettingsError("there is nothing to learn from; name an image and its mask with --shot IMAGE MASK")
        if not self.formats or len(set(self.formats)) != len(self.formats):
            raise SettingsError("name at least one format, and none twice")
        for name in self.formats:
            label_format(name)
        if self.segmenter.instances and "png" in self.formats:
            raise SettingsError("numbers of objects do not fit into indexed PNG; choose tiff, ome-zarr or nifti")
        for name, value in (("min_area", self.min_area), ("seed", self.seed), ("threads", self.threads)):
            if value < 0:
                raise SettingsError(f"{name} is {value}; use 0 or more")

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that labels depend on, beside the list of images; a resumed run must agree in it."""
        return {
            "method": self.segmenter.method,
            "weights": dict(self.weights),
            "shots": sorted({digest for shot in self.shots for digest in shot.digests}),
            **({"instances": True} if self.segmenter.instances else {}),
            **({"tags": sorted(tag.digest for tag in self.tags)} if self.tags else {}),
            "classes": [asdict(each) for each in self.classes],
            "formats": list(self.formats),
            "min_area": self.min_area,
            "axes": self.axes,
            "seed": self.seed,
            "threads": self.threads,
            **({} if self.clean_up == CleanUp() else {"clean_up": _steps(self.clean_up)}),
            **({"volume": asdict(self.volume)} if self.volume.are_used else {}),
        }

    def on(self, images: Iterable[str]) -> "Recipe":
        """Do the same with other images."""
        return replace(self, images=tuple(images), inputs="")


def installed() -> dict[str, str]:
    """Tell the versions of this package, of Python and of what labels are computed with."""
    found = {"napari-fewshot": napari_fewshot.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # put there in another way
            found[name] = "unknown"
    return found | {"platform": f"{platform.system()} {platform.machine()}"}


def digest_of_names(names: Iterable[str]) -> str:
    """Hash names, in their order (BLAKE2b, 128 bits)."""
    digest = hashlib.blake2b(digest_size=16)
    for name in names:
        digest.update(json.dumps(name).encode() + b"\n")
    return digest.hexdigest()


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Write a recipe, completely or not at all; an older one is replaced.

    Raises
    ------
    ExportError
        If it cannot be written.
    """
    told = {
        "napari-fewshot recipe": _SECOND if recipe.tags or recipe.segmenter.instances else _FORMAT,
        **asdict(recipe),
        "clean_up": _steps(recipe.clean_up),
    }
    with replacing(path, overwrite=True) as file:
        file.write(json.dumps(told, indent=1, ensure_ascii=False).encode() + b"\n")


def read_recipe(path: Path) -> Recipe:
    """Read a recipe; nothing in it is believed unseen.

    Raises
    ------
    ReadError
        If it is missing, or is none.
    """
    path = path / FILE_NAME if path.is_dir() else path
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("it is too long")
        told = json.loads(path.read_text("utf-8"))
        if told.pop("napari-fewshot recipe") not in (_FORMAT, _SECOND):
            raise ValueError("another version of this program wrote it")
        return _recipe(told)
    except FileNotFoundError as error:
        raise ReadError(f"{path} is not there; name the {FILE_NAME} of an earlier run, or its folder") from error
    except OSError as error:
        raise ReadError(f"{path} cannot be read: {error.strerror or error}; check its permissions") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, FewShotError) as error:
        raise ReadError(f"{path} is no recipe of napari-fewshot ({error}); name the {FILE_NAME} of a run") from error


def _recipe(told: dict[str, Any]) -> Recipe:
    for name, kind in (("axes", str), ("inputs", str), ("objects", bool), ("min_area", int), ("seed", int)):
        if not isinstance(told[name], kind):
            raise ValueError(f"{name} is {told[name]!r}")
    method, backbone, device = _texts(told["segmenter"][name] for name in ("method", "backbone", "device"))
    return Recipe(
        images=_texts(told["images"]),
        shots=tuple(_shot(each) for each in told["shots"]),
        segmenter=SegmenterSettings(method, backbone, device, told["segmenter"].get("instances") is True),
        classes=tuple(LabelClass(int(c["id"]), *_texts([c["name"], c["colour"]])) for c in told["classes"]),
        formats=_texts(told["formats"]),
        min_area=told["min_area"],
        axes=told["axes"],
        objects=told["objects"],
        seed=told["seed"],
        threads=int(told["threads"]),
        clean_up=CleanUp(**told.get("clean_up", {})),
        volume=VolumeSettings(**told.get("volume", {})),
        weights=dict(zip(told["weights"], _texts(told["weights"].values()), strict=True)),
        inputs=told["inputs"],
        tags=tuple(_tag(each) for each in told.get("tags", ())),
        versions=dict(zip(told["versions"], _texts(told["versions"].values()), strict=True)),
    )


def _shot(told: dict[str, Any]) -> ShotFiles:
    image, mask = _texts([told["image"], told["mask"]])
    positions = tuple(tuple(int(i) for i in position) for position in told.get("positions", ()))
    (instances,) = _texts([told.get("instances", "")])
    return ShotFiles(image, mask, _texts(told["digests"]), positions, instances)


def _tag(told: dict[str, Any]) -> TagFile:
    image, digest = _texts([told["image"], told["digest"]])
    return TagFile(image, tuple(map(int, told["class_ids"])), tuple(map(int, told["position"])), digest)


def _steps(clean_up: CleanUp) -> dict[str, Any]:
    """As JSON takes it, and gives it back: names of thresholds are texts."""
    return asdict(clean_up) | {"thresholds": {str(c): t for c, t in clean_up.thresholds.items()}}


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise ValueError(f"{values!r} is not a list")
    texts = tuple(values)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{texts!r} are not texts")
    return texts
