"""Pictures of how good it is, drawn by matplotlib without a window of its own. Knows no Qt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from napari_fewshot.evaluation.learning_curve import LearningCurve
from napari_fewshot.support import LabelClass

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI: Final = 100
_ROW: Final = 26.0
"""Height of the line of a class, in points of the screen, beside what axes need."""
_AXIS: Final = 52.0
_CURVE: Final = 190.0


@dataclass(frozen=True)
class Look:
    """How a picture is drawn, so that it goes with the window around it.

    Attributes
    ----------
    width
        In points of the screen.
    ratio
        Pixels to a point.
    ink, ground
        ``#rrggbb`` of text and of what is behind it.
    font
        Height of letters, in points of the screen.
    """

    width: float
    ratio: float = 1.0
    ink: str = "#f0f1f2"
    ground: str = "#262930"
    font: float = 12.0


def class_picture(classes: Sequence[tuple[LabelClass, Sequence[float]]], look: Look) -> npt.NDArray[np.uint8]:
    """Draw the IoU of each class on each image that was left out, and its mean.

    Returns
    -------
    array
        (H, W, 4) uint8, RGBA.
    """
    axes, finish = _begun(look, _AXIS + _ROW * look.font / 12 * len(classes))
    for row, (each, ious) in enumerate(classes):
        axes.plot(ious, np.full(len(ious), row), "o", color=each.colour, alpha=0.75, markersize=6, clip_on=False)
        mean = sum(ious) / len(ious)
        axes.plot([mean, mean], [row - 0.32, row + 0.32], color=look.ink, linewidth=2)
        axes.annotate(
            f"{mean:.2f}",
            (1.04, row),
            xycoords=("axes fraction", "data"),
            va="center",
            color=look.ink,
            annotation_clip=False,
        )
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.set_yticks(range(len(classes)), [_short(each.name) for each, _ in classes])
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1)
    axes.set_xlabel("IoU of each image, when left out")
    return finish()


def curve_picture(curve: LearningCurve, look: Look) -> npt.NDArray[np.uint8]:
    """Draw quality against the number of images, with the interval of 90 % and what one more would bring.

    Returns
    -------
    array
        (H, W, 4) uint8, RGBA.
    """
    from matplotlib.ticker import MaxNLocator  # slow to import, and the dock opens without

    axes, finish = _begun(look, _CURVE)
    sizes, seen = np.array(curve.sizes), curve.shots
    axes.fill_between(sizes, curve.low, curve.high, color="#3182bd", alpha=0.25, linewidth=0)
    axes.plot(sizes[:seen], curve.fitted[:seen], color="#4a9bd6", linewidth=2)
    axes.plot(sizes[seen - 1 :], curve.fitted[seen - 1 :], color="#4a9bd6", linewidth=2, linestyle=(0, (3, 2)))
    axes.plot(list(curve.measured), list(curve.measured.values()), "o", color=look.ink, markersize=5)
    axes.axvline(seen, color=look.ink, linewidth=1, alpha=0.5)
    lowest = min(*curve.measured.values(), *curve.low)
    axes.set_ylim(max(0.0, lowest - 0.08), 1.0)
    axes.annotate(
        "now", (seen, 1), xycoords=("data", "axes fraction"), xytext=(4, -4), textcoords="offset points",
        va="top", color=look.ink,
    )  # fmt: skip
    axes.set_xlim(0.7, sizes[-1] + 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("images taught")
    axes.set_ylabel("IoU")
    return finish()


def _begun(look: Look, height: float) -> "tuple[Axes, Callable[[], npt.NDArray[np.uint8]]]":
    """Axes in the colours of the window, and what makes pixels of them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and the dock opens without
    from matplotlib.figure import Figure

    points = 72 / _DPI  # of matplotlib, to a point of the screen
    figure = Figure(
        figsize=(look.width / _DPI, height / _DPI), dpi=_DPI * look.ratio, facecolor=look.ground, layout="constrained"
    )
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=look.ground)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(look.ink)
    axes.tick_params(colors=look.ink, labelsize=0.9 * look.font * points)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(look.ink)
        axis.label.set_fontsize(look.font * points)
    axes.grid(visible=True, axis="both", color=look.ink, alpha=0.15)
    axes.set_axisbelow(True)

    def finish() -> npt.NDArray[np.uint8]:
        for text in axes.texts:
            text.set_fontsize(look.font * points)
        canvas.draw()  # type: ignore[no-untyped-call]
        return np.array(canvas.buffer_rgba(), np.uint8)  # type: ignore[no-untyped-call]

    return axes, finish


def _short(name: str, most: int = 16) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
