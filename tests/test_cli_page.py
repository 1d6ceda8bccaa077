"""The page on the command line: its commands run one after the other, and its tables are true."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.main import get_command
from typer.testing import CliRunner

from napari_fewshot import LabelClass, Session, Shot
from napari_fewshot.cli import app
from napari_fewshot.ui.recipes import write_recipe_of

PAGE = (Path(__file__).parents[1] / "docs/cli.md").read_text("utf-8")
VERBS = sorted(getattr(get_command(app), "commands", {}))


def test_every_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mask = np.zeros((48, 48), np.uint8)
    mask[10:30, 12:40] = 1
    for folder, names in (("scans", "abc"), ("new", "de"), ("painted/images", "a")):
        Path(folder).mkdir(parents=True)
        for number, name in enumerate(names):
            tifffile.imwrite(f"{folder}/{name}.tif", np.where(np.roll(mask, number, 0), 180, 30).astype(np.uint8))
    Path("painted/labels").mkdir()
    for path in ("a_mask.tif", "painted/labels/a.tif"):
        tifffile.imwrite(path, mask)
    session = Session(classes=[LabelClass(1, "cell")])
    keys = session.add_images(["scans/a.tif", "scans/b.tif"])
    session.teach(Shot(session.frame(keys[0]), mask.astype(np.int32)))
    session.save("my session")
    assert len(list(write_recipe_of(session.snapshot(), Path("exported"), "tiff"))) == 1
    commands = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    assert len(commands) >= 8
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "napari-fewshot"
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"{command}: {result.output}"
    np.testing.assert_array_equal(tifffile.imread("labels/a_labels.tif"), mask)
    assert Path("labels/c_labels.tif").read_bytes() == Path("labels-again/c_labels.tif").read_bytes()
    assert Path("labels/c_labels.tif").read_bytes() == Path("labels-2/c_labels.tif").read_bytes()
    assert Path("new-labels/e_labels.tif").is_file()
    for folder in ("labels-of-all", "labels-of-session"):
        assert Path("labels/b_labels.tif").read_bytes() == Path(folder, "b_labels.tif").read_bytes()
    assert Path("zarrs/b_labels.ome.zarr/labels").is_dir()


def test_every_verb_is_on_the_page() -> None:
    assert set(VERBS) <= set(re.findall(r"`(\w+)`", PAGE))


@pytest.mark.parametrize("verb", VERBS)
def test_help_says_what_every_option_of_a_verb_is_for(verb: str) -> None:
    command = get_command(app).commands[verb]  # type: ignore[attr-defined]
    assert command.help
    for each in [command, *getattr(command, "commands", {}).values()]:
        for parameter in each.params:
            assert getattr(parameter, "help", None), f"{verb} {parameter.name}"
