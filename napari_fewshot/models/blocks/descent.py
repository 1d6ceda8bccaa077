"""Gradient steps on a few numbers, also where nothing else needs a gradient.

The steps are written out rather than taken from ``torch.optim``, which imports a compiler when it is first used.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from napari_fewshot.models.progress import heed


class Rule(Protocol):
    """How gradients become steps. Holds what it remembers of the steps before: make a new one for every descent."""

    def __call__(self, gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return what to add to the parameters."""
        ...


class Plain:
    """Gradient descent: the negative gradient, times a rate."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """See `Rule`."""
        return tuple(-self.rate * g for g in gradients)


class Adam:
    """Steps of about the same length in every direction (Kingma & Ba, 2015, algorithm 1 with its constants)."""

    def __init__(self, rate: float, betas: tuple[float, float] = (0.9, 0.999), epsilon: float = 1e-8) -> None:
        self.rate = rate
        self.betas = betas
        self.epsilon = epsilon
        self._taken = 0
        self._moments: list[tuple[Tensor, Tensor]] = []

    def __call__(self, gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """See `Rule`."""
        self._taken += 1
        before = self._moments or [(torch.zeros_like(g), torch.zeros_like(g)) for g in gradients]
        first, second = self.betas
        self._moments = [
            (torch.lerp(g, m, first), torch.lerp(g.square(), v, second))
            for g, (m, v) in zip(gradients, before, strict=True)
        ]
        corrected = ((m / (1 - first**self._taken), v / (1 - second**self._taken)) for m, v in self._moments)
        return tuple(-self.rate * m / (v.sqrt() + self.epsilon) for m, v in corrected)


def steps(
    start: tuple[Tensor, ...], loss: Callable[..., Tensor], constants: tuple[Tensor, ...], rule: Rule, number: int
) -> Iterator[tuple[tuple[Tensor, ...], float]]:
    """Go downhill, and tell of every place on the way.

    Parameters
    ----------
    start
        Where to begin; not changed.
    loss
        Of the parameters, then the constants: a number.
    constants
        What else the loss depends on. They may have been made in inference mode.
    rule
        How gradients become steps.
    number
        How many places are told of, one more than there are steps between them.

    Yields
    ------
    tuple
        The parameters, and the loss there.
    """
    with torch.inference_mode(False):
        here = tuple(p.clone().detach() for p in start)
        fixed = tuple(c.clone() for c in constants)  # what was made in inference mode cannot be differentiated through
    for _ in range(number):
        heed()
        with torch.inference_mode(False):  # entered anew: between steps others are at work
            with torch.enable_grad():
                parameters = tuple(p.clone().requires_grad_() for p in here)
                value = loss(*parameters, *fixed)
                gradients = torch.autograd.grad(value, parameters)
            after = tuple(p + step for p, step in zip(here, rule(gradients), strict=True))
        yield here, float(value.detach())
        here = after
