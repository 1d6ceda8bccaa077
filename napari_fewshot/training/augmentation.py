"""Crops that differ in place, size, direction, colour, contrast, sharpness and noise; labels follow the geometry."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from napari_fewshot.support import UNLABELLED
from napari_fewshot.training.pictures import Picture

_MARGIN: Final = 4


@dataclass(frozen=True)
class View:
    """How a crop lies in its picture.

    Attributes
    ----------
    centre
        (y, x), as a share of height and width.
    zoom
        Pixels of the crop per pixel of the picture.
    stretch
        Of x against y.
    angle
        In radians.
    mirrored
        Left for right.
    """

    centre: tuple[float, float]
    zoom: float
    stretch: float = 1.0
    angle: float = 0.0
    mirrored: bool = False


def draw_view(rng: np.random.Generator, zoom: tuple[float, float] = (0.4, 2.5), turn: float = np.pi) -> View:
    """Draw a view; the zoom log-uniformly, the angle within ``turn`` of upright."""
    return View(
        (float(rng.random()), float(rng.random())),
        float(np.exp(rng.uniform(np.log(zoom[0]), np.log(zoom[1])))),
        float(np.exp(rng.uniform(-0.2, 0.2))),
        float(rng.uniform(-turn, turn)),
        bool(rng.random() < 0.5),
    )


def crop(picture: Picture, view: View, size: int) -> tuple[Tensor, Tensor]:
    """Cut out what a view shows: image (3, size, size) in [0, 1] and labels (size, size) int64, 255 where unknown.

    What lies outside of the picture is mirrored.
    """
    planes = torch.from_numpy(picture.pixels)
    known = picture.labels if picture.labels is not None else np.full(planes.shape[-2:], UNLABELLED, np.uint8)
    labels = torch.from_numpy(known)
    height, width = labels.shape
    zoom = max(view.zoom, size / (3 * min(height, width)))  # a small picture is not mirrored again and again
    reach = size / zoom * 0.8 + _MARGIN  # half a diagonal, stretched
    y, x = (_within(share, length, size / zoom / 2) for share, length in zip(view.centre, (height, width), strict=True))
    top, left = max(0, int(y - reach)), max(0, int(x - reach))
    bottom, right = min(height, int(y + reach) + 1), min(width, int(x + reach) + 1)
    image = planes[:, top:bottom, left:right].float()[None] / 255
    mask = labels[top:bottom, left:right].float()[None, None]
    shrink = max(1, round(1 / zoom)) if zoom < 1 else 1  # averaged first, so that nothing is aliased
    if shrink > 1 and min(image.shape[-2:]) >= 2 * shrink:
        image = F.avg_pool2d(image, shrink)
    grid = _grid(view, zoom, size, (y - top, x - left), (bottom - top, right - left))
    out = F.grid_sample(image, grid, mode="bilinear", padding_mode="reflection", align_corners=False)[0]
    seen = F.grid_sample(mask, grid, mode="nearest", padding_mode="reflection", align_corners=False)[0, 0]
    return out.expand(3, -1, -1) if len(out) == 1 else out, seen.long()


def _within(share: float, length: int, half: float) -> float:
    """Put a centre so that the crop stays inside where it can."""
    return length / 2 if length < 2 * half else half + share * (length - 2 * half)


def _grid(view: View, zoom: float, size: int, centre: tuple[float, float], shape: tuple[int, int]) -> Tensor:
    """Where each pixel of the crop lies, in the coordinates of ``grid_sample``: (1, size, size, 2), x first."""
    steps = (torch.arange(size) - (size - 1) / 2) / zoom
    ys, xs = torch.meshgrid(steps, steps, indexing="ij")
    xs = xs * view.stretch * (-1 if view.mirrored else 1)
    cos, sin = float(np.cos(view.angle)), float(np.sin(view.angle))
    rows, columns = centre[0] + cos * ys + sin * xs, centre[1] - sin * ys + cos * xs
    return torch.stack([2 * columns / shape[1] - 1, 2 * rows / shape[0] - 1], -1)[None]


@dataclass(frozen=True)
class Look:
    """How a crop differs in intensity from its picture; crops of one episode share most of it."""

    gray: bool
    inverted: bool
    mixing: tuple[tuple[float, ...], ...] | None
    gamma: float
    gain: float
    offset: float
    blur: float
    noise: float
    shading: float


def draw_look(rng: np.random.Generator) -> Look:
    """Draw a look: most crops keep most of what they were."""
    mixing = None
    if rng.random() < 0.25:
        matrix = 0.5 * np.eye(3) + rng.dirichlet(np.ones(3), 3) * 0.5
        mixing = tuple(map(tuple, (matrix / matrix.sum(1, keepdims=True)).tolist()))
    return Look(
        gray=bool(rng.random() < 0.3),
        inverted=bool(rng.random() < 0.25),
        mixing=mixing,
        gamma=float(np.exp(rng.uniform(-0.6, 0.6))),
        gain=float(rng.uniform(0.6, 1.2)),
        offset=float(rng.uniform(-0.1, 0.1)),
        blur=float(rng.uniform(0.3, 1.6)) if rng.random() < 0.25 else 0.0,
        noise=float(rng.uniform(0.01, 0.12)) if rng.random() < 0.35 else 0.0,
        shading=float(rng.normal(0, 0.3)) if rng.random() < 0.3 else 0.0,
    )


def change(image: Tensor, look: Look, rng: np.random.Generator) -> Tensor:
    """Give a crop (3, H, W) a look."""
    if look.gray:
        image = image.mean(0, keepdim=True).expand(3, -1, -1)
    if look.mixing is not None:
        image = (torch.tensor(look.mixing) @ image.flatten(1)).view_as(image)
    if look.inverted:
        image = 1 - image
    if look.shading:
        angle = float(rng.uniform(0, 2 * np.pi))
        ys, xs = torch.linspace(-1, 1, image.shape[-2])[:, None], torch.linspace(-1, 1, image.shape[-1])[None]
        image = image * (1 + look.shading * (np.cos(angle) * ys + np.sin(angle) * xs))
    image = (image.clamp(0, 1) ** look.gamma - 0.5) * look.gain + 0.5 + look.offset
    if look.blur:
        image = gaussian_blur(image, [7, 7], [look.blur, look.blur])
    if look.noise:
        flat = bool((image[0] == image[-1]).all())
        noise = torch.from_numpy(rng.normal(0, look.noise, (1 if flat else 3, *image.shape[1:])).astype(np.float32))
        image = image + noise
    return image.clamp(-0.25, 1.25)


def blend_mask(rng: np.random.Generator, size: int) -> Tensor:
    """Draw smooth regions (size, size), True on about half: what is cut from one crop and put over another."""
    coarse = torch.from_numpy(rng.normal(size=(1, 1, *(rng.integers(2, 7, 2))))).float()
    smooth = F.interpolate(coarse, (size, size), mode="bicubic")[0, 0]
    return smooth > float(rng.normal(0, 0.4))
