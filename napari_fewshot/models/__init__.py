"""Everything that computes with torch. Importing this package imports no torch yet; loading a segmenter does."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_fewshot.models.registry import (
    BackboneCard,
    MethodCard,
    backbone_card,
    list_backbones,
    list_segmenters,
)
from napari_fewshot.segmenter import FewShotSegmenter

if TYPE_CHECKING:
    from napari_fewshot.models.cache import FeatureCache

__all__ = [
    "BackboneCard",
    "MethodCard",
    "fetch_weights",
    "licence_notice",
    "list_backbones",
    "list_segmenters",
    "load_segmenter",
]


def load_segmenter(
    method: str = "auto",
    *,
    backbone: str = "auto",
    device: str = "auto",
    cache: "FeatureCache | None" = None,
    instances: bool | Literal["auto", "best", "watershed", "dml"] = False,
) -> FewShotSegmenter:
    """Put a segmenter together.

    Parameters
    ----------
    method
        Name of a card of `list_segmenters`.
    backbone
        Name of a card of `list_backbones`, "auto": the best that needs no download, or ``timm:<model>[@numbers]``:
        any model of the timm library, where it is installed.
    device
        "auto" (cuda, else mps, else cpu), or what torch knows, such as "cuda:1".
    cache
        Where features are kept; by default up to 0.6 GiB of memory of its own.
    instances
        Whether objects are told apart: proposals then carry an id for each, see `InstanceSegmenter`. "watershed" and
        "dml" are the engines, "best" is the one of them that finds most objects of shots that are left out; it takes
        two to three times as long to learn. True or "auto" is the watershed, or the best of it and an embedding that
        you trained on images of your own.

    Raises
    ------
    SettingsError
        If there is no such method, backbone, device or engine.
    WeightsError
        If the backbone needs weights that are not here and cannot be downloaded.

    Examples
    --------
    >>> load_segmenter("panet", device="cpu").name
    'panet on mica (cpu)'
    """
    from napari_fewshot.models.loading import load

    made = load(method, backbone, device, cache)
    if not instances:
        return made
    from napari_fewshot.instances.segmenter import InstanceSegmenter
    from napari_fewshot.models.dml import Dml

    engine = "auto" if instances in (True, "best") else instances
    embedding = Dml.trained_or_none(made.extractor, shipped=instances in ("best", "dml"))
    return InstanceSegmenter(made, made.sibling(), embedding=embedding, engine=engine)  # type: ignore[arg-type] # a name


def licence_notice(backbone: str = "auto") -> str:
    """Say what a person should know of the licence of a backbone's weights before using them.

    Returns
    -------
    str
        A few sentences; "" for a backbone without weights. Imports torch for backbones of timm only.

    Raises
    ------
    SettingsError
        If there is no such backbone.
    """
    card = backbone_card(backbone)
    if card.notice or not card.needs_weights:
        return card.notice
    from napari_fewshot.models.loading import weights_source

    source = weights_source(backbone)
    return "" if source is None else source.notice


def fetch_weights(
    backbone: str = "auto", report: Callable[[int, int | None], None] = lambda done, total: None
) -> Path | None:
    """Download the weights of a backbone, if they are not on this computer, so that `load_segmenter` finds them.

    Parameters
    ----------
    backbone
        As for `load_segmenter`.
    report
        Called with the bytes that have arrived and how many there are in all, None where nobody knows.

    Returns
    -------
    Path
        The file; None for a backbone without weights.

    Raises
    ------
    SettingsError
        If there is no such backbone.
    WeightsError
        If the weights can be had from nowhere.
    """
    from napari_fewshot.models.loading import weights_source
    from napari_fewshot.models.weights import fetch

    source = weights_source(backbone)
    return None if source is None else fetch(source, report)
