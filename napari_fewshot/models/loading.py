"""From names to a segmenter."""

from importlib import import_module
from typing import Any

from napari_fewshot.errors import SettingsError
from napari_fewshot.models.backbones.base import Backbone
from napari_fewshot.models.cache import FeatureCache
from napari_fewshot.models.devices import choose_device
from napari_fewshot.models.extractor import FeatureExtractor
from napari_fewshot.models.feature_segmenter import FeatureSegmenter
from napari_fewshot.models.methods.base import FewShotMethod
from napari_fewshot.models.registry import AUTO_BACKBONE, list_backbones, list_segmenters


def load(method: str, backbone: str, device: str, cache: FeatureCache | None) -> FeatureSegmenter:
    """See `napari_fewshot.models.load_segmenter`."""
    method_card = _card(method, list_segmenters(), "method")
    backbone_card = _card(AUTO_BACKBONE if backbone == "auto" else backbone, list_backbones(), "backbone")
    where = choose_device(device)
    made: Backbone = _factory("backbones", backbone_card.home)(backbone_card.name)
    head: FewShotMethod = _factory("methods", method_card.home)(made)
    return FeatureSegmenter(FeatureExtractor(made, where, cache), head, f"{method} on {backbone_card.name} ({where})")


def _card(name: str, cards: tuple[Any, ...], kind: str) -> Any:
    for card in cards:
        if card.name == name:
            return card
    raise SettingsError(f"there is no {kind} '{name}'; choose one of: {', '.join(card.name for card in cards)}")


def _factory(package: str, home: str) -> Any:
    module, _, name = home.partition(":")
    return getattr(import_module(f"napari_fewshot.models.{package}.{module}"), name)
