"""Weights for use, their cards, and where both are put."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from napari_fewshot.errors import WeightsError
from napari_fewshot.models.backbones.mica import Mica, MicaNet, fused, normalised
from napari_fewshot.models.backbones.probing import typical_picture
from napari_fewshot.models.weights import verify_shipped
from napari_fewshot.training import export
from napari_fewshot.training.export import averaged_net, card_of, install, ship, write_weights
from napari_fewshot.training.products import tensors_for_use
from napari_fewshot.training.recipe import PictureSettings, Recipe, find_recipe, read_recipe

CARD_FIELDS = {
    "name", "file", "sha256", "backbone", "architecture", "input", "recipe", "data", "licence", "metrics",
}  # fmt: skip


@pytest.fixture
def net() -> MicaNet:
    """A network that has seen a few pictures: its norms are not those of a fresh one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = MicaNet().train()
        with torch.no_grad():
            for _ in range(30):
                made(normalised(torch.rand(2, 3, 32, 32)))
    return made.eval()


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    file = tmp_path / "lung.toml"
    file.write_text('name = "lung"\nlicence = "CC0-1.0"\n[[stages]]\nkind = "distil"\nsteps = 10\nsize = 64\n')
    return read_recipe(file)


@pytest.fixture
def weights(net: MicaNet, recipe: Recipe, tmp_path: Path) -> Path:
    file = tmp_path / "out" / "lung.safetensors"
    write_weights(net, file)
    export.write_card(recipe, file, None)
    return file


def test_what_is_written_sees_what_was_trained(net: MicaNet, weights: Path) -> None:
    image = typical_picture(64, 96)
    with torch.inference_mode():
        expected = net(normalised(image.expand(3, -1, -1))[None])
        seen = Mica(load_file(weights))(image)
    for level, wanted in zip(seen.values(), expected, strict=True):
        assert (level - wanted[0]).abs().max() < 0.01 * wanted.std()  # weights have half precision


def test_fusing_changes_no_feature_and_not_the_network_itself(net: MicaNet) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = normalised(torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0)))
    with torch.inference_mode():
        for a, b in zip(net(x), fused(net)(x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_the_file_is_the_same_for_the_same_weights_and_small(net: MicaNet, weights: Path, tmp_path: Path) -> None:
    write_weights(net, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == weights.read_bytes()
    assert weights.stat().st_size < 30e6


def test_weights_that_are_not_finite_are_not_written(net: MicaNet) -> None:
    net.stem[0].weight.data[0] = torch.nan
    with pytest.raises(WeightsError, match="training went astray"):
        tensors_for_use(net)


def test_the_average_is_what_is_taken_from_a_checkpoint(net: MicaNet, tmp_path: Path) -> None:
    average = {f"module.{name}": value for name, value in net.state_dict().items()}
    state = {"step": 3, "module": {}, "average": {**average, "n_averaged": torch.tensor(3)}, "optimiser": {}}
    torch.save(state, tmp_path / "checkpoint.pt")
    for name, value in averaged_net(tmp_path / "checkpoint.pt", MicaNet()).state_dict().items():
        assert torch.equal(value, net.state_dict()[name])
    torch.save({"average": {"module.x": torch.ones(1)}}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"other\.pt is no checkpoint of such a network"):
        averaged_net(tmp_path / "other.pt", MicaNet())


# ---------------------------------------------------------------------------- cards
def test_a_card_tells_what_how_and_from_what(weights: Path, recipe: Recipe, data_sets: Path) -> None:
    card = card_of(recipe, weights, data_sets)
    assert set(card) == CARD_FIELDS
    assert (card["name"], card["file"], card["backbone"], card["licence"]) == ("lung", weights.name, "mica", "CC0-1.0")
    assert card["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert card["architecture"]["parameters"] == sum(p.numel() for p in fused(MicaNet()).parameters())
    assert card["architecture"]["levels"]["stride 16"] == "192 channels"
    assert card["input"] == {"channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}
    how = card["recipe"]
    assert how["command"] == "napari-fewshot train lung --seed 1" and how["seed"] == 1
    assert how["stages"][0]["kind"] == "distil" and how["stages"][0]["teacher"] == "resnet18"
    assert (how["stages"][0]["steps"], how["stages"][0]["size"]) == (10, 64)
    assert {"name": "gray", "licence": "CC0 1.0", "source": "example.org/gray"} in card["data"]
    assert [entry["name"] for entry in card["data"]] == [
        "colour", "gray", "images inside scikit-image", "300 pictures made by napari_fewshot.training.made",
    ]  # fmt: skip
    assert card["metrics"] == {}
    json.dumps(card)


def test_what_was_not_trained_on_is_not_on_the_card(weights: Path, recipe: Recipe, data_sets: Path) -> None:
    only_real = replace(recipe, pictures=PictureSettings(real=1.0, bundled=0.0))
    assert [entry["name"] for entry in card_of(only_real, weights, data_sets)["data"]] == ["colour", "gray"]
    only_made = replace(recipe, pictures=PictureSettings(real=0.0, bundled=0.0, worlds=2, views=3))
    (made,) = card_of(only_made, weights, None)["data"]
    assert made["name"].startswith("6 pictures made")


def test_a_checkout_is_told_by_its_commit(
    weights: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = card_of(recipe, weights, None)["recipe"]["commit"]
    assert commit == "" or len(commit.removesuffix("-dirty")) == 40
    monkeypatch.setattr(export.napari_fewshot, "__file__", str(tmp_path / "napari_fewshot" / "__init__.py"))
    assert card_of(recipe, weights, None)["recipe"]["commit"] == ""


# ---------------------------------------------------------------------------- where they are put
def test_installing_copies_file_and_card_to_the_user_s_folder(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "own_folder", lambda: tmp_path / "own")
    assert install(weights) == tmp_path / "own" / "lung.safetensors"
    for name in ("lung.safetensors", "lung.json"):
        assert (tmp_path / "own" / name).read_bytes() == (weights.parent / name).read_bytes()


def test_shipping_adds_a_card_to_the_index_and_replaces_the_old_one(
    weights: Path, net: MicaNet, recipe: Recipe, tmp_path: Path
) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    other = {"name": "aorta", "file": "aorta.safetensors", "sha256": "0", "metrics": {}}
    (folder / "index.json").write_text(json.dumps({"version": 1, "weights": [other]}))
    ship(weights, folder)
    index = json.loads((folder / "index.json").read_text())
    assert index["version"] == 1 and [card["name"] for card in index["weights"]] == ["aorta", "lung"]
    assert dict(verify_shipped(folder)) == {
        folder / "aorta.safetensors": "missing",
        folder / "lung.safetensors": "intact",
    }
    index["weights"][1]["metrics"] = {"IoU": 0.6}
    (folder / "index.json").write_text(json.dumps(index))
    ship(weights, folder)  # the same file: what was measured stays true
    assert json.loads((folder / "index.json").read_text())["weights"][1]["metrics"] == {"IoU": 0.6}
    net.stem[0].weight.data *= 1.1
    write_weights(net, weights)
    export.write_card(recipe, weights, None)
    ship(weights, folder)
    (_, card) = json.loads((folder / "index.json").read_text())["weights"]
    assert card["metrics"] == {} and card["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_the_recipe_of_shipped_weights_is_in_the_package() -> None:
    from napari_fewshot.models.weights import shipped_weights

    for card in shipped_weights():
        recipe = find_recipe(card["name"])
        assert card["licence"] == recipe.licence
        assert [stage["kind"] for stage in card["recipe"]["stages"]] == [stage.kind for stage in recipe.stages]
