"""The speed benchmark runs; what it finds on images this small says nothing."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

RUN = Path(__file__).parents[1] / "benchmarks" / "speed" / "run.py"
RATIOS = ("cold_over_backbone", "warm_over_cold", "cold_over_peer")
AMOUNTS = ("visible_ms", "peak_gib", "disk_gib", "import_s", "dock_s", "frames_per_second")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("speed")
    command = [
        sys.executable,
        str(RUN),
        "--tiny",
        "--image",
        "96",
        "--threads",
        "1",
        "--json",
        str(folder / "speed.json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, folder


def test_it_finds_every_figure_and_all_are_possible(run: tuple[str, Path]) -> None:
    found = json.loads((run[1] / "speed.json").read_text())
    assert found["dock_reason"] == ""
    assert all(found[key] > 0 for key in (*RATIOS, *AMOUNTS))
    assert found["cold_over_backbone"] > 1
    assert found["import_s"] < found["dock_s"] < 60
    assert 0 < found["share_in_backbone"] < 1
    assert set(found["backbones"]) == {"resnet18", "mica"}
    assert found["threads"] == 1
    assert found["cpu"] and found["versions"]["torch"]


def test_growth_is_measured_in_frames_and_in_pixels(run: tuple[str, Path]) -> None:
    found = json.loads((run[1] / "speed.json").read_text())
    assert (found["image"]["slices"], found["image"]["side"]) == (1, 96)
    for measured in (*found["growth_with_frames"], *found["growth_with_side"], found["stack"], found["image"]):
        assert measured["seconds_per_slice"] > measured["seconds_bare"] > 0
        assert measured["idle_gib"] <= measured["peak_gib_first_half"] <= measured["peak_gib"] < 8
    assert found["stack"]["disk_gib"] > 0
    assert found["growth_with_frames"][0]["disk_gib"] == 0


def test_it_prints_a_table_and_draws_a_plot(run: tuple[str, Path]) -> None:
    text, folder = run
    assert "| what | measured | at most | reached |" in text
    assert text.count("| mica |") == 3  # time of a frame, the large stack, and the large image
    with Image.open(folder / "speed.png") as plot:
        assert plot.width > plot.height > 300


def test_listing_is_timed_however_images_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(RUN.with_name("listing.py")))["main"](12)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[1].split("  ")[0].strip() for line in lines] == ["a folder", "a pattern", "one by one"]
    assert all(line.startswith("12 files") and float(line.split()[-2]) < 5 for line in lines)
