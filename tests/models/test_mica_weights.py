"""What the shipped weights of ``mica`` know: where things are, and more than a random network does."""

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from napari_fewshot.models.backbones.base import Alignment, Level
from napari_fewshot.models.backbones.mica import Mica
from napari_fewshot.models.blocks.resampling import sample
from napari_fewshot.models.weights import shipped
from napari_fewshot.training.made import draw_world
from napari_fewshot.training.pictures import Picture
from tests.golden.pins import shipped_backbones

WORLDS = (91, 92, 93, 95, 96, 97)
"""Seeds that no recipe uses; each has a picture to learn from and one to be labelled."""


@cache
def pairs() -> list[tuple[Picture, Picture]]:
    made = []
    for seed in WORLDS:
        rng = np.random.default_rng(seed)
        world = draw_world(rng)
        made.append((world.picture(rng, 192), world.picture(rng, 192)))
    return made


def rows(mica: Mica, picture: Picture, strides: tuple[int, ...], alignment: Alignment) -> tuple[Tensor, Tensor]:
    """Features and labels of pixels on a grid that meets all places within a cell alike."""
    ys, xs = (g.flatten() for g in torch.meshgrid(torch.arange(20, 172, 3), torch.arange(20, 172, 3), indexing="ij"))
    with torch.inference_mode():
        features = mica(torch.from_numpy(picture.pixels).float() / 255)
    found = [sample(f, Level(lv.stride, alignment), ys, xs) for lv, f in features.items() if lv.stride in strides]
    return torch.cat(found, 1), torch.from_numpy(picture.labels).long()[ys, xs]


def error(mica: Mica, strides: tuple[int, ...], alignment: Alignment) -> float:
    """Share of pixels that ridge regression on one picture labels wrongly on another of its world."""
    errors = []
    for shot, query in pairs():
        x, y = rows(mica, shot, strides, alignment)
        mean, deviation = x.mean(0), x.std(0) + 1e-3
        x = torch.cat([(x - mean) / deviation, torch.ones(len(x), 1)], 1)
        solution = torch.linalg.solve(x.T @ x + 10 * torch.eye(x.shape[1]), x.T @ one_hot(y, 5).float())
        x, y = rows(mica, query, strides, alignment)
        x = torch.cat([(x - mean) / deviation, torch.ones(len(x), 1)], 1)
        errors.append((x @ solution).argmax(1).ne(y).float().mean().item())
    return float(np.mean(errors))


def test_labels_are_found_best_where_the_levels_say_that_their_cells_lie() -> None:
    for card in shipped_backbones():
        mica = Mica(shipped(card["name"]))
        for strides in ((4,), (8,)):
            other: Alignment = "corner" if mica.levels[0].alignment == "centre" else "centre"
            assert error(mica, strides, mica.levels[0].alignment) <= error(mica, strides, other), card["name"]


def test_training_helped() -> None:
    for card in shipped_backbones():
        trained = Mica(shipped(card["name"]))
        tensors = shipped(card["name"])
        shuffled = {  # the same numbers, in an order that means nothing
            name: tensor.flatten()[torch.randperm(tensor.numel(), generator=torch.Generator().manual_seed(0))].view_as(
                tensor
            )
            for name, tensor in tensors.items()
        }
        for strides in ((4,), (8,)):
            assert error(trained, strides, "centre") < 0.85 * error(Mica(shuffled), strides, "centre"), card["name"]
