"""Teaching on a cut through a stack: somebody rolled the axes and paints on xz. Knows neither Qt nor napari."""

from dataclasses import replace

import numpy as np

from napari_fewshot.errors import SupportError
from napari_fewshot.frames import image_name
from napari_fewshot.session import FrameState, Session
from napari_fewshot.support import BACKGROUND, UNLABELLED, Shot
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.axes import Cut
from napari_fewshot.ui.keymap import with_key
from napari_fewshot.ui.layer_sync import LayerSync
from napari_fewshot.ui.palette import Palette
from napari_fewshot.ui.ports import PAINTED_BACKGROUND, Layers
from napari_fewshot.ui.proposing import Proposing
from napari_fewshot.ui.teaching import Teaching, shot_labels
from napari_fewshot.volumes.views import shots_across


class Cuts:
    """Makes shots of what is painted on a cut: of each slice that it crosses, one row or column of pixels.

    Parameters
    ----------
    session
        Learns from them.
    layers, sync
        Have what was painted.
    palette
        Knows the brush.
    teaching
        Knows what unpainted pixels mean.
    proposing
        Makes open proposals anew.
    """

    def __init__(
        self,
        session: Session,
        layers: Layers,
        sync: LayerSync,
        palette: Palette,
        teaching: Teaching,
        proposing: Proposing,
    ) -> None:
        self._session, self._layers, self._sync = session, layers, sync
        self._palette, self._teaching, self._proposing = palette, teaching, proposing

    @property
    def shown(self) -> Cut | None:
        """The cut on screen, None where slices are looked at."""
        cut = self._layers.cut()
        return cut if cut is not None and all(key in self._session.frames for key in cut.keys) else None

    def is_painted(self, cut: Cut) -> bool:
        """Whether anything is painted on a cut."""
        return self._layers.is_cut_painted(cut)

    def teach(self, cut: Cut) -> None:
        """Learn from what is painted on a cut; slices that are accepted, or taught in full, stay as they are.

        Raises
        ------
        SupportError
            If nothing is painted on it.
        MaskError
            If nothing of it is new.
        """
        self._sync.ensure_labels(image_name(cut.keys[0]))
        painted = np.stack([cut.line_of(self._sync.painted(key)) for key in cut.keys])  # (slices, W) or (slices, H)
        if not painted.any():
            self._palette.take_brush()
            raise SupportError(f"nothing is painted on {cut.name}; paint an example of what you look for, and teach it")
        labels = shot_labels(painted, self._teaching.unpainted).astype(np.int32)
        labels[[self._session.state(key) is FrameState.ACCEPTED for key in cut.keys]] = UNLABELLED
        frames = [self._session.frame(key) for key in cut.keys]
        shots = [
            replace(shot, frame=self._sync.read_frame(shot.key))
            for shot in shots_across(frames, cut.across, cut.index, labels, self._session.support)
        ]
        self._sync.take_all_corrections()
        self._session.teach_many(shots)
        for shot in shots:
            self._show(cut, shot)
        self._sync.show_proposals([shot.key for shot in shots])
        self._palette.follow()
        self._proposing.refresh(None)
        self._proposing.prepare()

    def _show(self, cut: Cut, shot: Shot) -> None:
        """Paint the background that was taught: else all that is not painted would seem to be, on the slice."""
        painted = self._sync.painted(shot.key)
        line, said = cut.line_of(painted), cut.line_of(shot.said)
        line[(line == 0) & (said == BACKGROUND)] = PAINTED_BACKGROUND
        self._layers.restore_painted(shot.key, painted.astype(np.int32))

    def ask(self, cut: Cut) -> str:
        """Say what to do on a cut."""
        if self.is_painted(cut):
            return f"Paint the rest of what you look for on {cut.name}, then press {with_key(Action.TEACH)}."
        return (
            f"This is {cut.name}. Paint what you look for on it, and press {with_key(Action.TEACH)}; "
            "roll the axes back to look at slices."
        )
