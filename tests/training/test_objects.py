"""The bank of pixels of numbered objects, and an embedding that goes from a recipe to an engine."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from napari_fewshot.cli import app
from napari_fewshot.errors import SettingsError
from napari_fewshot.models import weights as stock
from napari_fewshot.models.dml import NAME
from napari_fewshot.models.heads import find_head
from napari_fewshot.models.loading import load_backbone
from napari_fewshot.training.objects import ObjectSettings, PixelBank, apart, numbered_sets, open_pixels
from napari_fewshot.training.pictures import read_objects, read_sets
from napari_fewshot.training.sources import Sources, gather

SETTINGS = ObjectSettings(crops=3, size=64, batch=2)
RECIPE = """
name = "dml-mine"
[pictures]
real = 1
bundled = 0
worlds = 0
[[stages]]
kind = "objects"
crops = 3
size = 64
batch = 2
steps = 4
save_every = 2
report_every = 2
"""


@pytest.fixture(scope="module")
def bank(numbered: Path, tmp_path_factory: pytest.TempPathFactory) -> PixelBank:
    sources = gather(numbered, 1.0, 0.0, 0, 1, 1)
    return open_pixels(
        tmp_path_factory.mktemp("bank") / "b", SETTINGS, load_backbone("mica"), lambda: sources, 1, "cpu"
    )


def test_pictures_find_their_numbered_objects(numbered: Path) -> None:
    first, second = read_sets(numbered)[0].pictures
    ids = read_objects(first)
    assert ids is not None and ids.max() == 319 and ids.shape == (80, 96)
    assert read_objects(second) is None
    (kept,) = numbered_sets(gather(numbered, 1.0, 0.0, 0, 1, 1))
    assert len(kept.pictures) == 1


def test_without_numbered_objects_there_is_nothing_to_learn(numbered: Path) -> None:
    (discs,) = read_sets(numbered)
    with pytest.raises(SettingsError, match="no picture has numbered objects"):
        numbered_sets(Sources((type(discs)("b", discs.pictures[1:]),), (1.0,)))


def test_a_bank_holds_pixels_of_objects_next_to_each_other_and_of_none(bank: PixelBank) -> None:
    assert len(bank) == 3
    for at in range(3):
        features, places, ids, shares = bank.crop(at)
        assert features.shape == (len(ids), 384) and places.shape == (len(ids), 2) and features.isfinite().all()
        assert (ids == 0).any() and len(ids[ids > 0].unique()) >= 2 and shares.min() >= 1
        for number in ids[ids > 0].unique():  # of one object, in radii
            own = places[ids == number]
            assert (own - own.mean(0)).norm(dim=1).max() < 3


def test_batches_repeat(bank: PixelBank) -> None:
    first, second = (bank(np.random.default_rng(5)) for _ in range(2))
    assert len(first) == 2 and all(
        torch.equal(a, b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True)
    )


def test_pieces_of_an_object_that_do_not_touch_are_objects_of_their_own() -> None:
    ids = np.zeros((6, 9), np.int32)
    ids[1:3, 1:3], ids[1:3, 6:8], ids[4, 4] = 3, 3, 1
    found = apart(ids)
    assert np.array_equal(found > 0, ids > 0) and found.max() == 3 and len(np.unique(found)) == 4


def test_a_recipe_makes_an_embedding_that_is_found(
    numbered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = tmp_path / "mine.toml", tmp_path / "runs" / "mine"
    recipe.write_text(RECIPE)
    words = ["train", str(recipe), "--data", str(numbered), "--out", str(out), "--device", "cpu", "--workers", "0"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    monkeypatch.setenv("NAPARI_FEWSHOT_WEIGHTS", str(out))
    found = find_head(NAME, load_backbone("mica"))
    assert found is not None and found.path == out / "dml-mine.safetensors" and not found.shipped_as
    assert stock.read_own(found.path)["vectors.weight"].dtype == torch.float16


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"size": 50}, {"seeds": -1.0}, {"backbone": "nothing"}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        ObjectSettings(**wrong)  # type: ignore[arg-type]
