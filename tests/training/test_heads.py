"""The bank of features, episodes drawn from it, and a head that goes from a recipe to a method."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from napari_fewshot import Frame, Shot, SupportSet, list_segmenters, load_segmenter
from napari_fewshot.cli import app
from napari_fewshot.errors import SettingsError
from napari_fewshot.models import weights as stock
from napari_fewshot.models.backbones.base import Level
from napari_fewshot.models.heads import find_head
from napari_fewshot.models.loading import load_backbone
from napari_fewshot.training.bank import BankEpisodes, BankSettings, FeatureBank, bank_name, open_bank
from napari_fewshot.training.heads import HeadSettings, HeadTraining, as_episode
from napari_fewshot.training.products import untrained
from napari_fewshot.training.recipe import read_recipe
from napari_fewshot.training.sources import Sources, gather

SETTINGS = BankSettings(groups=3, crops=3, size=32)
RECIPE = """
name = "pfenet-mine"
[pictures]
real = 1
bundled = 0
worlds = 0
[[stages]]
kind = "head"
method = "pfenet"
groups = 3
crops = 3
size = 32
most_shots = 2
batch = 2
steps = 4
save_every = 2
report_every = 2
"""


@pytest.fixture(scope="module")
def sources(data_sets: Path) -> Sources:
    return gather(data_sets, 1.0, 0.0, 0, 1, 1)


@pytest.fixture(scope="module")
def bank(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> FeatureBank:
    return open_bank(tmp_path_factory.mktemp("bank") / "b", SETTINGS, load_backbone("mica"), lambda: sources, 1)


def run(*words: object) -> str:
    result = CliRunner().invoke(app, ["train", *map(str, words), "--device", "cpu", "--workers", "0"])
    assert result.exit_code == 0, result.output
    return result.output


# ---------------------------------------------------------------------------- the bank
def test_a_bank_holds_the_features_of_its_crops(bank: FeatureBank) -> None:
    assert len(bank) == 3 and [level.stride for level in bank.levels] == [4, 8, 16]
    assert bank.labels(2).shape == (3, 32, 32)
    features = bank.features(1, np.array([2, 0]))
    assert [tuple(f.shape) for f in features] == [(2, 48, 8, 8), (2, 96, 4, 4), (2, 192, 2, 2)]
    assert all(f.dtype == torch.float16 and f.isfinite().all() and f.std() > 0.1 for f in features)


def test_a_bank_that_is_there_is_used_as_it_is_and_its_pictures_are_not_gathered(bank: FeatureBank) -> None:
    def never() -> Sources:
        raise AssertionError("gathered again")

    again = open_bank(bank.folder, SETTINGS, load_backbone("mica"), never, 1)
    assert torch.equal(again.labels(0), bank.labels(0))
    assert not list(bank.folder.parent.glob("*.partial"))


def test_a_bank_that_was_interrupted_is_not_there(tmp_path: Path, sources: Sources) -> None:
    class Interrupted(type(load_backbone("mica"))):  # type: ignore[misc]
        def __call__(self, image: torch.Tensor) -> dict[Level, torch.Tensor]:
            raise KeyboardInterrupt

    broken = load_backbone("mica")
    broken.__class__ = Interrupted
    with pytest.raises(KeyboardInterrupt):
        open_bank(tmp_path / "b", SETTINGS, broken, lambda: sources, 1)
    assert not list(tmp_path.iterdir())


def test_the_same_seed_gives_the_same_bank(bank: FeatureBank, sources: Sources, tmp_path: Path) -> None:
    again, other = (
        open_bank(tmp_path / f"{seed}", SETTINGS, load_backbone("mica"), lambda: sources, seed) for seed in (1, 2)
    )
    assert torch.equal(again.labels(1), bank.labels(1))
    assert torch.equal(again.features(1, np.array([0]))[0], bank.features(1, np.array([0]))[0])
    assert not torch.equal(other.labels(1), bank.labels(1))


def test_the_name_of_a_bank_tells_everything_that_it_depends_on() -> None:
    one = ("key", "pictures", 1)
    names = {bank_name(BankSettings(3, 3, size), *one) for size in (32, 48)}
    names |= {bank_name(SETTINGS, *other) for other in (("k", "pictures", 1), ("key", "p", 1), ("key", "pictures", 2))}
    assert len(names) == 5 and bank_name(SETTINGS, *one) in names


# ---------------------------------------------------------------------------- episodes
def test_episodes_repeat_and_show_what_they_ask_for(bank: FeatureBank) -> None:
    draws = BankEpisodes(bank, 6, 2)
    (seed, first), (same, again) = (draws(np.random.default_rng(3)) for _ in range(2))
    assert seed == same and len(first) == 6
    assert all(torch.equal(a, b) for x, y in zip(first, again, strict=True) for a, b in zip(x, y, strict=True))
    for drawn in first:
        episode = as_episode(drawn, bank.levels)
        assert 1 <= len(episode.shots) <= 2 and episode.class_ids == (1,)
        assert episode.query.size == (32, 32) and set(episode.labels.unique().tolist()) <= {0, 1, 255}
        assert any((labels == 1).sum() >= 24 for shot in episode.shots for _, labels in shot.parts())
        assert all(f.shape[1] == 32 // level.stride for level, f in episode.query.features.items())


def test_a_query_is_never_among_its_shots(bank: FeatureBank) -> None:
    for seed in range(10):
        for drawn in BankEpisodes(bank, 2, 2)(np.random.default_rng(seed))[1]:
            finest = drawn[1]
            assert not any(torch.equal(finest[-1], shot) for shot in finest[:-1])


def test_more_shots_than_crops_are_refused(bank: FeatureBank) -> None:
    with pytest.raises(SettingsError, match="groups have 3 crops"):
        BankEpisodes(bank, 1, 3)


@pytest.mark.parametrize("method", [card.name for card in list_segmenters() if card.head])
def test_a_head_has_the_losses_of_single_precision_in_mixed_as_well(method: str, bank: FeatureBank) -> None:
    torch.manual_seed(0)
    made, _ = untrained(HeadSettings(method))
    module, batch = HeadTraining(made, bank.levels), BankEpisodes(bank, 2, 2)(np.random.default_rng(5))
    with torch.no_grad():
        expected = module(batch)
        with torch.autocast("cpu", torch.bfloat16):
            found = module(batch)
    assert found.keys() == expected.keys()
    for name, loss in expected.items():  # a calibration may choose the next slope, half or twice as steep
        assert found[name].item() == pytest.approx(loss.item(), rel=0.1, abs=0.5), name


# ---------------------------------------------------------------------------- recipes
@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('method = "panet"', "no method with a head 'panet'"),
        ('method = "pfenet"\nbackbone = "nothing"', "no backbone 'nothing'"),
        ('method = "pfenet"\nsize = 50', "multiple of 16"),
        ('method = "pfenet"\nbatch = 0', "1 or more"),
        ('method = "pfenet"\ncrops = 2', "more than the 5 of most_shots"),
    ],
)
def test_what_is_wrong_with_a_stage_is_told(line: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f'name = "mine"\n[[stages]]\nkind = "head"\nsteps = 1\n{line}\n')
    with pytest.raises(SettingsError, match=told):
        read_recipe(tmp_path / "mine.toml")


def test_a_recipe_makes_either_a_backbone_or_a_head(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(RECIPE + '[[stages]]\nkind = "distil"\nsteps = 1\n')
    with pytest.raises(SettingsError, match="write a recipe for each"):
        read_recipe(tmp_path / "mine.toml")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, data_sets: Path) -> Path:
    folder = tmp_path_factory.mktemp("heads")
    (folder / "pfenet-mine.toml").write_text(RECIPE)
    run(folder / "pfenet-mine.toml", "--data", data_sets, "--out", folder / "out")
    return folder


def test_a_recipe_becomes_a_head_that_its_method_uses(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    monkeypatch.setenv(stock.FOLDER_VARIABLE, str(done / "out"))
    card = json.loads((done / "out" / "pfenet-mine.json").read_text())
    backbone = load_backbone("mica")
    assert card["backbone"] == "mica" and card["architecture"]["method"] == "pfenet"
    assert card["input"]["features"] == backbone.key
    found = find_head("pfenet", backbone)
    assert found is not None and found.path == done / "out" / "pfenet-mine.safetensors"
    image = np.zeros((48, 64), np.uint8)
    image[10:30, 20:40] = 200
    shot = Shot(Frame("a", image), (image > 0).astype(np.int32))
    proposal = load_segmenter("pfenet", device="cpu").learn(SupportSet([shot])).propose(Frame("b", image[:, ::-1]))
    assert np.isfinite(proposal.probabilities).all()


def test_features_are_shared_between_runs(done: Path, data_sets: Path) -> None:
    (bank,) = done.glob("features-*")
    before = (bank / "bank.json").stat().st_mtime_ns
    run(done / "pfenet-mine.toml", "--data", data_sets, "--out", done / "other")
    assert (bank / "bank.json").stat().st_mtime_ns == before
    one, other = ((done / name / "pfenet-mine.safetensors").read_bytes() for name in ("out", "other"))
    assert one == other


def test_a_part_is_trained_while_the_rest_stands_still(done: Path, data_sets: Path) -> None:
    recipe = done / "parts.toml"
    last = RECIPE.rpartition("[[stages]]")[2]
    recipe.write_text(RECIPE + "[[stages]]" + last + 'part = "enrich"\nrate = 1e-2\nwarmup = 0\naverage = 0\n')
    run(recipe, "--data", data_sets, "--out", done / "parts")
    before, after = (
        torch.load(done / "parts" / stage / "checkpoint.pt", weights_only=True)["average"]
        for stage in ("1-head", "2-head")
    )
    names = [name for name in before if name != "n_averaged"]
    changed = {name.split(".")[1] for name in names if not torch.equal(before[name], after[name])}
    assert changed == {"enrich"}


def test_a_part_that_is_none_is_answered_with_those_there_are(done: Path, data_sets: Path) -> None:
    recipe = done / "none.toml"
    recipe.write_text(RECIPE + 'part = "wings"\n')
    result = CliRunner().invoke(
        app, ["train", str(recipe), "--data", str(data_sets), "--out", str(done / "none"), "--device", "cpu"]
    )
    assert result.exit_code == 2 and "part is 'wings'; give one of: query, support, enrich, classify" in result.stderr


def test_settings_have_defaults_that_fit_each_other() -> None:
    assert HeadSettings("pfenet").bank == BankSettings(400, 6, 160)
