"""Keys that a person chose: remembered, never two alike, never those of napari."""

from collections.abc import Iterator

import pytest

from napari_fewshot.errors import SettingsError
from napari_fewshot.ui.actions import DEFAULT_KEYS, HINTS, TITLES, Action
from napari_fewshot.ui.keymap import KEYMAP, Keymap, on_button, with_key
from napari_fewshot.ui.preferences import Preferences, change_preferences, preferences_file, read_preferences


@pytest.fixture(autouse=True)
def _keys_as_they_come(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NAPARI_FEWSHOT_CONFIG", str(tmp_path_factory.mktemp("config")))
    KEYMAP.reset()
    yield
    KEYMAP.reset()


def test_every_action_has_a_title_a_hint_and_a_key_of_its_own() -> None:
    assert set(TITLES) == set(HINTS) == set(DEFAULT_KEYS) == set(Action)
    assert len(set(DEFAULT_KEYS.values())) == len(Action)


def test_a_changed_key_is_told_of_everywhere() -> None:
    told = []
    KEYMAP.changed.connect(lambda: told.append(KEYMAP[Action.TEACH]))
    KEYMAP.change(Action.TEACH, "Ctrl+F9")
    assert told == ["Ctrl+F9"]
    assert on_button(Action.TEACH) == "Teach this slice  [Ctrl+F9]"
    assert with_key(Action.TEACH) == "Teach this slice (Ctrl+F9)"
    KEYMAP.change(Action.TEACH, "")
    assert on_button(Action.TEACH) == with_key(Action.TEACH) == "Teach this slice"


@pytest.mark.parametrize("key", [DEFAULT_KEYS[Action.ACCEPT], "B"])
def test_a_key_that_belongs_to_something_else_is_refused(key: str) -> None:
    keymap = Keymap()
    with pytest.raises(SettingsError, match=r"'Accept'|napari"):
        keymap.change(Action.TEACH, key, {"B": "napari (brush)"})
    assert keymap[Action.TEACH] == DEFAULT_KEYS[Action.TEACH] and not keymap.chosen


def test_chosen_keys_outlive_the_program_and_take_precedence_over_those_that_come() -> None:
    KEYMAP.change(Action.TEACH, "F9")
    change_preferences(keys=KEYMAP.chosen)
    KEYMAP.reset()
    KEYMAP.use({**read_preferences().keys, "of_another_version": "F3", "reject": DEFAULT_KEYS[Action.ACCEPT]})
    assert KEYMAP[Action.TEACH] == "F9"
    assert KEYMAP[Action.REJECT] == DEFAULT_KEYS[Action.ACCEPT] and KEYMAP[Action.ACCEPT] == ""
    keys = [KEYMAP[action] for action in Action if KEYMAP[action]]
    assert len(set(keys)) == len(keys)


def test_what_another_window_chose_is_kept_when_this_one_chooses() -> None:
    change_preferences(memory_gib=1.5)
    change_preferences(advanced=True)
    assert read_preferences() == Preferences(memory_gib=1.5, advanced=True)


@pytest.mark.parametrize("content", ['{"keys": ["F9"]}', '{"keys": {"teach": 9}}', "[]", "{"])
def test_preferences_that_make_no_sense_are_the_defaults(content: str) -> None:
    preferences_file().parent.mkdir(parents=True, exist_ok=True)
    preferences_file().write_text(content)
    assert read_preferences() == Preferences()


def test_preferences_of_a_newer_version_are_read_as_far_as_they_are_known() -> None:
    preferences_file().parent.mkdir(parents=True, exist_ok=True)
    preferences_file().write_text('{"disk_gib": 7.0, "of_tomorrow": 1}')
    assert read_preferences() == Preferences(disk_gib=7.0)
