"""Teaching: from what is painted, boxed or said on a slice to what is learnt from. Knows neither Qt nor napari."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_fewshot.boxes import Box, box_labels, guessed_pixels
from napari_fewshot.errors import MaskError, SupportError
from napari_fewshot.frames import FrameKey, image_name
from napari_fewshot.models.registry import list_segmenters
from napari_fewshot.session import Session
from napari_fewshot.support import BACKGROUND, UNLABELLED, Shot, Tag
from napari_fewshot.ui.actions import Action
from napari_fewshot.ui.keymap import with_key
from napari_fewshot.ui.layer_sync import LabelMap, LayerSync
from napari_fewshot.ui.objects import Objects
from napari_fewshot.ui.palette import Palette
from napari_fewshot.ui.ports import PAINTED_BACKGROUND, Layers
from napari_fewshot.ui.proposing import Proposing
from napari_fewshot.ui.reporting import Reporter

Unpainted = Literal["automatic", "background", "unknown"]
"""What unpainted pixels of a taught slice mean."""


class Teaching:
    """Makes shots and tags of what a person does.

    Parameters
    ----------
    session
        Learns from them.
    layers, sync
        Have what was painted.
    palette
        Knows what is in boxes.
    proposing
        Makes open proposals anew.
    reporter
        Told what a person should know.
    objects
        Knows what was numbered.
    """

    def __init__(
        self,
        session: Session,
        layers: Layers,
        sync: LayerSync,
        palette: Palette,
        proposing: Proposing,
        reporter: Reporter,
        objects: Objects,
    ) -> None:
        self.unpainted: Unpainted = "automatic"
        self._session, self._layers, self._sync = session, layers, sync
        self._palette, self._proposing, self._reporter, self._objects = palette, proposing, reporter, objects

    def teach(self) -> None:
        """Learn from what is painted, or in boxes, on the slice on screen.

        Raises
        ------
        SupportError
            If there is nothing.
        """
        key = self._sync.shown()
        self._sync.ensure_labels(image_name(key))
        self._sync.take_objects(key)
        painted = self._sync.painted(key)
        boxes = self.boxes(key)
        if boxes:
            self._layers.keep_boxes(key, self._palette.box_class)
        if not painted.any() and not boxes:
            self._palette.take_brush()
            raise SupportError(
                f"nothing is painted on '{self._layers.name(key)}'; paint an example of what you look for, "
                f"or press {with_key(Action.NOTHING_HERE)} if there is none on it"
            )
        labels, guessed = shot_labels(painted, self.unpainted, boxes), None
        if boxes:
            all_boxed = not _is_unknown(painted, self.unpainted)
            guessed = guessed_pixels(labels, all_boxed=all_boxed) & (painted == 0)  # type: ignore[arg-type]
        self._teach(key, labels, guessed)
        missing = self._session.support.unpainted
        if missing and self._session.support.class_ids:
            names = ", ".join(f"'{c.name}'" for c in missing)
            self._reporter.say(f"Taught. {names} is painted nowhere yet: nothing will be proposed for it.")

    def nothing_here(self) -> None:
        """Teach that the slice on screen holds none of the classes.

        Raises
        ------
        MaskError
            If something is painted or boxed on it.
        """
        key = self._sync.shown()
        self._sync.ensure_labels(image_name(key))
        painted = self._sync.painted(key)
        if ((painted != 0) & (painted != PAINTED_BACKGROUND)).any():
            raise MaskError(
                f"there is something painted on '{self._layers.name(key)}'; erase it first, "
                f"or teach it with {with_key(Action.TEACH)}"
            )
        if self.boxes(key):
            raise MaskError(
                f"there are boxes on '{self._layers.name(key)}'; delete them first, "
                f"or teach them with {with_key(Action.TEACH)}"
            )
        self._teach(key, np.zeros_like(painted))

    def _teach(self, key: FrameKey, labels: LabelMap, guessed: npt.NDArray[np.bool_] | None = None) -> None:
        self._sync.take_corrections(key)
        ids = self._objects.of(key, labels)
        shot = Shot(self._sync.read_frame(key), labels, guessed, ids)  # type: ignore[arg-type] # numbers of any kind
        self._session.teach(shot)
        self._sync.show_proposals([key])  # what is open there still has what was painted over it
        self._palette.follow()
        self._proposing.refresh(key)
        self._proposing.prepare()

    def boxes(self, key: FrameKey) -> Sequence[Box]:
        """Return the boxes that are drawn at a frame."""
        return self._layers.boxes(key, self._palette.box_class)

    # ------------------------------------------------------------------ what slices contain
    def say_contains(self, class_id: int, contained: bool) -> None:
        """Say whether the slice on screen contains a class, without saying where."""
        key = self._sync.shown()
        tag = self._session.support.tag(key)
        before = set() if tag is None else set(tag.class_ids)
        after = before | {class_id} if contained else before - {class_id}
        if after:
            self._session.tag(Tag(self._sync.read_frame(key), tuple(after)))
        else:
            self._session.untag(key)
        if after != before and self.takes_tags:
            self._proposing.refresh(key)

    @property
    def takes_tags(self) -> bool:
        """Whether the method in use learns from what slices are said to contain."""
        return self._session.settings.method in _taking_tags()

    def contained(self, uid: str) -> str:
        """Say what slices of an image are said to contain, in words."""
        tags = [tag for tag in self._session.support.tags if image_name(tag.key) == uid]
        if not tags:
            return ""
        ids = sorted({class_id for tag in tags for class_id in tag.class_ids})
        words = f"contains {', '.join(map(self._palette.name, ids))}"
        if not isinstance(tags[0].key, str) and len(tags[0].key) > 1:
            words += f" on {'1 slice' if len(tags) == 1 else f'{len(tags)} slices'}"
        return words

    @property
    def tag_note(self) -> str:
        """Why nothing is made of what slices are said to contain, in words, or ""."""
        support = self._session.support
        if not support.tags:
            return ""
        if not self.takes_tags:
            names = " or ".join(f"'{name}'" for name in _taking_tags())
            return (
                f"The method '{self._session.settings.method}' makes no use of what slices contain. "
                f"Choose {names} under Advanced to learn from it."
            )
        missing = [c.name for c in support.unpainted if c.id in support.tagged_ids]
        if not missing:
            return ""
        names = ", ".join(f"'{name}'" for name in missing)
        return f"{names} is painted nowhere yet: that slices contain it is of no use before you teach one example."


def _taking_tags() -> tuple[str, ...]:
    """Names of the methods that learn from what slices are said to contain."""
    return tuple(card.name for card in list_segmenters() if "tags" in card.accepts)


def shot_labels(painted: LabelMap, unpainted: Unpainted, boxes: Sequence[Box] = ()) -> LabelMap:
    """Turn a slice of a labels layer, and boxes drawn over it, into the labels of a shot.

    Parameters
    ----------
    painted
        (H, W): 0 where nobody painted, 254 for painted background, otherwise classes.
    unpainted
        What 0 means; "automatic" is unknown where background was painted, background otherwise.
    boxes
        See `box_labels`; where unpainted pixels are background, everything has its box. Paint stands over boxes.
    """
    background = painted == PAINTED_BACKGROUND
    unknown = _is_unknown(painted, unpainted)
    if boxes:
        boxed = box_labels((painted.shape[0], painted.shape[1]), boxes, all_boxed=not unknown)
        np.copyto(boxed, painted, where=(painted != 0) & ~background, casting="unsafe")
        np.copyto(boxed, BACKGROUND, where=background)
        return boxed
    labels = painted.copy() if np.can_cast(np.uint8, painted.dtype) else painted.astype(np.int32)
    if unknown:
        np.copyto(labels, UNLABELLED, where=painted == 0)
    np.copyto(labels, BACKGROUND, where=background)
    return labels


def _is_unknown(painted: LabelMap, unpainted: Unpainted) -> bool:
    """Whether nothing is known of unpainted pixels."""
    return unpainted == "unknown" or (unpainted == "automatic" and bool((painted == PAINTED_BACKGROUND).any()))
