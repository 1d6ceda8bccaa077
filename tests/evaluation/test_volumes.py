"""What neighbouring slices bring, measured where it is known."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_fewshot import models
from napari_fewshot.cli import app
from napari_fewshot.errors import SettingsError
from napari_fewshot.evaluation.folders import find_sets
from napari_fewshot.evaluation.volumes import (
    LabelledStack,
    blinks,
    change,
    evaluate_volumes,
    flicker,
    measure,
    volume_table,
)
from napari_fewshot.io.journal import Journal
from tests.fakes import BrightnessSegmenter
from tests.volumes.test_consistency import SLICES, Tube

TUBE = Tube.noisy()
STACK = LabelledStack("tube", TUBE.images, TUBE.labels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A set ``tube`` with a file for each slice."""
    for name, planes in (("images", TUBE.images), ("labels", TUBE.labels.astype(np.uint8))):
        (tmp_path / "sets" / "tube" / name).mkdir(parents=True)
        for z, plane in enumerate(planes):
            tifffile.imwrite(tmp_path / "sets" / "tube" / name / f"{z:03}.tif", plane)
    return tmp_path / "sets"


def test_flicker_is_what_changes_where_the_truth_does_not() -> None:
    truth = np.zeros((4, 2, 5), np.int32)
    truth[2:, :, 0] = 1  # appears: no flicker
    labels = truth.copy()
    labels[1, 0, 4] = 1  # comes and goes: twice
    places = range(4)
    assert flicker(truth, truth, places) == 0
    assert flicker(labels, truth, places) == pytest.approx(2 / 28)
    assert blinks(labels, places) == pytest.approx((1 / 10 + 0) / 2)
    assert change(labels, places) == pytest.approx((1 + 3 + 0) / 30)
    assert flicker(labels, truth, [0, 2]) is None  # no two of them follow each other


def test_neighbours_bring_more_and_flicker_less() -> None:
    outcome = measure(BrightnessSegmenter(), STACK, 2).outcome
    assert outcome.on > outcome.off + 0.1
    assert outcome.flicker_on < 0.5 * outcome.flicker_off
    assert volume_table([outcome]).splitlines()[2].startswith(f"| tube | 2 | {outcome.off:.3f} | {outcome.on:.3f} |")


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    settings = {"of": "a test"}
    first = list(evaluate_volumes(BrightnessSegmenter(), [STACK], [1], Journal(tmp_path / "j", settings)))
    assert [each.shots for each in first] == [1]
    again = evaluate_volumes(object(), [STACK], [1, SLICES - 1], Journal(tmp_path / "j", settings))  # type: ignore[arg-type]
    assert list(again) == first


def test_what_cannot_be_learnt_is_told() -> None:
    empty = LabelledStack("empty", TUBE.images, np.zeros_like(TUBE.labels))
    (outcome,) = evaluate_volumes(BrightnessSegmenter(), [empty], [1])
    assert outcome.failure and outcome.on is None
    assert "| empty | 1 | – |" in volume_table([outcome])


def test_images_of_several_sizes_are_no_stack(folder: Path) -> None:
    tifffile.imwrite(folder / "tube" / "images" / "004.tif", TUBE.images[4, :20])
    with pytest.raises(SettingsError, match="they are no stack"):
        LabelledStack.of(find_sets(folder)[0])


def test_where_nothing_is_background_the_most_frequent_class_is(folder: Path) -> None:
    for z in range(SLICES):
        tifffile.imwrite(folder / "tube" / "labels" / f"{z:03}.tif", (TUBE.labels[z] + 1).astype(np.uint8))
    stack = LabelledStack.of(find_sets(folder)[0])
    np.testing.assert_array_equal(stack.labels, 2 * TUBE.labels)
    assert stack.class_ids == [2]


def test_the_shell_makes_a_table(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "load_segmenter", lambda *args, **settings: BrightnessSegmenter())
    words = ["evaluate", "volumes", "--data", str(folder), "--shots", "2", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    table = (tmp_path / "out" / "table.md").read_text("utf-8")
    off, on = (float(value) for value in re.findall(r"\| tube \| 2 \| ([\d.]+) \| ([\d.]+) \|", table)[0])
    assert on > off + 0.1
    numbers = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
    assert "tube" in json.dumps(numbers)
    again = CliRunner().invoke(app, [*words, "--set", "none"])
    assert again.exit_code == 2 and "there is no stack none" in again.output
