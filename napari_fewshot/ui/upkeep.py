"""What goes on beside the main job: features that are kept, images prepared while somebody paints. Knows no Qt."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from psygnal import Signal

from napari_fewshot.errors import FewShotError
from napari_fewshot.frames import FrameKey
from napari_fewshot.models.cache_settings import CacheUsage
from napari_fewshot.session import FrameState, Session
from napari_fewshot.ui.forecast import Forecast, exceeds, size
from napari_fewshot.ui.jobs import Failed, Prepared, prepare_job, tidy_job
from napari_fewshot.ui.ports import Features, Runner
from napari_fewshot.ui.preferences import Preferences


class Upkeep:
    """Keeps features within the limits that a person gave, and prepares images in the background.

    Parameters
    ----------
    session
        Has the images and the segmenter.
    forecast
        Told what was computed, asked what would be too much.
    features
        What is kept.
    preparer
        A thread to prepare images in.
    keeper
        A thread for what may wait for the disk.
    preferences
        What was chosen, to begin with.
    remember
        Keeps what was chosen for another day.
    """

    changed = Signal()
    """There is something new to show."""

    def __init__(
        self,
        session: Session,
        forecast: Forecast,
        features: Features,
        preparer: Runner,
        keeper: Runner,
        preferences: Preferences,
        remember: Callable[[Preferences], None],
    ) -> None:
        self.features = features
        self.preferences = preferences
        self.usage = CacheUsage(0, 0, 0)
        self.trouble = ""
        self._session, self._forecast = session, forecast
        self._preparer, self._keeper, self._remember = preparer, keeper, remember
        self._preparing: tuple[FrameKey, ...] = ()

    # ------------------------------------------------------------------ limits
    @property
    def kept(self) -> str:
        """What the kept features take, in words."""
        return f"Kept: {size(self.usage.memory_bytes)} in memory, {size(self.usage.disk_bytes)} on disk"

    def set_limits(self, memory_gib: float, disk_gib: float) -> None:
        """Keep no more than this from now on; 0 = nothing."""
        self.preferences = replace(self.preferences, memory_gib=memory_gib, disk_gib=disk_gib)
        self.features.limit(self.preferences.cache)
        self.look()
        self._remember(self.preferences)

    def clear(self) -> None:
        """Give up everything that is kept."""
        self.pause()
        self._forecast.forget()
        self.features.clear()
        self.look()

    def look(self) -> None:
        """Do what was asked for, and see what is taken."""
        self._keeper.start(partial(tidy_job, self.features), self._receive_usage, 0)

    def _receive_usage(self, item: object) -> None:
        match item:
            case CacheUsage():
                self.usage = item
            case Failed():
                self.trouble = _told(item.error)
        self.changed.emit()

    # ------------------------------------------------------------------ preparing
    def set_prepare(self, prepare: bool) -> None:
        """Say whether images are prepared while somebody paints."""
        self.preferences = replace(self.preferences, prepare=prepare)
        if not prepare:
            self.pause()
        self._remember(self.preferences)

    def prepare(self, first: FrameKey | None) -> None:
        """Prepare the images in the background, the one on screen and its neighbours first.

        Goes on with what it is at where the image on screen is ready, or comes next.
        """
        waiting = self._waiting(first)
        if not waiting or not self.preferences.prepare or self.not_preparing:
            self.pause()
        elif not self._preparing or self._preparing[0] != waiting[0]:
            settings = self._session.settings
            frames = [self._session.frame(key) for key in waiting]
            self._preparing = waiting
            self._preparer.start(
                partial(
                    prepare_job, self._session.segmenter, frames, lambda: not self.features.needs_download(settings)
                ),
                self._receive_prepared,
                0,
            )

    def pause(self) -> None:
        """Stop preparing."""
        if self._preparing:
            self._preparing = ()
            self._preparer.stop()

    @property
    def not_preparing(self) -> str:
        """Why preparing would be of no use, or ""."""
        cost = self._forecast.estimate(self._session.settings, self.features.settings, self._session.frames, 1)
        if cost is None or not exceeds(cost, self.features.settings):
            return ""
        return (
            f"Not prepared: what is computed for these images takes {size(cost.feature_bytes)}, "
            "more than the limits below allow to keep."
        )

    def _waiting(self, first: FrameKey | None) -> tuple[FrameKey, ...]:
        settings = self._session.settings
        undecided = (FrameState.UNTOUCHED, FrameState.TAUGHT, FrameState.REJECTED)
        return tuple(
            key
            for key in self._session.in_order_from(first)
            if not self._forecast.is_known(settings, key) and self._session.state(key) in undecided
        )

    def _receive_prepared(self, item: object) -> None:
        match item:
            case Prepared():
                self._preparing = tuple(key for key in self._preparing if key != item.key)
                self._forecast.computed(self._session.settings, item.key)
                if not self._preparing:
                    self.look()
            case Failed():
                self._preparing = ()
                self.trouble = f"Images are not prepared in the background: {_told(item.error)}"
        self.changed.emit()


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, FewShotError) else f"{type(error).__name__}: {error}"
