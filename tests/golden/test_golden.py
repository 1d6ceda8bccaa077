"""Weights and code fit each other: whoever changes one of them on purpose pins the outcome again."""

import json

import numpy as np

from tests.golden.pins import FOLDER, file_of, measured, shipped_backbones

HINT = "if weights or network were changed on purpose, run: python -m tests.golden.pins"


def test_all_shipped_weights_are_pinned() -> None:
    assert sorted(p.stem for p in FOLDER.glob("*.json")) == sorted(card["name"] for card in shipped_backbones()), HINT


def test_shipped_weights_give_the_features_that_they_are_known_for() -> None:
    for card in shipped_backbones():
        pinned, now = json.loads(file_of(card["name"]).read_text()), measured(card["name"])
        assert now["key"] == pinned["key"], HINT
        assert now["levels"].keys() == pinned["levels"].keys()
        for stride, level in pinned["levels"].items():
            for what in ("mean", "deviation", "features"):
                np.testing.assert_allclose(
                    now["levels"][stride][what], level[what], rtol=1e-3, atol=5e-3, err_msg=f"{stride}: {what}; {HINT}"
                )
