"""Parts of a region that hang together and look alike: superpixel-guided clustering (Li et al., CVPR 2021)."""

from typing import Final

import torch
from torch import Tensor

ROUNDS: Final = 5
COMPACTNESS: Final = 10.0
"""r: as many cells away counts as much as a difference of 1 between features."""

_SHARPNESS: Final = 10.0
"""Of the association; for features of length 1 it is then that of a mixture with a concentration of 20."""


def superpixel_centroids(
    features: Tensor, places: Tensor, weights: Tensor, seeds: Tensor, rounds: int = ROUNDS, exclusive: bool = True
) -> Tensor:
    """Cluster pixels by features and place (algorithm 1).

    Parameters
    ----------
    features
        (N, D).
    places
        (N, 2) in cells; pixels of different tiles are far from each other.
    weights
        (N,) how much each counts, > 0.
    seeds
        (M,) numbers of the pixels to start from.
    rounds
        Of association and new centroids.
    exclusive
        Whether what belongs to one superpixel belongs less to the others: Q is a softmax over the superpixels. In the
        paper (False) each is asked alone, Q = exp(-D^2), and superpixels may all end up in the same place.

    Returns
    -------
    Tensor
        (M, D) averages of features, inside of their convex hull.
    """
    points = _points(features, places)  # Euclid's distance between them is eq. 1
    return _clustered(points, weights, seeds, rounds, exclusive)[:, : features.shape[1]]


def superpixels(features: Tensor, places: Tensor, seeds: Tensor, rounds: int = ROUNDS) -> Tensor:
    """Share out pixels (N, D) at places (N, 2) among superpixels: (M, N), the shares of a pixel sum to 1.

    As `superpixel_centroids`, but what belongs to each is asked for, and not its average.
    """
    points = _points(features, places)
    centroids = _clustered(points, torch.ones_like(points[:, 0]), seeds, rounds, exclusive=True)
    return association(points, centroids).T


def _points(features: Tensor, places: Tensor) -> Tensor:
    return torch.cat([features, places.to(features.dtype) / COMPACTNESS], 1)


def _clustered(points: Tensor, weights: Tensor, seeds: Tensor, rounds: int, exclusive: bool) -> Tensor:
    centroids = points[seeds]
    for _ in range(rounds):
        held = association(points, centroids, exclusive) * weights[:, None]
        centroids = (held.T @ points) / held.sum(0).clamp_min(1e-30)[:, None]  # eq. 3
    return centroids


def association(points: Tensor, centroids: Tensor, exclusive: bool = True) -> Tensor:
    """Q (N, M): how much each point belongs to each centroid (eq. 2)."""
    lengths = points.square().sum(1)[:, None] + centroids.square().sum(1)
    squares = (lengths - 2 * points @ centroids.T).clamp_min(0)  # D^2, without any difference (N, M, D)
    return (-_SHARPNESS * squares).softmax(1) if exclusive else (-squares).exp()


def spread_seeds(places: Tensor, outside: Tensor, number: int) -> Tensor:
    """Choose places in a region: always the one farthest from all outside and all chosen (MaskSLIC; Irving, 2016).

    Parameters
    ----------
    places
        (N, 2) of the region.
    outside
        (M, 2) beside it; may be none.
    number
        How many; no more than N are chosen.

    Returns
    -------
    Tensor
        (number,) which.
    """
    places = places.to(torch.float32)
    if len(outside):
        room = torch.cat([torch.cdist(some, outside.float()).amin(1) for some in places.split(512)])
    else:
        room = -(places - places.mean(0)).norm(dim=1)  # the middle first
    chosen = [int(room.argmax())]
    if not len(outside):
        room = torch.full_like(room, torch.inf)
    while len(chosen) < min(number, len(places)):
        room = torch.minimum(room, (places - places[chosen[-1]]).norm(dim=1))
        chosen.append(int(room.argmax()))
    return torch.tensor(chosen, device=places.device)
