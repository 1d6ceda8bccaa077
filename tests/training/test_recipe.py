"""Recipes are read with care: what is wrong is told with what to write instead."""

from pathlib import Path

import pytest

from napari_fewshot.errors import SettingsError
from napari_fewshot.training.recipe import KINDS, find_recipe, list_recipes, read_recipe

STAGE = '[[stages]]\nkind = "distil"\nsteps = 10\n'


def write(folder: Path, text: str) -> Path:
    file = folder / "mine.toml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("name", list_recipes())
def test_recipes_of_the_package_are_sound_and_called_like_their_file(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name
    assert recipe.licence == "BSD-3-Clause"
    assert all(stage.kind in KINDS for stage in recipe.stages)


def test_a_recipe_says_what_to_do_and_the_rest_has_defaults(tmp_path: Path) -> None:
    recipe = read_recipe(
        write(tmp_path, f'name = "mine"\nseed = 3\n[pictures]\nreal = 1\nbundled = 0\n{STAGE}rate = 1\nsize = 64\n')
    )
    assert (recipe.name, recipe.seed, recipe.precision, recipe.pictures.real) == ("mine", 3, "32-true", 1.0)
    (stage,) = recipe.stages
    assert (stage.kind, stage.schedule.steps, stage.schedule.rate) == ("distil", 10, 1.0)
    assert (stage.settings.size, stage.settings.batch) == (64, 12)
    assert recipe.folder == tmp_path and "seed = 3" in recipe.text


def test_a_recipe_is_found_by_its_path(tmp_path: Path) -> None:
    assert find_recipe(str(write(tmp_path, f'name = "mine"\n{STAGE}'))).name == "mine"


def test_an_unknown_recipe_is_answered_with_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"no recipe 'nica'; choose one of: .*mica-v1.*path of a \.toml file"):
        find_recipe("nica")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name = ", "cannot be read as a recipe"),
        (STAGE, "the recipe lacks name; add a line 'name = ...'"),
        ('name = "mine"', r"there is no stage; add a table \[\[stages\]\]"),
        (f'name = "my weights"\n{STAGE}', "letters, digits and single hyphens"),
        (f'name = "mine"\nsede = 1\n{STAGE}', "the recipe has no sede; did you mean seed?"),
        (f'name = "mine"\nseed = "1"\n{STAGE}', "seed is '1'; give a whole number"),
        (f'name = "mine"\nseed = true\n{STAGE}', "seed is True; give a whole number"),
        (f'name = "mine"\nseed = -1\n{STAGE}', "seed is -1; give 0 or more"),
        (f'name = "mine"\nprecision = "half"\n{STAGE}', "no precision 'half'; choose one of: 32-true"),
        (f'name = "mine"\npictures = 3\n{STAGE}', r"\[pictures\] must be a table"),
        (f'name = "mine"\n[pictures]\nreal = 0.8\nbundled = 0.4\n{STAGE}', "add up to 1 at most"),
        (f'name = "mine"\n[pictures]\nworlds = 0\n{STAGE}', "without made pictures"),
        (f'name = "mine"\n[pictures]\nviews = 0\n{STAGE}', "views 0"),
        ('name = "mine"\nstages = 3', r"write \[\[stages\]\] above each"),
        ('name = "mine"\n[[stages]]\nsteps = 3', "stage 1 has the kind None; choose one of: distil"),
        ('name = "mine"\n[[stages]]\nkind = "distill"\nsteps = 3', "kind 'distill'; choose one of: distil"),
        ('name = "mine"\n[[stages]]\nkind = "distil"', r"stage 1 \(distil\) lacks steps"),
        (f'name = "mine"\n{STAGE}sise = 64', r"stage 1 \(distil\) has no sise; did you mean size"),
        (f'name = "mine"\n{STAGE}size = 1.5', "size is 1.5; give a whole number"),
        (f'name = "mine"\n{STAGE}size = 100', r"in stage 1 \(distil\), size is 100; give a multiple of 16"),
        (f'name = "mine"\n{STAGE}rate = 0.0', "give a rate above 0"),
        (f'name = "mine"\n{STAGE}{STAGE}batch = 0', r"in stage 2 \(distil\), batch is 0"),
        (f'name = "mine"\ntext = "x"\n{STAGE}', "the recipe has no text"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_told_with_its_file_and_a_remedy(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told) as failure:
        read_recipe(write(tmp_path, text))
    assert "mine.toml" in str(failure.value)
