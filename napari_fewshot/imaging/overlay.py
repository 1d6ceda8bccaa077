"""Pictures of label maps: masks drawn over their image, and several of them on one sheet with captions."""

from collections.abc import Mapping, Sequence
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from skimage.transform import resize

from napari_fewshot.frames import Image, Labels
from napari_fewshot.imaging.intensity import is_colour, to_unit_range
from napari_fewshot.support import UNLABELLED, LabelClass

Picture: TypeAlias = npt.NDArray[np.uint8]
"""(H, W, 3) red, green, blue."""

Colours: TypeAlias = Mapping[int, str]
"""Class id -> ``#rrggbb``."""

_PAPER: Final = (24, 24, 27)
_INK: Final = (236, 236, 240)
_FAINT: Final = (161, 161, 170)
_MARGIN: Final = 16  # pixels, as all sizes below
_GAP: Final = 10
_FRAME: Final = 3


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of a sheet.

    Attributes
    ----------
    picture
        (H, W, 3) uint8.
    caption
        Shown above it.
    mark
        ``#rrggbb`` of a frame around it, or "" for none.
    """

    picture: Picture
    caption: str = ""
    mark: str = ""


def as_picture(image: Image, size: tuple[int, int] | None = None) -> Picture:
    """Show an image of any kind in colours a screen has.

    Parameters
    ----------
    image
        (H, W) or (H, W, channels), any real data type. Colour pictures stay as they are, one channel becomes gray,
        of several channels the first three become red, green and blue.
    size
        (height, width) to enlarge or shrink it to, in pixels.

    Returns
    -------
    Picture
        (H, W, 3) uint8.
    """
    if is_colour(image):
        picture = np.asarray(image, np.uint8)
    else:
        planes = to_unit_range(image)[:3]  # (1..3, H, W)
        if len(planes) == 1:
            planes = np.repeat(planes, 3, axis=0)
        elif len(planes) == 2:
            planes = np.concatenate([planes, np.zeros_like(planes[:1])])
        picture = np.round(255 * np.clip(np.moveaxis(planes, 0, -1), 0, 1)).astype(np.uint8)
    if size is not None and size != picture.shape[:2]:
        picture = np.round(resize(picture, size, order=1, preserve_range=True, anti_aliasing=True)).astype(np.uint8)
    return np.ascontiguousarray(picture)


def enlarged(labels: Labels, size: tuple[int, int]) -> Labels:
    """Bring a label map to another (height, width); every pixel takes the label of the nearest one."""
    rows, columns = (np.arange(to) * have // to for to, have in zip(size, labels.shape, strict=True))
    return np.asarray(labels[rows[:, None], columns[None, :]], np.int32)


def outlines(labels: Labels, width: int = 1) -> npt.NDArray[np.bool_]:
    """Find the outlines of all classes; between two classes there is one line, on the side of the higher id.

    Parameters
    ----------
    labels
        (H, W); 0 and 255 have no outline of their own.
    width
        In pixels, towards the inside. The edge of the image is no outline.

    Returns
    -------
    numpy.ndarray
        (H, W) True on outlines.
    """
    classes = np.where(labels == UNLABELLED, 0, labels)
    padded = np.pad(classes, width, mode="edge")
    height, across = classes.shape
    found = np.zeros(classes.shape, bool)
    for dy in range(-width, width + 1):
        for dx in range(-width, width + 1):
            if dy * dy + dx * dx <= width * width:
                found |= padded[width + dy : width + dy + height, width + dx : width + dx + across] < classes
    return found


def overlay(picture: Picture, labels: Labels, colours: Colours, *, opacity: float = 0.35, width: int = 1) -> Picture:
    """Draw a label map over its image: classes tinted, their outlines solid.

    Parameters
    ----------
    picture
        (H, W, 3) uint8.
    labels
        (H, W); 0 (background) and 255 (unknown) are not drawn, nor are classes without a colour.
    colours
        Colour of each class.
    opacity
        Of the tint, 0 to 1.
    width
        Of the outlines in pixels; 0 draws none.

    Returns
    -------
    Picture
        A new picture.

    Examples
    --------
    >>> picture, labels = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.int32)
    >>> labels[2:6, 2:6] = 1
    >>> overlay(picture, labels, {1: "#ff0000"})[2, 2].tolist()
    [255, 0, 0]
    """
    drawn = picture.astype(np.float32)
    edge = outlines(labels, width) if width else np.zeros(labels.shape, bool)
    for class_id, colour in colours.items():
        here = labels == class_id
        rgb = np.array(_rgb(colour), np.float32)
        drawn[here] += opacity * (rgb - drawn[here])
        drawn[here & edge] = rgb
    return np.round(drawn).astype(np.uint8)


def distinct_colours(number: int) -> dict[int, str]:
    """Return colours for the ids 1 to ``number``, those of ids that follow each other far apart in hue.

    >>> distinct_colours(2)
    {1: '#4078ff', 2: '#afff40'}
    """
    golden = (5**0.5 - 1) / 2  # its multiples are spread over the circle, however many there are
    found = {}
    for i in range(1, number + 1):
        rgb = hsv_to_rgb(i * golden % 1, 0.75, 1.0)
        found[i] = "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
    return found


def beside(*pictures: Picture, gap: int = 2) -> Picture:
    """Put pictures of one height next to each other."""
    strip = np.full((pictures[0].shape[0], gap, 3), _PAPER, np.uint8)
    parts = [part for picture in pictures for part in (strip, picture)][1:]
    return np.concatenate(parts, axis=1)


def sheet(
    panels: Sequence[Panel],
    columns: int,
    *,
    title: str = "",
    note: str = "",
    classes: Sequence[LabelClass] = (),
    marks: Mapping[str, str] | None = None,
) -> Picture:
    """Put pictures on one sheet, with captions, a title and a legend.

    Parameters
    ----------
    panels
        Row by row; all get the room of the largest.
    columns
        Panels in a row.
    title
        Above everything.
    note
        A smaller line below the title.
    classes
        For the legend: what the colours stand for.
    marks
        For the legend: what the frames around pictures stand for, ``#rrggbb`` -> words.

    Returns
    -------
    Picture
        (H, W, 3) uint8, as wide as its panels and its text need.
    """
    if not panels:
        raise ValueError("a sheet needs at least one panel")
    columns = min(columns, len(panels))
    large, medium, small = (ImageFont.load_default(size) for size in (22, 15, 14))
    cell_height = max(panel.picture.shape[0] for panel in panels)
    cell_width = max(*(panel.picture.shape[1] for panel in panels), *(_width(panel.caption, small) for panel in panels))
    legend = [(c.colour, c.name, True) for c in classes] + [(k, v, False) for k, v in (marks or {}).items()]
    legend_width = sum(34 + _width(words, small) for _, words, _ in legend)
    rows = -(-len(panels) // columns)
    head = _MARGIN + 30 * bool(title) + 22 * bool(note) + 28 * bool(legend) + 4
    step_x, step_y = cell_width + 2 * _FRAME + _GAP, cell_height + 2 * _FRAME + 20 + _GAP
    width = 2 * _MARGIN + max(columns * step_x - _GAP, _width(title, large), _width(note, medium), legend_width)
    paper = Pillow.new("RGB", (width, head + rows * step_y + _MARGIN - _GAP), _PAPER)
    draw = ImageDraw.Draw(paper)

    y = _MARGIN
    if title:
        draw.text((_MARGIN, y), title, _INK, large)
        y += 30
    if note:
        draw.text((_MARGIN, y), note, _FAINT, medium)
        y += 22
    x = _MARGIN
    for colour, words, filled in legend:
        box = (x, y + 4, x + 14, y + 18)
        draw.rectangle(box, fill=colour if filled else None, outline=colour, width=_FRAME)
        draw.text((x + 20, y + 3), words, _INK, small)
        x += 34 + _width(words, small)
    for number, panel in enumerate(panels):
        x, y = _MARGIN + step_x * (number % columns), head + step_y * (number // columns)
        height, across = panel.picture.shape[:2]
        draw.text((x + _FRAME, y), panel.caption, _INK, small)
        if panel.mark:
            box = (x, y + 20, x + across + 2 * _FRAME - 1, y + 20 + height + 2 * _FRAME - 1)
            draw.rectangle(box, outline=panel.mark, width=_FRAME)
        paper.paste(Pillow.fromarray(panel.picture), (x + _FRAME, y + 20 + _FRAME))
    return np.asarray(paper, np.uint8)


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def _width(words: str, font: "ImageFont.ImageFont | ImageFont.FreeTypeFont") -> int:
    return int(np.ceil(font.getlength(words)))
