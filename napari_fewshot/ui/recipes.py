"""The recipe beside exported labels: what `napari-fewshot run` needs to do the same again. No Qt in here."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from napari_fewshot.batch.recipe import write_recipe
from napari_fewshot.batch.session_recipe import recipe_of
from napari_fewshot.errors import FewShotError
from napari_fewshot.session.contents import SessionContents
from napari_fewshot.ui.jobs import Written

FILE_NAME: Final = "session-recipe.json"
"""Another name than that of the recipe of a run, which may have filled the same folder."""


@dataclass(frozen=True)
class Told:
    """Something that a person should know."""

    text: str


def write_recipe_of(contents: SessionContents, folder: Path, format: str) -> Iterator[object]:
    """Write a recipe into a folder; where that is not possible, say why: the labels are written all the same."""
    if not contents.state.support.shots:
        return
    try:
        recipe, left_out = recipe_of(contents, folder, (format,))
        write_recipe(folder / FILE_NAME, recipe)
    except FewShotError as error:
        yield Told(f"Without a recipe: {error}")
        return
    yield from map(Told, left_out)
    yield Written(folder / FILE_NAME)
