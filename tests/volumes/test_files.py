"""Stacks in files, from the shell."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner, Result

from napari_fewshot.batch.recipe import read_recipe
from napari_fewshot.cli import app
from napari_fewshot.volumes.settings import VolumeSettings
from tests.fakes import BrightnessSegmenter
from tests.volumes.test_consistency import SLICES, Tube

TUBE = Tube.noisy()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stack, and the mask of its middle slice."""
    tifffile.imwrite(
        tmp_path / "tube.tif", TUBE.images, imagej=True, resolution=(1.0, 1.0), metadata={"axes": "ZYX", "spacing": 4.0}
    )
    mask = np.zeros_like(TUBE.images)
    mask[4] = TUBE.labels[4]
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    monkeypatch.setattr("napari_fewshot.models.load_segmenter", lambda *_, **__: BrightnessSegmenter())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _propagate(out: str, *more: str) -> Result:
    arguments = ["propagate", "tube.tif", "--shot", "tube.tif", "mask.tif", "--out", out, *more]
    return CliRunner().invoke(app, arguments)


def _labels(out: str) -> np.ndarray:
    return tifffile.imread(Path(out) / "tube_labels.tif")


def _iou(labels: np.ndarray) -> float:
    return TUBE.iou({("tube", z): labels[z] for z in range(SLICES) if z != 4})


def test_slices_decide_together_and_the_recipe_repeats_it(folder: Path) -> None:
    for out, more in (("alone", ()), ("together", ("--consistent-along", "z"))):
        result = _propagate(out, *more)
        assert result.exit_code == 0, result.output
    assert _iou(_labels("together")) > _iou(_labels("alone")) + 0.1
    np.testing.assert_array_equal(_labels("together")[4], TUBE.labels[4])
    again = CliRunner().invoke(app, ["run", "together", "--out", "again"])
    assert again.exit_code == 0, again.output
    np.testing.assert_array_equal(_labels("again"), _labels("together"))
    assert read_recipe(Path("again")).volume == VolumeSettings("z")


def test_a_run_that_was_stopped_goes_on_with_the_same_result(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _propagate("whole", "--consistent-along", "z").exit_code == 0
    asked = []

    def stop(self: object, key: object) -> None:
        asked.append(key)
        if len(asked) == 6:  # two slices are done by then
            raise KeyboardInterrupt

    monkeypatch.setattr(BrightnessSegmenter, "on_tile", stop)
    assert _propagate("stopped", "--consistent-along", "z").exit_code != 0
    monkeypatch.setattr(BrightnessSegmenter, "on_tile", lambda *_: None)
    result = _propagate("stopped", "--consistent-along", "z", "--resume")
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(_labels("stopped"), _labels("whole"))
    assert _propagate("stopped", "--consistent-along", "z", "--fill-gaps", "1", "--resume").exit_code == 2


def test_slices_out_of_the_range_are_left_out_but_for_what_was_painted(folder: Path) -> None:
    result = _propagate("some", "--consistent-along", "z", "--slices", "5:7", "--min-extent", "2", "--interpolate")
    assert result.exit_code == 0, result.output
    labels = _labels("some")
    assert [bool(each.any()) for each in labels] == [z in (4, 5, 6, 7) for z in range(SLICES)]
    with open("some/frames.csv", encoding="utf-8") as file:
        told = [row["provenance"] for row in csv.DictReader(file)]
    assert told == ["left out"] * 4 + ["painted"] + ["proposed"] * 3 + ["left out"]


def test_images_without_the_axis_are_proposed_for_by_themselves_and_told(folder: Path) -> None:
    tifffile.imwrite("plain.tif", TUBE.images[2])
    arguments = ["propagate", "plain.tif", "--shot", "tube.tif", "mask.tif", "--out", "out", "--consistent-along", "z"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    with open("out/frames.csv", encoding="utf-8") as file:
        assert [row["remark"] for row in csv.DictReader(file)] == ["it has no neighbouring slices along z"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--consistent-along", "q7"), "say z, t, or nothing"),
        (("--min-extent", "3"), "say along which axis"),
        (("--consistent-along", "z", "--slices", "7"), "say FIRST:LAST"),
        (("--consistent-along", "z", "--slices", "7:3"), "before it begins"),
        (("--consistent-along", "z", "--cluster", "local:2"), "share no slices"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(folder: Path, more: tuple[str, ...], message: str) -> None:
    result = _propagate("out", *more)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not Path("out").exists()


def test_a_recipe_from_before_knows_of_no_slices(folder: Path) -> None:
    assert _propagate("out").exit_code == 0
    told = json.loads(Path("out/recipe.json").read_text("utf-8"))
    del told["volume"]
    Path("old.json").write_text(json.dumps(told), "utf-8")
    assert read_recipe(Path("old.json")).volume == VolumeSettings()
