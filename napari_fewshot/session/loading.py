"""The segmenter that settings name, loaded when somebody needs it."""

from collections.abc import Callable, Mapping
from threading import Lock

from napari_fewshot.segmenter import FewShotSegmenter, SegmenterSettings


class LoadedSegmenter:
    """Loads what settings name when it is needed for the first time, in whatever thread, and never two at a time.

    Parameters
    ----------
    settings
        Which one.
    load
        Makes a segmenter of settings; by default `load_segmenter`.
    segmenter
        The one for these settings, if it is there already.
    """

    def __init__(
        self,
        settings: SegmenterSettings,
        load: Callable[[SegmenterSettings], FewShotSegmenter] | None = None,
        segmenter: FewShotSegmenter | None = None,
    ) -> None:
        self.settings = settings
        self._load = load or _load_segmenter
        self._loaded = None if segmenter is None else (settings, segmenter)
        self._weights: tuple[SegmenterSettings, Mapping[str, str]] = (settings, {})
        self._busy = Lock()

    def get(self) -> FewShotSegmenter:
        """Return the segmenter that the settings name by now."""
        with self._busy:
            settings = self.settings
            if self._loaded is None or self._loaded[0] != settings:
                self._loaded = None  # the memory of the old one is free before the new one needs some
                self._loaded = settings, self._load(settings)
                self._weights = settings, dict(getattr(self._loaded[1], "weights", {}))
            return self._loaded[1]

    @property
    def weights(self) -> Mapping[str, str]:
        """What identifies the weights that were used with these settings, by part; empty where none were yet."""
        settings, weights = self._weights
        return weights if settings == self.settings else {}

    def restore(self, settings: SegmenterSettings, weights: Mapping[str, str]) -> None:
        """Load what these settings name from now on; with them, these weights were used."""
        self.settings, self._weights = settings, (settings, weights)


def _load_segmenter(settings: SegmenterSettings) -> FewShotSegmenter:
    from napari_fewshot.models import load_segmenter  # torch comes with loading

    return load_segmenter(
        settings.method, backbone=settings.backbone, device=settings.device, instances=settings.instances
    )
