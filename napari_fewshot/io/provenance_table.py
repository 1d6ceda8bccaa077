"""Tables of provenance: who labelled how many pixels of each frame."""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path

from napari_fewshot.errors import ExportError
from napari_fewshot.io.atomic import replacing
from napari_fewshot.provenance import FrameProvenance


def write_provenance(path: str | Path, frames: Iterable[FrameProvenance], *, overwrite: bool = False) -> None:
    """Write a row for each frame as CSV or JSON.

    Parameters
    ----------
    path
        Its suffix says which: ``.csv`` or ``.json``.
    frames
        See `Session.provenance`.
    overwrite
        Whether a file that is there already may be replaced.

    Raises
    ------
    ExportError
        If the suffix is another, the file exists, or it cannot be written.
    """
    path = Path(path)
    rows = [each.row() for each in frames]
    suffix = path.suffix.lower()
    if suffix == ".json":
        content = json.dumps(rows, ensure_ascii=False, indent=1)
    elif suffix == ".csv":
        content = _csv(rows)
    else:
        raise ExportError(f"'{path.name}' is no table; let its name end in .csv or .json")
    with replacing(path, overwrite=overwrite) as file:
        file.write(content.encode())


def _csv(rows: list[dict[str, str | int | float | None]]) -> str:
    if not rows:
        return ""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
