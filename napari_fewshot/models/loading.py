"""From names to a segmenter."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import SettingsError
from napari_fewshot.models.backbones.base import Backbone
from napari_fewshot.models.beside_opengl import without_triton
from napari_fewshot.models.cache import FeatureCache
from napari_fewshot.models.devices import choose_device
from napari_fewshot.models.extractor import FeatureExtractor
from napari_fewshot.models.feature_segmenter import FeatureSegmenter
from napari_fewshot.models.methods.base import FewShotMethod
from napari_fewshot.models.registry import backbone_card, list_segmenters
from napari_fewshot.models.weights import WeightsSource

if TYPE_CHECKING:
    from napari_fewshot.models.methods.trained import TrainedMethod


def load(method: str, backbone: str, device: str, cache: FeatureCache | None) -> FeatureSegmenter:
    """See `napari_fewshot.models.load_segmenter`."""
    method_card = _card(method, list_segmenters(), "method")
    card = backbone_card(backbone)
    where = choose_device(device)
    with without_triton():
        made: Backbone = _factory("backbones", card.home)(card.name)
        head: FewShotMethod = _factory("methods", method_card.home)(made)
    return FeatureSegmenter(FeatureExtractor(made, where, cache), head, f"{method} on {card.name} ({where})")


def load_backbone(name: str) -> Backbone:
    """Make a backbone by name, on the CPU.

    Raises
    ------
    SettingsError
        If there is none of that name.
    WeightsError
        If its weights cannot be had.
    """
    card = backbone_card(name)
    made: Backbone = _factory("backbones", card.home)(card.name)
    return made


def trained_method(name: str) -> "type[TrainedMethod[Any, Any]]":
    """Return the class of a method that has a head to be trained.

    Raises
    ------
    SettingsError
        If there is no such method, or it has nothing to be trained.
    """
    with_head = tuple(card for card in list_segmenters() if card.head)
    kind: type[TrainedMethod[Any, Any]] = _factory("methods", _card(name, with_head, "method with a head").head)
    return kind


def weights_source(backbone: str) -> WeightsSource | None:
    """Return where the weights of a backbone come from; None for one that needs none, or has them in the package.

    Raises
    ------
    SettingsError
        If there is no such backbone.
    """
    card = backbone_card(backbone)
    if not card.needs_weights:
        return None
    source: WeightsSource = _factory("backbones", f"{card.home.partition(':')[0]}:weights_of")(card.name)
    return source


def _card(name: str, cards: tuple[Any, ...], kind: str) -> Any:
    for card in cards:
        if card.name == name:
            return card
    raise SettingsError(f"there is no {kind} '{name}'; choose one of: {', '.join(card.name for card in cards)}")


def _factory(package: str, home: str) -> Any:
    module, _, name = home.partition(":")
    with without_triton():
        return getattr(import_module(f"napari_fewshot.models.{package}.{module}"), name)
