"""Who labelled what, beside exported labels: an image of origins for each, and a table of all. No Qt in here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_fewshot.frames import FrameKey
from napari_fewshot.io.formats import write_labels
from napari_fewshot.io.label_stack import LabelStack
from napari_fewshot.io.provenance_table import write_provenance
from napari_fewshot.label_values import BACKGROUND
from napari_fewshot.provenance import COLOURS, FrameProvenance, Origin, OriginMap, count, in_a_word
from napari_fewshot.session import Session
from napari_fewshot.support import LabelClass
from napari_fewshot.ui.jobs import Written

_CLASSES = tuple(LabelClass(origin.value, origin.title, colour) for origin, colour in COLOURS.items())


@dataclass(frozen=True, eq=False)
class Origins:
    """What is to be written.

    Attributes
    ----------
    images
        Files, and origins as labels.
    table
        The file of the table.
    rows
        Of all frames.
    """

    images: Sequence[tuple[Path, LabelStack]]
    table: Path
    rows: Sequence[FrameProvenance]

    def write(self, *, overwrite: bool) -> Iterator[object]:
        """Write all files, yielding each."""
        for path, stack in self.images:
            for written in write_labels(path, stack, format="tiff", overwrite=overwrite):
                yield Written(written)
        write_provenance(self.table, self.rows, overwrite=overwrite)
        yield Written(self.table)


def origins_of(
    session: Session, exported: Sequence[tuple[Path, LabelStack, Mapping[FrameKey, tuple[int, ...]]]], table: Path
) -> Origins:
    """Find out who labelled what is exported.

    Parameters
    ----------
    session
        Knows what was taught, proposed and decided.
    exported
        The file for the origins of an image, what is on its labels layer, and where in this its frames are.
    table
        The file of the table.
    """
    images, known = [], {}
    for path, stack, positions in exported:
        origins = np.zeros(stack.labels.shape, np.uint8)
        for key, position in positions.items():
            known[key] = origins[position] = _origins(session, key, np.asarray(stack.labels[position]))
        images.append((path, replace(stack, labels=origins, classes=_CLASSES, notes=None)))
    rows = [_counted(row, known[row.key]) if row.key in known else row for row in session.provenance()]
    return Origins(images, table, rows)


def _origins(session: Session, key: FrameKey, painted: npt.NDArray[np.integer[Any]]) -> OriginMap:
    """What the session says, and what is painted without being taught, which lies above every proposal."""
    origins = session.origins(key)
    said = np.zeros(painted.shape, np.uint8) if origins is None else origins
    by_hand = (painted != BACKGROUND) & np.isin(said, (Origin.NONE, Origin.MODEL))
    return np.where(by_hand, Origin.HUMAN, said).astype(np.uint8)


def _counted(row: FrameProvenance, origins: OriginMap) -> FrameProvenance:
    pixels = count(origins) if origins.any() else row.pixels
    return replace(row, pixels=pixels, origin=in_a_word(pixels))
