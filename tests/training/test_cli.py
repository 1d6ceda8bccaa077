"""``napari-fewshot train``: from a recipe to weights that a method can use, with stops in between."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from napari_fewshot.cli import app
from napari_fewshot.cli.train import _Asked, _display
from napari_fewshot.models import weights as stock
from napari_fewshot.models.backbones.mica import Mica, make
from napari_fewshot.training.course import Progress
from napari_fewshot.training.loop import Report, steps_done

RECIPE = """
name = "tiny"
licence = "CC0-1.0"

[pictures]
real = 0.5
bundled = 0
worlds = 1
views = 1

[[stages]]
kind = "distil"
teacher = "mobilenet_v2"
batch = 2
size = 32
steps = 6
warmup = 2
average = 0.5
save_every = 2
report_every = 2

[[stages]]
kind = "distil"
teacher = "mobilenet_v2"
batch = 2
size = 32
steps = 2
"""


STAGES = ("1-distil", "2-distil")


@pytest.fixture
def recipe(tmp_path: Path, teacher: Path) -> Path:
    file = tmp_path / "tiny.toml"
    file.write_text(RECIPE)
    return file


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, words), "--device", "cpu", "--workers", "0"])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, teachers: Path, data_sets: Path) -> tuple[Result, Path]:
    folder = tmp_path_factory.mktemp("done")
    (folder / "tiny.toml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(stock.FOLDER_VARIABLE, str(teachers))
        return run(folder / "tiny.toml", "--data", data_sets, "--out", folder / "out"), folder / "out"


def test_a_recipe_becomes_weights_with_their_card_and_curves(done: tuple[Result, Path], data_sets: Path) -> None:
    result, out = done
    assert result.exit_code == 0, result.output
    assert (
        "stage 1 of 2 (distil), step 2 of 6" in result.output and "stage 2 of 2 (distil), step 2 of 2" in result.output
    )
    assert f"Weights: {out / 'tiny.safetensors'}" in result.output
    assert f"Card: {out / 'tiny.json'}" in result.output
    assert sorted(p.name for p in out.iterdir()) == [
        "1-distil",
        "2-distil",
        "begun.txt",
        "tiny.json",
        "tiny.safetensors",
    ]
    for stage in STAGES:
        assert sorted(p.name for p in (out / stage).iterdir()) == ["checkpoint.pt", "curve.jsonl", "curve.png"]
        assert (out / stage / "curve.png").read_bytes().startswith(b"\x89PNG")
    card = json.loads((out / "tiny.json").read_text())
    assert card["name"] == "tiny" and card["licence"] == "CC0-1.0"
    assert [entry["name"] for entry in card["data"]][:2] == ["colour", "gray"]
    with torch.inference_mode():
        assert all(
            f.isfinite().all() for f in Mica(load_file(out / "tiny.safetensors"))(torch.rand(1, 32, 32)).values()
        )


def test_the_second_stage_goes_on_from_the_first(done: tuple[Result, Path]) -> None:
    _, out = done
    first, second = (torch.load(out / stage / "checkpoint.pt", weights_only=True)["average"] for stage in STAGES)
    moved = [float((first[k] - second[k]).abs().max()) for k in first if k.endswith("0.weight")]
    assert 0 < max(moved) < 0.05  # two steps of warming up
    maps = [torch.load(out / s / "checkpoint.pt", weights_only=True)["module"]["predict.8.weight"] for s in STAGES]
    assert 0 < (maps[0] - maps[1]).abs().max() < 0.05


def test_running_again_trains_nothing_and_writes_the_same(
    done: tuple[Result, Path], recipe: Path, data_sets: Path
) -> None:
    _, out = done
    before = (out / "tiny.safetensors").read_bytes()
    (out / "tiny.safetensors").unlink()
    again = run(recipe, "--data", data_sets, "--out", out)
    assert again.exit_code == 0 and "step" not in again.output
    assert (out / "tiny.safetensors").read_bytes() == before


def test_ctrl_c_keeps_what_was_learnt_and_the_same_command_goes_on_to_the_same_weights(
    recipe: Path, data_sets: Path, tmp_path: Path
) -> None:
    out = tmp_path / "stopped"
    recipe.write_text(RECIPE.rpartition("[[stages]]")[0].replace("steps = 6", "steps = 16"))
    command = [sys.executable, "-c", "from napari_fewshot.cli import main; main()", "train", str(recipe)]
    options = ["--data", str(data_sets), "--out", str(out), "--device", "cpu", "--workers", "1"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (out / "1-distil" / "curve.jsonl").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    told, errors = process.communicate(timeout=120)
    assert process.returncode == 130, told + errors
    (step,) = re.findall(r"Stopped after step (\d+)\. What was learnt is saved in .*; the same command goes on", told)
    assert errors == ""
    assert 2 <= int(step) < 16 and steps_done(out / "1-distil") == int(step)
    assert not (out / "tiny.safetensors").exists()

    in_one_go = tmp_path / "long"
    for folder in (out, in_one_go):
        assert run(recipe, "--data", data_sets, "--out", folder).exit_code == 0
    assert (out / "tiny.safetensors").read_bytes() == (in_one_go / "tiny.safetensors").read_bytes()


def test_installed_weights_are_a_backbone(
    done: tuple[Result, Path], recipe: Path, data_sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out = done
    from napari_fewshot.training import export

    for module in (export, stock):
        monkeypatch.setattr(module, "own_folder", lambda: tmp_path / "own")
    result = run(recipe, "--data", data_sets, "--out", out, "--install")
    assert result.exit_code == 0 and "use it as the backbone mica:tiny" in result.output
    assert make("mica:tiny").key == Mica(load_file(out / "tiny.safetensors")).key


# ---------------------------------------------------------------------------- what can go wrong
def test_another_recipe_or_seed_does_not_go_on_in_the_same_folder(
    done: tuple[Result, Path], recipe: Path, data_sets: Path
) -> None:
    _, out = done
    other = run(recipe, "--data", data_sets, "--out", out, "--seed", 7)
    assert other.exit_code == 2
    assert "another recipe or seed" in other.stderr and "--out" in other.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing"], "there is no recipe 'nothing'; choose one of:"),
        (["mica-v1"], "name their folder: --data FOLDER"),
        (["mica-v1", "--data", "nowhere"], "nowhere is not a folder"),
        (["mica-v1", "--precision", "half"], "no precision 'half'; choose one of"),
        (["mica-v1", "--device", "cuda:99"], "device 'cuda:99' is not available here"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(tmp_path: Path, words: list[str], told: str) -> None:
    result = CliRunner().invoke(app, ["train", "--device", "cpu", "--out", str(tmp_path / "out"), *words])
    assert result.exit_code == 2
    assert told in result.stderr and "Traceback" not in result.output


def test_a_recipe_may_name_its_data(recipe: Path, data_sets: Path, tmp_path: Path) -> None:
    relative = os.path.relpath(data_sets, recipe.parent)
    recipe.write_text(RECIPE.replace("[pictures]", f"[pictures]\ndata = '{relative}'"))
    assert run(recipe, "--out", tmp_path / "out").exit_code == 0


def test_a_missing_extra_is_told_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from napari_fewshot.cli import train as module

    monkeypatch.setattr(sys.modules[module.__module__], "find_spec", lambda name: None)
    result = run("mica-v1", "--out", tmp_path)
    assert result.exit_code == 2
    assert 'pip install "napari-fewshot[train]"' in result.stderr


def test_running_out_of_memory_is_told_with_a_remedy(
    recipe: Path, data_sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_fewshot.training import course

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(course, "train", full)
    result = run(recipe, "--data", data_sets, "--out", tmp_path / "out")
    assert result.exit_code == 2 and "smaller batch" in result.stderr


# ---------------------------------------------------------------------------- progress, and when to stop
def test_a_terminal_shows_a_bar_with_losses_and_the_time_that_is_left(tmp_path: Path) -> None:
    with (tmp_path / "screen").open("w") as screen:
        console = Console(file=screen, force_terminal=True, width=100, no_color=True)
        with _display(console) as show:
            show(Progress(1, 1, "distil", Report(50, 200, {"stride 2": 0.1234}, 4000, False)))
    text = (tmp_path / "screen").read_text()
    assert "50/200" in text and "1 h 7 min left" in text and "stride 2 0.123" in text


def test_the_first_request_waits_for_the_step_and_the_second_does_not() -> None:
    asked = _Asked(Console(quiet=True))
    with pytest.raises(KeyboardInterrupt):  # nothing has been learnt yet
        asked.note()
    assert not asked()
    asked.note()
    assert asked()
    with pytest.raises(KeyboardInterrupt):
        asked.note()
