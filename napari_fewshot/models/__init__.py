"""Everything that computes with torch. Importing this package imports no torch yet; loading a segmenter does."""

from typing import TYPE_CHECKING

from napari_fewshot.models.registry import BackboneCard, MethodCard, list_backbones, list_segmenters
from napari_fewshot.segmenter import FewShotSegmenter

if TYPE_CHECKING:
    from napari_fewshot.models.cache import FeatureCache

__all__ = ["BackboneCard", "MethodCard", "list_backbones", "list_segmenters", "load_segmenter"]


def load_segmenter(
    method: str = "auto",
    *,
    backbone: str = "auto",
    device: str = "auto",
    cache: "FeatureCache | None" = None,
) -> FewShotSegmenter:
    """Put a segmenter together.

    Parameters
    ----------
    method
        Name of a card of `list_segmenters`.
    backbone
        Name of a card of `list_backbones`, or "auto": the best that needs no download.
    device
        "auto" (cuda, else mps, else cpu), or what torch knows, such as "cuda:1".
    cache
        Where features are kept; by default a gibibyte of memory of its own.

    Raises
    ------
    SettingsError
        If there is no such method, backbone or device.
    WeightsError
        If the backbone needs weights that are not here and cannot be downloaded.

    Examples
    --------
    >>> load_segmenter("panet", device="cpu").name
    'panet on scale-space (cpu)'
    """
    from napari_fewshot.models.loading import load

    return load(method, backbone, device, cache)
