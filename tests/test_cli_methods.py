"""The verb ``methods``: the list, the card of a method, and both for programs."""

import json

import pytest
from typer.testing import CliRunner

from napari_fewshot.cli import app
from napari_fewshot.models.registry import list_backbones, list_segmenters

CARDS = {card.name: card for card in list_segmenters()}


def test_programs_get_every_method_and_backbone() -> None:
    result = CliRunner().invoke(app, ["methods", "--json"])
    told = json.loads(result.stdout)
    assert [each["name"] for each in told["methods"]] == list(CARDS)
    assert [each["name"] for each in told["backbones"]] == [each.name for each in list_backbones()]
    assert all(each["accepts"] and each["summary"] and each["seconds_per_megapixel"] > 0 for each in told["methods"])


@pytest.mark.parametrize("name", ["auto", "pfenet"])
def test_a_card_tells_all_that_is_known_of_a_method(name: str) -> None:
    card = CARDS[name]
    result = CliRunner().invoke(app, ["methods", name], env={"COLUMNS": "1000"})
    assert result.exit_code == 0, result.output
    for words in (card.title, card.summary, card.paper, card.levels, card.trained, card.cost, ", ".join(card.accepts)):
        assert words in result.stdout
    told = json.loads(CliRunner().invoke(app, ["methods", name, "--json"]).stdout)
    assert (told["paper"], told["needs_trained_head"]) == (card.paper, card.needs_head)


def test_a_method_that_does_not_exist_is_refused_with_the_list() -> None:
    result = CliRunner().invoke(app, ["methods", "magic"])
    assert result.exit_code == 2
    assert "there is no method 'magic'" in result.stderr and "panet" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
