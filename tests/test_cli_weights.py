"""The verbs of ``napari-fewshot weights``, without internet."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import save
from typer.testing import CliRunner, Result

from napari_fewshot.cli import app
from napari_fewshot.cli.weights import _progress
from napari_fewshot.models import list_backbones, loading
from napari_fewshot.models import weights as stock
from napari_fewshot.models.weights import WeightsSource
from tests.servers import Served, serving

CONTENT = save({"weight": torch.zeros(8)})
HASH = hashlib.sha256(CONTENT).hexdigest()
FILE = f"resnet18-{HASH[:8]}.safetensors"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A computer without any weights."""
    monkeypatch.setattr(stock, "own_folder", lambda: tmp_path / "own")
    monkeypatch.setattr(stock, "hub_folder", lambda: tmp_path / "hub")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.delenv(stock.FOLDER_VARIABLE, raising=False)
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "index.json").write_text('{"version": 1, "weights": []}')
    monkeypatch.setattr(stock, "shipped_folder", lambda: tmp_path / "shipped")
    return tmp_path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server that offers ``resnet18``, small and harmless, in the place of torchvision's."""
    real = loading.weights_source
    with serving({f"/{FILE}": CONTENT}) as served:

        def from_here(backbone: str) -> WeightsSource | None:
            source = real(backbone)
            return source and replace(
                source, url=f"{served.address}/{FILE}", stems=(FILE.partition(".")[0], "resnet18"), size=len(CONTENT)
            )

        monkeypatch.setattr(loading, "weights_source", from_here)
        yield served


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["weights", *arguments], env={"COLUMNS": "300"})


def test_the_list_tells_state_size_licence_and_place_of_every_backbone(home: Path) -> None:
    (home / "own").mkdir()
    (home / "own" / "resnet50.pth").write_bytes(b"x" * 2_000_000)
    shown = run("list").output
    rows = {line.split("│")[1].strip(): line for line in shown.splitlines() if line.startswith("│")}
    assert set(rows) == {card.name for card in list_backbones()}
    for card in list_backbones():
        if card.needs_weights:
            assert "ImageNet" in rows[card.name]
    assert "needs none" in rows["scale-space"]
    assert "missing" in rows["resnet18"] and "47 MB" in rows["resnet18"] and "https://" in rows["resnet18"]
    assert "here" in rows["resnet50"] and "2 MB" in rows["resnet50"] and "resnet50.pth" in rows["resnet50"]


def test_the_list_takes_further_names(home: Path) -> None:
    shown = run("list", "timm:test_vit").output
    assert re.search(r"│ timm:test_vit +│ missing +│ unknown size +│ apache-2\.0 ", shown)


def test_shipped_weights_are_in_the_list(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = {"name": "ours", "file": "ours.safetensors", "sha256": HASH, "licence": "CC0-1.0"}
    (home / "index.json").write_text(json.dumps({"version": 1, "weights": [card]}))
    (home / "ours.safetensors").write_bytes(CONTENT)
    monkeypatch.setattr(stock, "shipped_folder", lambda: home)
    assert re.search(r"│ ours +│ shipped +│ 0 MB +│ CC0-1\.0 ", run("list").output)
    assert re.search(r"ours\.safetensors +│ intact ", run("verify").output)


def test_fetching_tells_the_licence_before_it_downloads(server: Served, home: Path) -> None:
    result = run("fetch", "scale-space", "resnet18")
    assert result.exit_code == 0, result.output
    said = ["scale-space needs no weights", "for non-commercial research", "Downloading resnet18", "is now in"]
    assert [result.output.index(words) for words in said] == sorted(result.output.index(words) for words in said)
    assert (home / "torch" / "checkpoints" / FILE).read_bytes() == CONTENT
    assert server.asked == [f"GET /{FILE}"]
    again = run("fetch", "resnet18")
    assert "was here already" in again.output and len(server.asked) == 1


def test_fetched_weights_can_be_copied_for_another_computer(
    server: Served, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("fetch", "resnet18", "--to", str(home / "stick"))
    assert result.exit_code == 0, result.output
    assert (home / "stick" / FILE).read_bytes() == CONTENT
    assert str(home / "stick" / FILE) in result.output and stock.FOLDER_VARIABLE in result.output
    (home / "torch" / "checkpoints" / FILE).unlink()
    monkeypatch.setenv(stock.FOLDER_VARIABLE, str(home / "stick"))
    assert "was here already" in run("fetch", "resnet18").output


def test_a_wrong_name_is_told_before_anything_is_downloaded(server: Served) -> None:
    result = run("fetch", "resnet18", "resnet19")
    assert result.exit_code == 2
    assert "there is no backbone 'resnet19'" in result.stderr
    assert server.asked == []


def test_without_internet_fetching_ends_in_one_sentence(server: Served) -> None:
    server.files.clear()
    result = run("fetch", "resnet18")
    assert result.exit_code == 2
    assert "could not be downloaded (HTTP Error 404" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_verify_tells_intact_from_damaged(home: Path) -> None:
    assert "There are no weights" in run("verify").output
    for folder, name, content in (
        (home / "own", FILE, CONTENT),
        (home / "own", "mine.pth", CONTENT),
        (home / "hub" / "models--timm--net" / "snapshots" / "0", "model.safetensors", CONTENT),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    result = run("verify")
    assert result.exit_code == 0
    for name, verdict in ((FILE, "intact"), ("mine.pth", "no checksum"), ("model.safetensors", "no checksum")):
        assert re.search(rf"{re.escape(name)} +│ {verdict} ", result.output)
    (home / "own" / FILE).write_bytes(CONTENT[:-1])
    result = run("verify")
    assert result.exit_code == 2
    assert re.search(rf"{re.escape(FILE)} +│ damaged ", result.output)
    assert "fetch it again" in result.stderr


def test_where_prints_the_folders_in_the_order_of_looking(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "named").mkdir()
    (home / "named" / FILE).write_bytes(CONTENT)
    monkeypatch.setenv(stock.FOLDER_VARIABLE, str(home / "named"))
    lines = run("where").output.splitlines()
    for line, folder in zip(lines, ("named", "own", "torch", "hub"), strict=True):
        assert str(home / folder) in line
    assert "1 file(s)" in lines[0] and "not there yet" in lines[1]
    monkeypatch.setenv(stock.FOLDER_VARIABLE, str(home / "nowhere"))
    result = run("where")
    assert result.exit_code == 2 and "correct it or unset it" in result.stderr


def test_on_a_terminal_a_bar_shows_how_far_a_download_is(tmp_path: Path) -> None:
    with open(tmp_path / "log", "w") as file:
        console = Console(file=file, force_terminal=True, width=100)
        with _progress(console, "net", 0) as report:
            report(30_000_000, 60_000_000)
    shown = (tmp_path / "log").read_text()
    assert "Downloading net" in shown and "30.0/60.0 MB" in shown


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from napari_fewshot.cli import app; "
        "assert CliRunner().invoke(app, ['weights', '--help']).exit_code == 0; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
