"""Recipes: what is trained, on what, in which stages; TOML files, checked when they are read.

The package brings its own in ``training/recipes/``.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar, get_type_hints

from napari_fewshot.errors import SettingsError
from napari_fewshot.training import distillation, episodes, heads, objects
from napari_fewshot.training.loop import Schedule
from napari_fewshot.training.products import Product
from napari_fewshot.training.stages import StageKind

KINDS: Final[Mapping[str, StageKind]] = {
    "distil": distillation.KIND,
    "episodes": episodes.KIND,
    "head": heads.KIND,
    "objects": objects.KIND,
}
"""Kinds of stages that a recipe may have."""

PRECISIONS: Final = ("32-true", "bf16-mixed", "16-mixed")
"""Names that Lightning Fabric gives to what numbers are computed in; mixed: weights stay in single precision."""

_FOLDER: Final = Path(__file__).parent / "recipes"
_NAME: Final = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*")
_Built = TypeVar("_Built")


@dataclass(frozen=True)
class PictureSettings:
    """Which pictures are drawn how often.

    Attributes
    ----------
    real
        Share of draws of the data sets, all alike.
    bundled
        Share of scikit-image's own images. Made pictures get the rest.
    worlds, views
        How many made worlds, and pictures of each.
    data
        Folder of the data sets, seen from the recipe's; "" where it is named when training begins.

    Raises
    ------
    SettingsError
        If a number makes no sense.
    """

    real: float = 0.4
    bundled: float = 0.3
    worlds: int = 150
    views: int = 2
    data: str = ""

    def __post_init__(self) -> None:
        if self.real < 0 or self.bundled < 0 or self.real + self.bundled > 1:
            raise SettingsError(
                f"real is {self.real} and bundled {self.bundled}; give shares of 0 or more that add up to 1 at most"
            )
        if self.worlds < 0 or self.views < 1:
            raise SettingsError(f"worlds is {self.worlds} and views {self.views}; give 0 or more, and 1 or more")
        if not self.worlds and self.real + self.bundled < 1:
            raise SettingsError("without made pictures (worlds = 0) give shares real and bundled that add up to 1")


@dataclass(frozen=True)
class Stage:
    """One stage of a recipe.

    Attributes
    ----------
    kind
        One of `KINDS`.
    schedule
        How long and how fast to learn.
    settings
        What the kind wants to know beside it.
    """

    kind: str
    schedule: Schedule
    settings: Any


@dataclass(frozen=True)
class Recipe:
    """What is trained, on what, in which stages.

    Attributes
    ----------
    name
        Of the weights that come out: letters, digits and hyphens.
    stages
        In this order; each begins with the result of the one before.
    pictures
        What is trained on.
    seed
        Of everything that is drawn.
    precision
        One of `PRECISIONS`.
    licence
        Of the weights, for their card.
    text
        The file that it was read from, as it is.
    folder
        Where that lies.
    """

    name: str
    stages: tuple[Stage, ...]
    pictures: PictureSettings = PictureSettings()
    seed: int = 1
    precision: str = "32-true"
    licence: str = "not stated"
    text: str = field(default="", repr=False)
    folder: Path = Path()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SettingsError(f"name is '{self.name}'; use letters, digits and single hyphens, such as mica-v1")
        if self.precision not in PRECISIONS:
            raise SettingsError(f"there is no precision '{self.precision}'; choose one of: {', '.join(PRECISIONS)}")
        if self.seed < 0:
            raise SettingsError(f"seed is {self.seed}; give 0 or more")
        if not self.stages:
            raise SettingsError("there is no stage; add a table [[stages]] with a kind and a number of steps")
        if any(KINDS[stage.kind].product is not self.product for stage in self.stages):
            raise SettingsError("stages make different things, a backbone and a head; write a recipe for each")

    @property
    def product(self) -> Product:
        """What comes out."""
        return KINDS[self.stages[-1].kind].product


def list_recipes() -> tuple[str, ...]:
    """Return the names of the recipes that come with the package."""
    return tuple(sorted(file.stem for file in _FOLDER.glob("*.toml")))


def find_recipe(name: str) -> Recipe:
    """Read a recipe of the package by its name, or any other by its path (``*.toml``).

    Raises
    ------
    SettingsError
        If there is none, or it is wrong; the message says where and what to write instead.
    """
    file = Path(name) if name.endswith(".toml") else _FOLDER / f"{name}.toml"
    if not file.is_file():
        raise SettingsError(
            f"there is no recipe '{name}'; choose one of: {', '.join(list_recipes())}; or give the path of a .toml file"
        )
    return read_recipe(file)


def read_recipe(file: Path) -> Recipe:
    """Read a recipe from a TOML file.

    Raises
    ------
    SettingsError
        As `find_recipe`.
    """
    try:
        text = file.read_text("utf-8")
        tables = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{file} cannot be read as a recipe: {error}") from error
    try:
        stages = tables.pop("stages", [])
        if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
            raise SettingsError("stages must be tables: write [[stages]] above each")
        pictures = _build(PictureSettings, tables.pop("pictures", {}), "[pictures]")
        read = tuple(_stage(stage, f"stage {number}") for number, stage in enumerate(stages, 1))
        given = {"stages": read, "pictures": pictures, "text": text, "folder": file.parent}
        return _build(Recipe, tables, "the recipe", given)
    except SettingsError as error:
        raise SettingsError(f"{file}: {error}") from error


def _stage(table: dict[str, Any], where: str) -> Stage:
    kind = table.pop("kind", None)
    if kind not in KINDS:
        raise SettingsError(f"{where} has the kind {kind!r}; choose one of: {', '.join(KINDS)}")
    where = f"{where} ({kind})"
    own = {f.name for f in fields(KINDS[kind].settings)}
    plan = {f.name for f in fields(Schedule)}
    _refuse_unknown(table, own | plan, where)
    schedule = _build(Schedule, {k: v for k, v in table.items() if k in plan}, where)
    return Stage(kind, schedule, _build(KINDS[kind].settings, {k: v for k, v in table.items() if k in own}, where))


def _build(made: type[_Built], table: Any, where: str, given: Mapping[str, Any] | None = None) -> _Built:
    """Make a dataclass of a table, checking names and types; ``given`` are fields that no table may name."""
    given = given or {}
    if not isinstance(table, dict):
        raise SettingsError(f"{where} must be a table, not {table!r}")
    known = {f.name: f for f in fields(made) if f.name not in given}  # type: ignore[arg-type]
    _refuse_unknown(table, set(known), where)
    missing = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING and n not in table]
    if missing:
        raise SettingsError(f"{where} lacks {missing[0]}; add a line '{missing[0]} = ...'")
    types = get_type_hints(made)
    values = {name: _as(types[name], value, name, where) for name, value in table.items()}
    try:
        return made(**values, **given)
    except SettingsError as error:
        raise SettingsError(f"in {where}, {error}") from error


def _refuse_unknown(table: Mapping[str, Any], known: set[str], where: str) -> None:
    for name in table:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"it may have: {', '.join(sorted(known))}"
            raise SettingsError(f"{where} has no {name}; {hint}")


def _as(kind: Any, value: Any, name: str, where: str) -> Any:
    """Check the type of a value; whole numbers are fine where others are wanted."""
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        wanted = {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false"}
        raise SettingsError(f"in {where}, {name} is {value!r}; give {wanted.get(kind, 'another value')}")
    return value
