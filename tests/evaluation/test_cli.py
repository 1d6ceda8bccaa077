"""``napari-fewshot evaluate``: from a folder to a table."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from napari_fewshot import models
from napari_fewshot.cli import app
from napari_fewshot.cli.evaluate import bar
from napari_fewshot.errors import SettingsError
from napari_fewshot.segmenter import TileProgress
from napari_fewshot.support import SupportSet
from tests.evaluation.made_up import (
    PhotographConcept,
    PhotographSegmenter,
    make_coco,
    make_fss,
    make_set,
    make_voc,
    photograph,
    save,
    with_object,
)


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, words)])


def cells(table: str) -> list[list[str]]:
    """The rows of the first table in Markdown, its head included."""
    rows = re.search(r"((?:^\|.*\n)+)", table, re.MULTILINE)
    assert rows
    lines = [line.strip("| ").split(" | ") for line in rows[1].splitlines()]
    return [line for line in lines if not set("".join(line)) <= set("-:")]


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> list[PhotographSegmenter]:
    """Every segmenter that is loaded is one that knows only brightness; they are listed here."""
    loaded: list[PhotographSegmenter] = []

    def load(method: str, *, backbone: str, device: str) -> PhotographSegmenter:
        loaded.append(PhotographSegmenter(f"{method} on {backbone} ({device})"))
        return loaded[-1]

    monkeypatch.setattr(models, "load_segmenter", load)
    return loaded


def test_pascal_becomes_one_table_of_folds_methods_and_shots(tmp_path: Path, fast: list[PhotographSegmenter]) -> None:
    make_voc(tmp_path / "VOCdevkit" / "VOC2012")
    out = tmp_path / "out"
    words = ["pascal-5i", "--data", tmp_path, "--method", "panet", "--method", "ridge", "--shots", 1, "--shots", 3]
    words += ["--episodes", 4, "--least-area", 0, "--out", out]
    result = run(*words)
    assert result.exit_code == 0, result.output
    table = (out / "table.md").read_text("utf-8")
    assert table.startswith("# PASCAL-5i\n") and "val.txt (80 images), masks of SegmentationClass" in table
    head, *rows = cells(table)
    assert head == [
        *["method", "backbone", "shots", "fold 0", "fold 1", "fold 2", "fold 3"],
        *["mIoU", "FB-IoU", "Dice", "s / image", "episodes"],
    ]
    assert [row[:3] for row in rows] == [[m, "mica", k] for m in ("panet", "ridge") for k in ("1", "3")]
    told = json.loads((out / "results.json").read_text())["runs"]
    assert len(told) == 2 * 2 * 4
    first = [each["miou"] for each in told[:4]]
    assert rows[0][3:7] == [f"{100 * iou:.1f}" for iou in first]
    assert rows[0][7] == f"{100 * np.mean(first):.1f}"
    assert told[1]["fold"] == 1 and set(told[1]["class_iou"]) <= {"bus", "car", "cat", "chair", "cow"}
    assert "panet, mica, fold 0, 1 shot(s): mIoU" in result.output
    assert len(list((out / "journal").iterdir())) == 16


def test_the_same_command_goes_on_after_an_interruption(
    tmp_path: Path, fast: list[PhotographSegmenter], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_fss(tmp_path / "FSS-1000", images=4)
    words = ["fss-1000", "--data", tmp_path, "--episodes", 6, "--out", tmp_path / "out"]
    learn = PhotographSegmenter.learn

    def interrupted(
        self: PhotographSegmenter, support: SupportSet, *, progress: TileProgress | None = None
    ) -> PhotographConcept:
        if len(self.asked) == 4:
            raise KeyboardInterrupt
        return learn(self, support, progress=progress)

    monkeypatch.setattr(PhotographSegmenter, "learn", interrupted)
    result = run(*words)
    assert result.exit_code == 130 and "the same command goes on from there" in result.output
    assert not (tmp_path / "out" / "table.md").exists()
    monkeypatch.setattr(PhotographSegmenter, "learn", learn)
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert [len(segmenter.asked) for segmenter in fast] == [4, 2]
    head, row = cells((tmp_path / "out" / "table.md").read_text("utf-8"))
    assert head[3] == "mIoU" and row[-1] == "6"  # no folds
    before = json.loads((tmp_path / "out" / "results.json").read_text())
    assert run(*words).exit_code == 0
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == before


def test_coco_says_which_partition(tmp_path: Path, fast: list[PhotographSegmenter]) -> None:
    make_coco(tmp_path / "coco")
    words = ["coco-20i", "--data", tmp_path, "--fold", 0, "--episodes", 3, "--least-area", 0, "--size", 32]
    result = run(*words, "--partition", "contiguous", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    table = (tmp_path / "out" / "table.md").read_text("utf-8")
    assert "partition 'contiguous'" in table and "squashed to 32 x 32 px" in table
    # What was measured on one partition is not mixed with the other.
    result = run(*words, "--out", tmp_path / "out")
    assert result.exit_code == 2 and "begun with other settings" in result.output


@pytest.mark.parametrize("benchmark", ["pascal-5i", "coco-20i", "fss-1000", "folder"])
def test_missing_folders_are_said_so_in_one_sentence(
    tmp_path: Path, benchmark: str, fast: list[PhotographSegmenter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for data in (tmp_path, tmp_path / "nowhere"):
        result = run(benchmark, "--data", data)
        assert result.exit_code == 2
        assert result.output.startswith(f"napari-fewshot: {data}" if data.name == "nowhere" else "napari-fewshot: ")
        assert str(tmp_path) in result.output and "Traceback" not in result.output
    assert fast == [] and list(tmp_path.iterdir()) == []


def test_names_that_mean_nothing_are_refused_before_anything_is_measured(
    tmp_path: Path, fast: list[PhotographSegmenter]
) -> None:
    make_set(tmp_path / "data" / "squares")
    words = ["folder", "--data", tmp_path / "data", "--out", tmp_path / "out"]
    for wrong, told in (
        (["--method", "nonsense"], "there is no method 'nonsense'; choose one of: all, auto, "),
        (["--backbone", "nonsense"], "there is no backbone 'nonsense'"),
        (["--set", "nonsense"], "there is no data set nonsense in "),
        (["--shots", "0"], "1 or more"),
    ):
        result = run(*words, *wrong)
        assert result.exit_code == 2 and told in result.output
    assert fast == []


def test_episodes_in_which_nothing_is_proposed_are_told(
    tmp_path: Path, fast: list[PhotographSegmenter], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_fss(tmp_path, images=3)
    for number in range(1, 4):  # an object that is gone once the image is squashed to 16 px
        mask = np.zeros((40, 56), np.uint8)
        mask[0, 0] = 255
        save(tmp_path / "bus" / f"{number}.png", mask)
    result = run("fss-1000", "--data", tmp_path, "--episodes", 12, "--size", 16, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "nothing was proposed; they count as background" in (tmp_path / "out" / "table.md").read_text("utf-8")


def test_data_sets_in_folders_become_one_table_of_all_methods(tmp_path: Path, fast: list[PhotographSegmenter]) -> None:
    for name, images in (("squares", 6), ("few", 4)):
        make_set(tmp_path / "data" / name, images)
    words = ["folder", "--data", tmp_path / "data", "--method", "all", "--backbone", "auto", "--backbone", "resnet18"]
    words += ["--shots", 1, "--shots", 3, "--shots", 5, "--seeds", 1, "--queries", 2, "--out", tmp_path / "out"]
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert "ImageNet" in result.output  # the terms of resnet18's weights
    methods = [card.name for card in models.list_segmenters()]
    assert [segmenter.name for segmenter in fast] == [
        f"{m} on {b} (auto)" for b in ("mica", "resnet18") for m in methods
    ]
    table = (tmp_path / "out" / "table.md").read_text("utf-8")
    head, *rows = cells(table)
    assert head[:5] == ["method", "backbone", "IoU, K = 1 (2 sets)", "IoU, K = 3 (2 sets)", "IoU, K = 5 (1 sets)"]
    assert head[5:] == ["features, s / image", "method, s / image"]
    assert [row[0] for row in rows] == methods * 2
    told = json.loads((tmp_path / "out" / "results.json").read_text())["runs"]
    ious = [o["iou"] for o in told[0]["outcomes"] if o["shots"] == 1]
    assert len(ious) == 2 and rows[0][2] == f"{np.mean(ious):.3f}"
    sections = re.findall(r"^## (.*)\n\n((?:\|.*\n)+)", table, re.MULTILINE)
    assert [title for title, _ in sections] == [f"{b}, K = {k}" for b in ("mica", "resnet18") for k in (1, 3, 5)]
    assert cells(sections[0][1])[1:] == [
        [name, *[f"{iou:.3f}"] * len(methods)] for name, iou in zip(("few", "squares"), ious, strict=True)
    ]


def test_of_all_methods_those_without_a_head_for_the_backbone_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = {card.name for card in models.list_segmenters() if card.needs_head}

    def load(method: str, *, backbone: str, device: str) -> PhotographSegmenter:
        if method in heads:
            raise SettingsError(f"there is no trained head of '{method}' for this backbone")
        return PhotographSegmenter(method)

    monkeypatch.setattr(models, "load_segmenter", load)
    make_set(tmp_path / "data" / "squares", 3)
    words = ["folder", "--data", tmp_path / "data", "--backbone", "resnet18", "--seeds", 1, "--out", tmp_path / "out"]
    result = run(*words, "--method", "all")
    assert result.exit_code == 0, result.output
    rows = cells((tmp_path / "out" / "table.md").read_text("utf-8"))[1:]
    assert [row[0] for row in rows] == [c.name for c in models.list_segmenters() if c.name not in heads]
    assert "canet, resnet18: left out, there is no trained head" in result.output
    asked_for = run(*words, "--method", "canet", "--fresh")
    assert asked_for.exit_code and "there is no trained head" in asked_for.output


def test_a_real_method_can_be_measured(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(3):
        labels = with_object(1, rng, (48, 64))
        labels[labels == 255] = 0
        save(tmp_path / "data" / "images" / f"{number}.png", photograph(labels * np.uint8(90), rng))
        save(tmp_path / "data" / "labels" / f"{number}.png", labels)
    words = ["--method", "ridge", "--device", "cpu", "--seeds", 1, "--out", tmp_path / "out"]
    result = run("folder", "--data", tmp_path / "data", *words)
    assert result.exit_code == 0, result.output
    (told,) = json.loads((tmp_path / "out" / "results.json").read_text())["runs"]
    (outcome,) = told["outcomes"]
    assert outcome["iou"] > 0.8 and outcome["features"] > 0 and outcome["method"] > 0 and outcome["queries"] == 2


def test_other_weights_of_the_same_name_are_not_mixed_and_fresh_measures_again(tmp_path: Path) -> None:
    make_set(tmp_path / "data", images=3, classes=1)
    words = ["folder", "--data", tmp_path / "data", "--method", "panet", "--device", "cpu", "--seeds", 1]
    words += ["--out", tmp_path / "out"]
    assert run(*words).exit_code == 0
    (journal,) = (tmp_path / "out" / "journal").iterdir()
    header, *findings = journal.read_text().splitlines()
    features = json.loads(header)["settings"]["features"]
    assert features.startswith("mica") and len(findings) == 1
    journal.write_text("\n".join([header.replace(features, "mica-before"), *findings]) + "\n")
    result = run(*words)
    assert result.exit_code == 2 and "features: mica-before, now mica" in result.output
    assert run(*words, "--fresh").exit_code == 0
    assert journal.read_text().splitlines()[0] == header


def test_a_terminal_shows_how_far_it_is() -> None:
    console = Console(force_terminal=True, width=120, record=True)
    with bar(console, "panet, fold 0", 2) as advance:
        advance("mIoU 0.500")
        advance("mIoU 0.600")
    shown = console.export_text()
    assert "panet, fold 0" in shown and "2/2" in shown and "mIoU 0.600" in shown


@pytest.mark.parametrize("command", ["pascal-5i", "coco-20i", "fss-1000", "folder"])
def test_help_answers(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0 and "--data" in result.output
