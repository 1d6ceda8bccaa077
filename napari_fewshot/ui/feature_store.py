"""The features that the dock keeps. The cache is made where it is needed first, in a thread: torch comes with it."""

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Final

from napari_fewshot.models import licence_notice, load_segmenter
from napari_fewshot.models.cache_folder import CacheFolder
from napari_fewshot.models.cache_settings import CacheSettings, CacheUsage
from napari_fewshot.models.registry import backbone_card
from napari_fewshot.segmenter import FewShotSegmenter, SegmenterSettings

if TYPE_CHECKING:
    from napari_fewshot.models.cache import FeatureCache

_PATIENCE: Final = 10.0  # seconds


class FeatureStore:
    """One cache for all segmenters that the dock loads, and the limits that a person gives it.

    Parameters
    ----------
    settings
        Limits to begin with.
    """

    def __init__(self, settings: CacheSettings) -> None:
        self._wanted = settings
        self._applied = settings
        self._clear_wanted = False
        self._cache: FeatureCache | None = None
        self._lock = Lock()

    @property
    def settings(self) -> CacheSettings:
        """The limits."""
        return self._wanted

    @property
    def notice(self) -> str:
        """Why features are not kept on the disk just now, or ""."""
        cache = self._cache
        return (cache.notice or "") if cache is not None else ""

    # ------------------------------------------------------------------ asked for at once, done by `tidy`
    def limit(self, settings: CacheSettings) -> None:
        """Ask for other limits."""
        self._wanted = settings

    def clear(self) -> None:
        """Ask for everything to be given up."""
        self._clear_wanted = True

    # ------------------------------------------------------------------ for a thread
    def load(self, settings: SegmenterSettings) -> FewShotSegmenter:
        """Load a segmenter that keeps its features here; see `load_segmenter`."""
        return load_segmenter(
            settings.method, backbone=settings.backbone, device=settings.device, cache=self._open_cache(),
            instances=settings.instances,
        )  # fmt: skip

    def needs_download(self, settings: SegmenterSettings) -> bool:
        """Whether loading this segmenter would download weights."""
        if not backbone_card(settings.backbone).needs_weights:
            return False
        from napari_fewshot.models.loading import weights_source
        from napari_fewshot.models.weights import locate

        source = weights_source(settings.backbone)
        return source is not None and locate(source) is None

    def model_names(self) -> Sequence[str]:
        """Models of timm that there are trained weights for."""
        from napari_fewshot.models.backbones.timm_models import names

        return names()

    def terms(self, backbone: str) -> str:
        """What a person should know before using the weights of a backbone; see `licence_notice`."""
        return licence_notice(backbone)

    def tidy(self) -> CacheUsage:
        """Do what was asked for since the last time, and measure what is taken; may wait for the disk."""
        with self._lock:
            settings, is_new = self._wanted, self._wanted != self._applied
            self._applied = settings
            is_cleared, self._clear_wanted = self._clear_wanted, False
            cache = self._cache
        folder = CacheFolder(settings.features_folder, settings.disk_bytes)
        if cache is None:
            if is_cleared:
                folder.clear()
            elif is_new and folder.limit:
                folder.trim()
            files = folder.files()
            return CacheUsage(0, sum(file.size for file in files), sum(file.finished for file in files))
        if is_new:
            cache.apply(settings)
        if is_cleared:
            cache.clear()
        cache.flush(_PATIENCE)  # else what a run has just computed would be missing
        return cache.usage()

    def _open_cache(self) -> "FeatureCache":
        from napari_fewshot.models.cache import FeatureCache

        with self._lock:
            if self._cache is None:
                self._cache = FeatureCache.from_settings(self._wanted)
                self._applied = self._wanted
            return self._cache
