"""Data sets with objects on the disk, from finding them to outcomes that survive an interruption."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from napari_fewshot import models
from napari_fewshot.cli import app
from napari_fewshot.errors import SettingsError
from napari_fewshot.evaluation.folders import FolderProtocol
from napari_fewshot.evaluation.instances import evaluate_objects, find_object_sets
from napari_fewshot.instances.segmenter import InstanceSegmenter
from napari_fewshot.io.journal import Journal
from tests.fakes import BrightnessSegmenter


def write(root: Path, name: str, number: int) -> None:
    """Bright squares on a dark ground, some with ids beyond 255."""
    rng = np.random.default_rng(number)
    image, ids = np.full((48, 48), 20, np.uint8), np.zeros((48, 48), np.uint16)
    for i, (row, column) in enumerate([(4, 4), (4, 26), (28, 8), (28, 30)]):
        row, column = row + int(rng.integers(0, 4)), column + int(rng.integers(0, 4))
        image[row : row + 12, column : column + 12] = 200
        ids[row : row + 12, column : column + 12] = 150 * (i + 1)
    for kind, pixels in (("images", image), ("labels", (ids > 0).astype(np.uint8)), ("instances", ids)):
        folder = root / name / kind
        folder.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(pixels).save(folder / f"{number:03d}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(4):
        write(tmp_path, "squares", number)
    write(tmp_path, "half", 0)
    (tmp_path / "half/instances/000.png").unlink()
    return tmp_path


def segmenter() -> InstanceSegmenter:
    return InstanceSegmenter(BrightnessSegmenter(), BrightnessSegmenter())


PROTOCOL = FolderProtocol((2,), seeds=2)


def test_sets_without_ids_for_each_image_are_left_out(root: Path) -> None:
    assert [each.name for each in find_object_sets(root)] == ["squares"]
    for file in (root / "squares/instances").iterdir():
        file.unlink()
    with pytest.raises(SettingsError, match=r"looked for SET/instances/NAME\.png"):
        find_object_sets(root)


def test_all_squares_are_found(root: Path) -> None:
    outcomes = list(evaluate_objects(segmenter(), find_object_sets(root), PROTOCOL))
    assert [(o.name, o.shots, o.seed, o.queries, o.failure) for o in outcomes] == [
        ("squares", 2, 0, 2, ""),
        ("squares", 2, 1, 2, ""),
    ]
    assert all(o.counts.f1(0.9) == 1.0 and o.counts.true == 8 for o in outcomes)


def test_what_is_in_the_journal_is_not_measured_again(root: Path, tmp_path: Path) -> None:
    sets, settings = find_object_sets(root), {"benchmark": "test"}
    journal = Journal(tmp_path / "journal.jsonl", settings)
    first = list(evaluate_objects(segmenter(), sets, PROTOCOL, journal))
    asked = segmenter()
    again = list(evaluate_objects(asked, sets, PROTOCOL, Journal(tmp_path / "journal.jsonl", settings)))
    assert again == first and asked.classes.learnt == []  # type: ignore[attr-defined]


def test_a_segmenter_that_tells_no_objects_apart_is_refused(root: Path) -> None:
    with pytest.raises(SettingsError, match="load it with instances=True"):
        list(evaluate_objects(BrightnessSegmenter(), find_object_sets(root), PROTOCOL))


def test_the_verb_writes_a_table_and_numbers(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(method: str, *, backbone: str, device: str, instances: bool) -> InstanceSegmenter:
        assert instances
        return segmenter()

    monkeypatch.setattr(models, "load_segmenter", load)
    words = ["evaluate", "objects", "--data", str(root), "--shots", "2", "--seeds", "1", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*words, "--method", "panet"])
    assert result.exit_code == 0, result.output
    table = (tmp_path / "out/table.md").read_text("utf-8")
    assert "| squares | 1.000 | 1.000 | 1.000 | 1.000 |" in table
    (run,) = json.loads((tmp_path / "out/results.json").read_text("utf-8"))["runs"]
    assert run["set"] == "squares" and run["right"] == [8] * 9 and run["f1"] == 1.0
    wrong = CliRunner().invoke(app, [*words, "--set", "circles"])
    assert wrong.exit_code == 2 and "there is no data set circles" in wrong.output
