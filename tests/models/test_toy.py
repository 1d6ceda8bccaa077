"""Every method that is something without a trained head, on the toy that looks a little like photographs.

In single precision, which linear classifiers always compute in.
"""

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from napari_fewshot import list_segmenters
from tests.models.toys import toy_ious

BACKBONE: Any = SimpleNamespace(name="made up", key="made up", matching_strides=(1,), linear=True)
"""What methods ask of a backbone."""


@pytest.mark.parametrize(
    "card", [card for card in list_segmenters() if not card.needs_head], ids=lambda card: card.name
)
def test_things_are_found_with_masks_and_with_strokes(card: Any) -> None:
    module, factory = card.home.split(":")
    method = getattr(import_module(f"napari_fewshot.models.methods.{module}"), factory)(BACKBONE)
    assert min(toy_ious(method, dtype=torch.float32)) > 0.95
    assert min(toy_ious(method, shots=5, classes=2, dtype=torch.float32)) > 0.95
    assert min(toy_ious(method, strokes=True, dtype=torch.float32)) > 0.95
