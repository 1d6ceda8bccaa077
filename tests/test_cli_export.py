"""The verbs ``export`` and ``extract``."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner, Result

from napari_fewshot.cli import app
from napari_fewshot.io.masks import read_labels
from tests.fakes import BrightnessSegmenter


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.chdir(tmp_path)
    labels = np.zeros((32, 32), np.uint8)
    labels[4:12, 6:20], labels[20:30, 20:30] = 1, 2
    tifffile.imwrite("cells_labels.tif", labels)
    return labels


# ---------------------------------------------------------------------------- export
@pytest.mark.parametrize("name", ["out.tif", "out.nii.gz", "out.png", "out.ome.zarr", "out.json"])
def test_labels_change_their_format_and_nothing_else(mask: np.ndarray, name: str) -> None:
    result = invoke("export", "cells_labels.tif", "--out", name, "--class", "1=cell", "--class", "2=nucleus")
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(np.squeeze(read_labels(name)), mask)


def test_ids_may_be_objects(mask: np.ndarray) -> None:
    many = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) // 3
    tifffile.imwrite("many.tif", many)
    result = invoke("export", "many.tif", "--out", "many.csv")
    assert (result.exit_code, "--objects" in result.stderr, Path("many.csv").exists()) == (2, True, False)
    assert invoke("export", "many.tif", "--out", "many.csv", "--objects").exit_code == 0
    assert len(Path("many.csv").read_text().splitlines()) == 1 + 341


def test_a_folder_of_a_run_brings_scores_and_classes_along(mask: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_fewshot.models.load_segmenter", lambda *_, **__: BrightnessSegmenter())
    for name in ("a", "b"):
        tifffile.imwrite(f"{name}.tif", (mask * 100).astype(np.uint8))
    shot = ("--shot", "a.tif", "cells_labels.tif", "--class", "1=cell", "--class", "2=nucleus")
    assert invoke("propagate", "a.tif", "b.tif", *shot, "--out", "run", "--format", "png").exit_code == 0
    result = invoke("export", "run", "--out", "objects.csv")
    assert result.exit_code == 0, result.output
    with open("objects.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    told = [(row["image"], row["class"], row["provenance"], bool(row["score"])) for row in rows]
    assert told == [
        ("a", "cell", "painted", False), ("a", "nucleus", "painted", False),
        ("b", "cell", "proposed", True), ("b", "nucleus", "proposed", True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cells_labels.tif", "--out", "there.png"), "exists already"),
        (("cells_labels.tif", "--out", "out.xyz"), "names no format"),
        (("cells_labels.tif", "--out", "out", "--format", "gif"), "there is no format 'gif'"),
        (("cells_labels.tif", "cells_labels2.tif", "--out", "out.tif"), "name a folder"),
        (("nothing.tif", "--out", "out.png"), "is not there"),
        (("colours.png", "--out", "out.tif"), "one value per pixel"),
    ],
)
def test_what_cannot_be_exported_is_told_in_one_sentence(
    mask: np.ndarray, arguments: tuple[str, ...], words: str
) -> None:
    from PIL import Image

    Path("there.png").write_bytes(b"mine")
    tifffile.imwrite("cells_labels2.tif", mask)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save("colours.png")
    before = sorted(Path().iterdir())
    result = invoke("export", *arguments)
    assert (result.exit_code, words in result.stderr) == (2, True), result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert sorted(Path().iterdir()) == before
    assert Path("there.png").read_bytes() == b"mine"


# ---------------------------------------------------------------------------- extract
def test_features_that_were_extracted_are_not_computed_again(mask: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        tifffile.imwrite(f"{name}.tif", np.where(mask, 200, 20 + ord(name)).astype(np.uint8))
    kept = ("--features", "features", "--device", "cpu")
    result = invoke("extract", "a.tif", "b.tif", *kept, "--json")
    assert result.exit_code == 0, result.output
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["frame", "frame", "end"]
    assert events[-1]["bytes"] > 0 and not events[-1]["full"]

    from napari_fewshot.models.backbones.mica import Mica

    def computed(*_: object) -> None:
        pytest.fail("features were computed again")

    monkeypatch.setattr(Mica, "__call__", computed)
    shot = ("--shot", "a.tif", "cells_labels.tif")
    result = invoke("propagate", "a.tif", "b.tif", *shot, "--out", "out", *kept)
    assert result.exit_code == 0, result.output
    assert invoke("extract", "a.tif", *kept).exit_code == 0


def test_an_image_without_features_is_told_and_the_others_are_done(mask: np.ndarray) -> None:
    tifffile.imwrite("small.tif", np.ones((4, 4), np.uint8))
    result = invoke("extract", "small.tif", "cells_labels.tif", "--features", "features")
    assert (result.exit_code, "4 x 4" in result.stderr) == (3, True)
    assert any(Path("features/features").iterdir())


def test_a_limit_of_nothing_is_refused(mask: np.ndarray) -> None:
    result = invoke("extract", "cells_labels.tif", "--features-gib", "0")
    assert (result.exit_code, "nothing would be kept" in result.stderr) == (2, True)
