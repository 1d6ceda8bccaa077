"""Made images: leaves of many textures over each other, networks of fibres, cells; with labels of what is what.

Networks trained on such pictures alone learn features that carry over to photographs (Baradad et al., NeurIPS 2021,
"Learning to see by looking at noise", for dead leaves and statistical textures). Here every picture shows a few
*kinds* of thing on a ground; a kind has a shape, a size, a texture and a colour, and its things share one label.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.draw import disk, ellipse, line, polygon
from skimage.filters import gaussian

from napari_fewshot.training.pictures import Picture

_Floats = npt.NDArray[np.floating[Any]]
_Mask = npt.NDArray[np.bool_]

_MOST_KINDS: Final = 4
_SHAPES: Final = {"ellipse": 0.25, "blob": 0.3, "polygon": 0.15, "fibre": 0.2, "ring": 0.1}
"""Shapes of things, and how often each is drawn."""


@dataclass(frozen=True)
class Kind:
    """How the things of one label look.

    Attributes
    ----------
    shape
        "ellipse", "blob", "polygon", "fibre" or "ring".
    radius
        Mean, in pixels; of fibres, half their width.
    number
        Things per picture, about.
    texture
        Spectrum: (slope, finest, coarsest wavelength in pixels, orientation in radians or None).
    colour
        (3,) mean.
    contrast
        Of the texture.
    """

    shape: str
    radius: float
    number: int
    texture: tuple[float, float, float, float | None]
    colour: tuple[float, float, float]
    contrast: float


@dataclass(frozen=True)
class World:
    """A ground and the kinds of things on it: pictures of one world make one set.

    Attributes
    ----------
    ground
        Its texture and colour are what is behind everything.
    kinds
        The things of label 1, 2 ...
    gray
        Whether pictures have one channel.
    blur
        Sigma in pixels; 0 for none.
    noise
        Standard deviation of white noise, where the whole range of intensities is about 1.
    outline
        Added to the rims of things; 0 for none.
    """

    ground: Kind
    kinds: tuple[Kind, ...]
    gray: bool
    blur: float
    noise: float
    outline: float

    def picture(self, rng: np.random.Generator, size: int) -> Picture:
        """Draw one picture (size x size) with its labels."""
        image: _Floats = _textured(rng, self.ground, size)
        labels = np.zeros((size, size), np.uint8)
        things = [label for label, kind in enumerate(self.kinds, 1) for _ in range(max(1, rng.poisson(kind.number)))]
        for label in rng.permutation(things):
            kind = self.kinds[label - 1]
            mask = _shape(rng, kind, size)
            shade = float(rng.normal(0, 0.04))
            image[:, mask] = _textured(rng, kind, size)[:, mask] + shade
            if self.outline:
                edge = mask & ~ndimage.binary_erosion(mask, iterations=1 + int(kind.radius > 20))
                image[:, edge] += self.outline
            labels[mask] = label
        if self.blur:
            image = gaussian(image, self.blur, channel_axis=0)
        image = image * _illumination(rng, size) + rng.normal(0, self.noise, image.shape)
        low, high = np.percentile(image, (0.1, 99.9))
        pixels = ((image - low) / max(1e-6, high - low)).clip(0, 1) * 255
        return Picture(pixels[:1].round().astype(np.uint8) if self.gray else pixels.round().astype(np.uint8), labels)


def draw_world(rng: np.random.Generator) -> World:
    """Draw a world: at least two of its kinds, ground included, differ in texture or colour."""
    gray = bool(rng.random() < 0.6)
    kinds = tuple(_draw_kind(rng, gray) for _ in range(rng.integers(1, _MOST_KINDS + 1)))
    ground = _draw_kind(rng, gray)
    return World(
        ground,
        kinds,
        gray,
        blur=float(rng.choice([0, rng.uniform(0.4, 2)])),
        noise=float(rng.choice([0, rng.uniform(0.01, 0.12)])),
        outline=float(rng.choice([0, rng.uniform(-0.3, 0.3)])),
    )


def _draw_kind(rng: np.random.Generator, gray: bool) -> Kind:
    shape = str(rng.choice(list(_SHAPES), p=list(_SHAPES.values())))
    if shape == "fibre":
        radius = float(np.exp(rng.uniform(np.log(1), np.log(4))))
        number = int(rng.integers(3, 16))
    else:
        radius = float(np.exp(rng.uniform(np.log(4), np.log(70))))
        number = int(np.clip(rng.uniform(0.05, 0.5) * 20000 / radius**2, 1, 60))
    finest = float(np.exp(rng.uniform(np.log(2), np.log(16))))
    texture = (
        float(rng.uniform(0.3, 2.2)),
        finest,
        finest * float(np.exp(rng.uniform(np.log(1.5), np.log(20)))),
        float(rng.uniform(0, np.pi)) if rng.random() < 0.35 else None,
    )
    level = rng.uniform(0.1, 0.9)
    colour = (level,) * 3 if gray else tuple(np.clip(level + rng.normal(0, 0.2, 3), 0, 1).tolist())
    return Kind(shape, radius, number, texture, colour, float(rng.choice([0.02, 0.1, 0.25]) * rng.uniform(0.5, 1.5)))


def _textured(rng: np.random.Generator, kind: Kind, size: int) -> _Floats:
    """Noise (3, size, size) with the spectrum, colour and contrast of a kind."""
    slope, finest, coarsest, orientation = kind.texture
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    frequency = np.hypot(fy, fx)
    amplitude = np.where((frequency > 1 / coarsest) & (frequency < 1 / finest), frequency.clip(1 / size) ** -slope, 0)
    if orientation is not None:
        along = np.abs(np.cos(np.arctan2(fy, fx) - orientation))
        amplitude = amplitude * along**8
    phase = rng.normal(size=amplitude.shape) + 1j * rng.normal(size=amplitude.shape)
    noise = np.fft.irfft2(amplitude * phase, (size, size))
    noise = noise / max(1e-9, float(noise.std()))
    textured: _Floats = (np.array(kind.colour)[:, None, None] + kind.contrast * noise[None]).astype(np.float32)
    return textured  # (3, size, size)


def _shape(rng: np.random.Generator, kind: Kind, size: int) -> _Mask:
    """One thing of a kind, somewhere; it may lie outside in part, or as a whole."""
    y, x = rng.uniform(0, size, 2)
    radius = kind.radius * float(np.exp(rng.normal(0, 0.2)))
    if kind.shape == "fibre":
        return _fibre(rng, y, x, radius, size)
    mask = np.zeros((size, size), bool)
    if kind.shape == "ellipse":
        mask[ellipse(y, x, radius, radius * rng.uniform(0.6, 1), mask.shape, rng.uniform(0, np.pi))] = True
    elif kind.shape == "ring":
        mask[disk((y, x), radius, shape=mask.shape)] = True
        mask[disk((y, x), radius * rng.uniform(0.5, 0.8), shape=mask.shape)] = False
    else:
        angles, radii = _outline(rng, kind.shape, radius)
        mask[polygon(y + radii * np.sin(angles), x + radii * np.cos(angles), mask.shape)] = True
    return mask


def _fibre(rng: np.random.Generator, y: float, x: float, radius: float, size: int) -> _Mask:
    """A thread that begins somewhere and bends as it goes."""
    turns = np.cumsum(rng.normal(0, 0.25, 12)) + rng.uniform(0, 2 * np.pi)
    step = size / 8
    ys, xs = y + np.cumsum(np.sin(turns)) * step, x + np.cumsum(np.cos(turns)) * step
    mask = np.zeros((size, size), bool)
    for (a, b), (c, d) in pairwise(zip(ys, xs, strict=True)):
        rows, columns = line(int(a), int(b), int(c), int(d))
        seen = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
        mask[rows[seen], columns[seen]] = True
    return ndimage.distance_transform_edt(~mask) <= radius if mask.any() else mask


def _outline(rng: np.random.Generator, shape: str, radius: float) -> tuple[_Floats, _Floats]:
    """Angles and radii of the corners of a polygon, or of a blob: a circle with waves on it."""
    corners = 40 if shape == "blob" else int(rng.integers(3, 8))
    drawn = shape == "polygon"
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners)) if drawn else np.linspace(0, 2 * np.pi, corners)
    waves = np.zeros(corners)
    for k in range(1, 6):
        waves = waves + rng.normal(0, 0.25 / k) * np.cos(k * angles + rng.uniform(0, 6))
    return angles, radius * (1 + (waves if shape == "blob" else 0 * angles)).clip(0.3)


def _illumination(rng: np.random.Generator, size: int) -> _Floats:
    """Smooth shading (size, size) around 1."""
    along = np.linspace(0, 1, size)
    a, b = rng.normal(0, 0.12, 2)
    shading: _Floats = (1 + a * (along[:, None] - 0.5) + b * (along[None] - 0.5)).astype(np.float32)
    return shading
