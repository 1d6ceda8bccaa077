"""Choices of what is labelled and how proposals are made, and what follows from them. Knows neither Qt nor napari."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from napari_fewshot.frames import image_name
from napari_fewshot.segmenter import SegmenterSettings
from napari_fewshot.session import Session
from napari_fewshot.ui.forecast import Forecast
from napari_fewshot.ui.layer_sync import LayerSync
from napari_fewshot.ui.ports import Layers
from napari_fewshot.ui.proposing import Proposing
from napari_fewshot.ui.prospects import Prospects
from napari_fewshot.ui.review import Review
from napari_fewshot.ui.upkeep import Upkeep


class Choosing:
    """Takes choices in; what was made by other choices is made anew, or forgotten.

    Parameters
    ----------
    session
        Has frames and settings.
    layers, sync
        Know the images, and what was painted on them until now.
    proposing
        Makes open proposals anew, and prepares images.
    prospects, forecast
        Tell what a run would cost.
    upkeep
        Looks after kept features.
    review
        The table of all frames.
    """

    def __init__(
        self,
        session: Session,
        layers: Layers,
        sync: LayerSync,
        proposing: Proposing,
        prospects: Prospects,
        forecast: Forecast,
        upkeep: Upkeep,
        review: Review,
    ) -> None:
        self._session, self._layers, self._sync, self._proposing = session, layers, sync, proposing
        self._prospects, self._forecast, self._upkeep, self._review = prospects, forecast, upkeep, review

    # ------------------------------------------------------------------ images
    def follow_frames(self) -> None:
        """Follow the chosen images, with all that depends on which frames there are."""
        self._sync.follow_frames()
        self._forecast.follow(self._session.frames)
        self._review.follow()
        self._prospects.forget()

    def choose_image(self, uid: str, chosen: bool) -> None:
        """Label an image, or leave it alone."""
        self._sync.take_all_corrections()
        self._layers.choose(uid, chosen)
        self.follow_frames()
        self._proposing.prepare()

    def set_channel_axis(self, uid: str, axis: int | None) -> None:
        """Say which axis of an image holds channels. What was taught on it before no longer fits and is forgotten."""
        self._sync.take_all_corrections()
        self._layers.set_channel_axis(uid, axis)
        for key in [key for key in self._session.support.keys if image_name(key) == uid]:
            self._session.forget(key)
        for tag in [tag for tag in self._session.support.tags if image_name(tag.key) == uid]:
            self._session.untag(tag.key)
        self.follow_frames()

    def set_depth_axis(self, uid: str, axis: int | None) -> None:
        """Say which axis of an image is its depth."""
        self._layers.set_depth_axis(uid, axis)
        self._session.add_frames(self._layers.frames())
        if self._session.propagation.volume.are_used:
            self._propose_anew()

    # ------------------------------------------------------------------ how proposals are made
    def use_settings(self, settings: SegmenterSettings) -> None:
        """Work with another method, backbone or device from the next run on."""
        self._upkeep.pause()
        self._session.use(settings)
        self._prospects.forget()
        self._proposing.prepare()

    def separate_objects(self, separate: bool) -> None:
        """Say whether objects that touch are told apart; open proposals are made anew."""
        self._sync.take_all_corrections()
        self._session.use(replace(self._session.settings, instances=separate))
        self._prospects.forget()
        self._proposing.refresh(self._sync.shown_or_none())

    def use_propagation(self, changed: Mapping[str, Any]) -> None:
        """Make proposals in another way from the next run on: fields of `PropagationSettings` that change."""
        before = self._session.propagation
        self._session.propagation = replace(before, **changed)
        if self._session.propagation.volume != before.volume:  # each slice is seen beside others now, or no longer
            self._propose_anew()

    def _propose_anew(self) -> None:
        self._sync.take_all_corrections()
        self._proposing.refresh(self._sync.shown_or_none())

    # ------------------------------------------------------------------ what is kept
    def set_limits(self, memory_gib: float, disk_gib: float) -> None:
        """Keep no more than this of what was computed, in memory and on the disk."""
        self._prospects.forget()
        self._upkeep.set_limits(memory_gib, disk_gib)
        self._proposing.prepare()

    def clear_features(self) -> None:
        """Give up what was computed."""
        self._prospects.forget()
        self._upkeep.clear()

    def set_prepare(self, prepare: bool) -> None:
        """Say whether images are prepared while somebody paints."""
        self._upkeep.set_prepare(prepare)
        self._proposing.prepare()
