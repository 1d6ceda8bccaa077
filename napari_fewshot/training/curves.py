"""The learning curve as a picture: every loss by step."""

from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

from napari_fewshot.io.atomic import replacing
from napari_fewshot.training.loop import read_curve

PICTURE: Final = "curve.png"

_WIDEST_ON_A_PLAIN_AXIS: Final = 4
"""Ratio of the largest to the smallest loss from which on the axis is logarithmic."""


def draw_curve(folder: Path, title: str) -> Path | None:
    """Draw the learning curve of a folder into it, in the place of the one that was there.

    Parameters
    ----------
    folder
        Of the checkpoint; see `loop.train`.
    title
        Written above.

    Returns
    -------
    Path
        The picture; None where nothing has been reported yet.
    """
    entries = read_curve(folder)
    names = [name for name in (entries[-1] if entries else {}) if name not in ("step", "seconds_left")]
    if not names:
        return None
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for name in names:
        points = [(entry["step"], entry[name]) for entry in entries if name in entry]
        axes.plot(*zip(*points, strict=True), label=name, linewidth=1.2, marker="." if len(points) < 20 else "")
    values = [entry[name] for entry in entries for name in names if name in entry]
    if min(values) > 0 and max(values) > _WIDEST_ON_A_PLAIN_AXIS * min(values):
        axes.set_yscale("log")
    axes.set(title=title, xlabel="step", ylabel="loss")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False, fontsize="small")
    with replacing(folder / PICTURE, overwrite=True) as file:
        figure.savefig(file, format="png")
    return folder / PICTURE
