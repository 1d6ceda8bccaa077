"""Gradient steps on a few numbers, also where nothing else needs a gradient."""

from collections.abc import Callable, Iterator

import torch
import torch._dynamo  # optimisers import it when first used, which may be too late: see beside_opengl.py
from torch import Tensor

from napari_fewshot.models.progress import heed


def steps(
    start: tuple[Tensor, ...],
    loss: Callable[..., Tensor],
    constants: tuple[Tensor, ...],
    optimiser: Callable[[list[Tensor]], torch.optim.Optimizer],
    number: int,
) -> Iterator[tuple[tuple[Tensor, ...], float]]:
    """Go downhill, and tell of the place before every step.

    Parameters
    ----------
    start
        Where to begin; not changed.
    loss
        Of the parameters, then the constants: a number.
    constants
        What else the loss depends on. They may have been made in inference mode.
    optimiser
        Makes one of the parameters; a new one for every descent, so that none inherits momentum.
    number
        How many places are told of, one more than there are steps between them.

    Yields
    ------
    tuple
        The parameters, and the loss there.
    """
    with torch.inference_mode(False), torch.enable_grad():
        parameters = [p.clone().detach().requires_grad_() for p in start]
        fixed = [c.clone() for c in constants]  # what was made in inference mode cannot be differentiated through
        stepper = optimiser(parameters)
    for _ in range(number):
        heed()
        with torch.inference_mode(False), torch.enable_grad():  # entered anew: between steps others are at work
            stepper.zero_grad()
            value = loss(*parameters, *fixed)
            here = tuple(p.detach().clone() for p in parameters)
            value.backward()
            stepper.step()
        yield here, float(value.detach())
