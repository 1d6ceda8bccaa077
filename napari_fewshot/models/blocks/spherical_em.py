"""Mixtures of directions, found by expectation and maximisation (Yang et al., ECCV 2020, eqs. 3 to 5).

Samples and prototypes have length 1; a component is a von Mises-Fisher distribution of fixed concentration kappa, and
all have the same weight. Prototypes are made unit vectors again after every maximisation, as the authors' code does
and the paper does not say: only so does every round raise the likelihood.
"""

from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

CONCENTRATION: Final = 20.0
ROUNDS: Final = 10

_CANDIDATES: Final = 512
"""Samples that are tried as the start of a component."""


def spherical_em(
    samples: Tensor,
    weights: Tensor,
    components: int,
    concentration: float = CONCENTRATION,
    rounds: int = ROUNDS,
) -> Tensor:
    """Find prototypes.

    Parameters
    ----------
    samples
        (N, D) of length 1; a sample of length 0 changes nothing.
    weights
        (N,) how much each counts, > 0, 1 on average.
    components
        How many prototypes at the most.
    concentration
        kappa.
    rounds
        Of expectation and maximisation.

    Returns
    -------
    Tensor
        (K, D) of length 1. Components that hold less than one sample are left out, but for the one that holds the most.
    """
    prototypes = spread_start(samples, weights, components)
    for _ in range(rounds):
        prototypes = em_round(samples, weights, prototypes, concentration)
    held = weights @ responsibilities(samples, prototypes, concentration)  # (K,)
    return prototypes[(held >= 1) | (held == held.max())]


def em_round(samples: Tensor, weights: Tensor, prototypes: Tensor, concentration: float = CONCENTRATION) -> Tensor:
    """Take one step of both: (K, D) to (K, D)."""
    held = weights[:, None] * responsibilities(samples, prototypes, concentration)
    return F.normalize(held.T @ samples, dim=1)  # eq. 5; making it a unit vector cancels the denominator


def responsibilities(samples: Tensor, prototypes: Tensor, concentration: float = CONCENTRATION) -> Tensor:
    """E (N, K): how much of each sample belongs to each component, summing to 1 (eq. 4)."""
    return (concentration * samples @ prototypes.T).softmax(1)


def log_likelihood(
    samples: Tensor, weights: Tensor, prototypes: Tensor, concentration: float = CONCENTRATION
) -> Tensor:
    """Sum over the samples of log sum_k exp(kappa mu_k^T s), up to a constant: no round lowers it."""
    return weights @ (concentration * samples @ prototypes.T).logsumexp(1)


def spread_start(samples: Tensor, weights: Tensor, components: int) -> Tensor:
    """Choose samples to start from: the most central, then always the one that brings all nearest to one of them.

    That is k-means++ (Arthur & Vassilvitskii, 2007) without its dice, so that it gives the same in any order of the
    samples, and one stray sample is no start.

    Returns
    -------
    Tensor
        (K, D), K no more than there are samples.
    """
    step = max(1, -(-len(samples) // _CANDIDATES))
    candidates = samples[::step]
    distances = 1 - samples @ candidates.T  # (N, candidates)
    nearest = torch.full_like(weights, 2.0)
    chosen: list[int] = []
    for _ in range(min(components, len(candidates))):
        gain = weights @ torch.minimum(distances, nearest[:, None])
        chosen.append(int(gain.argmin()))
        nearest = torch.minimum(nearest, distances[:, chosen[-1]])
    return candidates[chosen]
