"""The cards of `weights/index.json` tell the truth about the files beside them."""

import hashlib
import json
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "weights"
FIELDS = {
    "name", "file", "sha256", "backbone", "architecture", "input", "recipe", "data", "licence", "metrics",
}  # fmt: skip


def test_every_file_has_a_card_and_every_card_its_file() -> None:
    index = json.loads((FOLDER / "index.json").read_text())
    assert index["version"] == 1
    cards = index["weights"]
    assert sorted(card["file"] for card in cards) == sorted(p.name for p in FOLDER.glob("*.safetensors"))
    assert len({card["name"] for card in cards}) == len(cards)
    for card in cards:
        assert set(card) == FIELDS
        assert set(card["recipe"]) == {"command", "seed", "precision", "stages", "version", "commit"}
        assert card["data"] and all(set(entry) == {"name", "licence", "source"} for entry in card["data"])
        assert "not stated" not in json.dumps(card)
        assert (FOLDER / card["file"]).stat().st_size <= 30e6
        assert hashlib.sha256((FOLDER / card["file"]).read_bytes()).hexdigest() == card["sha256"]


def test_all_heads_together_are_small() -> None:
    heads = [path for path in FOLDER.glob("*.safetensors") if path.name != "mica-v1.safetensors"]
    assert heads and sum(path.stat().st_size for path in heads) <= 60e6


def test_the_folder_holds_weights_in_no_other_format() -> None:
    assert {p.suffix for p in FOLDER.iterdir()} <= {".json", ".md", ".safetensors"}


def test_the_readme_documents_every_field_of_a_card() -> None:
    readme = (FOLDER / "README.md").read_text()
    assert {line.split("`")[1] for line in readme.splitlines() if line.startswith("| `")} == FIELDS
