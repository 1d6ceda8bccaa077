"""What a stage of training is; each kind has a module of its own, and one entry in `recipe.KINDS`.

A stage needs two things: a module from a batch to named losses, and a callable that draws a batch from a random
generator. Everything else (devices, checkpoints, learning curves, the order of stages) is the same for all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_fewshot.training.loop import Batches
from napari_fewshot.training.products import Product
from napari_fewshot.training.sources import Sources


@dataclass(frozen=True)
class Bench:
    """What a stage finds when it begins.

    Attributes
    ----------
    sources
        Gathers the pictures to train on, once.
    begin
        Makes the network to go on with: a fresh one, or the result of the stage before.
    device
        Where it will be trained; what the loop does not know of, such as a teacher, must be moved there.
    before
        Named tensors of the whole module that the stage before trained, with what is not kept in the end; none at
        first.
    shared
        Folder for what several courses have in common.
    origin
        What tells the pictures from others.
    seed
        Of everything that is drawn.
    """

    sources: Callable[[], Sources]
    begin: Callable[[], Any]
    device: torch.device
    before: Mapping[str, Tensor] = field(default_factory=dict)
    shared: Path = Path()
    origin: str = ""
    seed: int = 1


@dataclass(frozen=True)
class Ready:
    """What the loop trains.

    Attributes
    ----------
    module
        From a batch to named losses.
    net
        The part of it that is kept.
    batches
        Draws a batch.
    """

    module: nn.Module
    net: nn.Module
    batches: Batches


@dataclass(frozen=True)
class StageKind:
    """How a kind of stage is set up.

    Attributes
    ----------
    settings
        Dataclass of what a recipe says of it, beside the schedule; it checks its ranges itself.
    prepare
        From the settings and a bench to what is trained.
    product
        What comes out.
    """

    settings: type[Any]
    prepare: Callable[[Any, Bench], Ready]
    product: Product
