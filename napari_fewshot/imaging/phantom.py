"""Synthetic stacks of touching cells whose true labels are known.

Simulated as a confocal microscope would see them: cells of different size and brightness that press against
each other, nuclei inside, texture, signal that fades with depth, uneven illumination, blur that is worse along z,
photon noise and read noise.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from skimage.filters import gaussian

from napari_fewshot.frames import Labels

CELL: Final = 1
NUCLEUS: Final = 2

_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Phantom:
    """A simulated stack and what is really in it.

    Attributes
    ----------
    image
        (Z, Y, X) uint16.
    labels
        (Z, Y, X) int32: 0 background, 1 cell body, 2 nucleus (where nuclei were asked for).
    instances
        (Z, Y, X) int32: 0 background, otherwise the number of the cell.
    spacing
        Size of a voxel along z, y and x in ``unit``.
    unit
        Of ``spacing``.
    """

    image: npt.NDArray[np.uint16]
    labels: Labels
    instances: Labels
    spacing: tuple[float, float, float]
    unit: str = "µm"


def touching_cells(
    shape: tuple[int, int, int] = (12, 256, 256),
    spacing: tuple[float, float, float] = (2.0, 0.5, 0.5),
    *,
    cells: int = 48,
    nuclei: bool = True,
    photons: float = 60.0,
    seed: int = 0,
) -> Phantom:
    """Simulate a stack of touching cells.

    Parameters
    ----------
    shape
        (Z, Y, X) in voxels.
    spacing
        Size of a voxel along z, y and x in µm; cells have radii of about 9 µm.
    cells
        How many; they gather in a few clumps.
    nuclei
        Whether nuclei are a class of their own, and brighter than the cell body.
    photons
        Mean number of photons per voxel of a cell near the surface; fewer make a noisier image.
    seed
        The same seed gives the same stack, bit for bit.

    Returns
    -------
    Phantom
        Image, labels, cell numbers and spacing.
    """
    rng = np.random.default_rng(seed)
    extent = np.multiply(shape, spacing)
    instances = np.zeros(shape, np.int32)
    nearest = np.ones(shape, np.float32)  # how deep in its cell a voxel is: 0 centre, 1 membrane
    nucleus = np.zeros(shape, bool)
    signal = np.zeros(shape, np.float32)
    for number, centre in enumerate(_clumped(rng, cells, extent), start=1):
        radii = rng.uniform(7.0, 11.0) * rng.uniform(0.85, 1.15, 3)
        angle = rng.uniform(0, math.pi)
        shift = rng.uniform(-0.2, 0.2, 3) * radii
        brightness = rng.lognormal(0.0, 0.25)
        box = _box(centre, radii.max(), shape, spacing)
        grid = _grid(box, spacing)
        depth = _ellipsoid(grid, centre, radii, angle)
        mine = depth < nearest[box]  # where two cells press against each other the nearer centre wins
        nearest[box][mine] = depth[mine]
        instances[box][mine] = number
        core = mine & (_ellipsoid(grid, centre + shift, 0.55 * radii, angle) < 1)
        nucleus[box][mine] = core[mine]
        # darker towards the membrane, so that touching cells can be told apart
        signal[box][mine] = brightness * (1.1 - 0.45 * depth[mine] ** 4)
    signal *= 1 + 0.25 * _texture(rng, shape, spacing, 1.0)
    if nuclei:
        signal[nucleus] *= 2.6
    image = _microscope(rng, signal, spacing, photons)
    labels = np.where(instances > 0, CELL, 0).astype(np.int32)
    if nuclei:
        labels[nucleus & (instances > 0)] = NUCLEUS
    return Phantom(image, labels, instances, spacing)


def _clumped(
    rng: np.random.Generator, count: int, extent: npt.NDArray[np.float64]
) -> Iterator[npt.NDArray[np.float64]]:
    """Yield centres in µm, most of them a cell's diameter from one that came before."""
    placed: list[npt.NDArray[np.float64]] = []
    for _ in range(200 * count):
        if len(placed) == count:
            return
        if not placed or rng.random() < 0.12:
            centre = rng.uniform(0, 1, 3) * extent
        else:
            direction = rng.normal(size=3) * (0.6, 1.0, 1.0)
            centre = placed[rng.integers(len(placed))] + rng.uniform(13, 17) * direction / np.linalg.norm(direction)
        inside = bool(((centre >= 0) & (centre < extent)).all())
        if inside and all(np.linalg.norm(centre - other) > 11 for other in placed):
            placed.append(centre)
            yield centre


def _box(
    centre: npt.NDArray[np.float64], reach: float, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> tuple[slice, ...]:
    """Return the part of the stack that a cell can be in."""
    return tuple(
        slice(max(0, math.floor((c - reach) / step)), min(size, math.ceil((c + reach) / step) + 1))
        for c, size, step in zip(centre, shape, spacing, strict=True)
    )


def _grid(box: tuple[slice, ...], spacing: tuple[float, float, float]) -> list[npt.NDArray[np.float64]]:
    """Return positions in µm along z, y and x, ready to be broadcast."""
    steps = [np.arange(s.start, s.stop) * step for s, step in zip(box, spacing, strict=True)]
    return list(np.ix_(*steps))


def _ellipsoid(
    grid: list[npt.NDArray[np.float64]], centre: npt.NDArray[np.float64], radii: npt.NDArray[np.float64], angle: float
) -> _Floats:
    """Return the distance from the centre in radii, of an ellipsoid turned by ``angle`` in the plane."""
    z, y, x = (position - c for position, c in zip(grid, centre, strict=True))
    along, across = math.cos(angle) * y + math.sin(angle) * x, math.cos(angle) * x - math.sin(angle) * y
    turned = np.sqrt((z / radii[0]) ** 2 + (along / radii[1]) ** 2 + (across / radii[2]) ** 2)
    return np.asarray(turned, np.float32)


def _texture(
    rng: np.random.Generator, shape: tuple[int, int, int], spacing: tuple[float, float, float], size: float
) -> _Floats:
    """Smooth noise of mean 0 and standard deviation 1 (0 in a single voxel) whose grains are ``size`` µm wide.

    Grains at the border deviate more: values beyond -6 and 6 are to be expected in corners.
    """
    noise = gaussian(rng.normal(size=shape).astype(np.float32), [size / step for step in spacing])
    return np.asarray((noise - noise.mean()) / (noise.std() or 1.0), np.float32)


def _microscope(
    rng: np.random.Generator, signal: _Floats, spacing: tuple[float, float, float], photons: float
) -> npt.NDArray[np.uint16]:
    """Record the fluorescence: haze, uneven light, loss with depth, blur, photon noise, read noise, camera offset."""
    depth, height, width = signal.shape
    haze = gaussian(signal, [6.0 / step for step in spacing])  # light from above and below the plane of focus
    focused = gaussian(signal, [0.9 / spacing[0], 0.3 / spacing[1], 0.3 / spacing[2]])
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    light = 1.0 - 0.15 * (y**2 + x**2) + 0.12 * x  # (Y, X)
    fading = np.exp(-0.035 * spacing[0] * np.arange(depth, dtype=np.float32))[:, None, None]  # (Z, 1, 1)
    # texture in the dark corner of a cell can take away more light than there is; there is none then
    expected = np.maximum(photons * light * fading * (focused + 0.35 * haze + 0.12), 0)
    recorded = 8.0 * rng.poisson(expected) + rng.normal(100.0, 12.0, signal.shape)
    return np.asarray(np.clip(np.round(recorded), 0, 65535), np.uint16)
