"""What the manifest promises to napari is there."""

import inspect
from pathlib import Path

import pytest
from npe2 import PluginManifest
from npe2.manifest.utils import import_python_name

from napari_fewshot.session.head import HEAD

MANIFEST = PluginManifest.from_file(Path(__file__).parents[2] / "napari.yaml")
COMMANDS = {command.id: command.python_name for command in MANIFEST.contributions.commands or ()}


@pytest.mark.parametrize("name", COMMANDS.values())
def test_every_command_can_be_imported_and_called(name: str) -> None:
    assert callable(import_python_name(name))


def test_every_contribution_names_a_command() -> None:
    given = MANIFEST.contributions
    menus = [item for items in given.menus.values() for item in items]
    contributed = [*given.widgets, *given.readers, *given.writers, *given.sample_data, *menus]
    assert {item.command for item in contributed} == set(COMMANDS)


def test_the_dock_is_in_both_menus_of_layers_and_takes_the_viewer() -> None:
    widget = next(item for item in MANIFEST.contributions.widgets if item.command == "napari-fewshot.dock")
    for menu in ("napari/layers/segment", "napari/layers/annotate"):
        assert [item.command for item in MANIFEST.contributions.menus[menu]] == [widget.command]
    dock = import_python_name(COMMANDS[widget.command])
    assert inspect.isclass(dock)
    assert "napari_viewer" in inspect.signature(dock).parameters  # npe2 knows it by this name


def test_the_tour_is_beside_the_dock_in_the_menu_of_plugins() -> None:
    assert "napari-fewshot.tour" in {item.command for item in MANIFEST.contributions.widgets}
    assert "napari_viewer" in inspect.signature(import_python_name(COMMANDS["napari-fewshot.tour"])).parameters


def test_folders_and_heads_of_sessions_are_offered_to_their_reader() -> None:
    readers = [item for item in MANIFEST.contributions.readers if item.command == "napari-fewshot.read_session"]
    assert [(item.accepts_directories, item.filename_patterns) for item in readers] == [(True, [HEAD])]
