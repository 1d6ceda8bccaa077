"""A linear head without a constant, fitted to labelled features: multinomial logistic regression to its optimum."""

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch import Tensor

from napari_fewshot.models.devices import quiet_blas

_ITERATIONS: Final = 200


def fit_linear_head(x: Tensor, y: Tensor, weight: Tensor, shrinkage: float) -> Tensor:
    """Minimise `head_loss`, which is strictly convex: there is one optimum, wherever one begins.

    Parameters
    ----------
    x
        (N, D) features.
    y
        (N,) labels 0 .. L - 1, each there at least once.
    weight
        (N,) how much each counts, summing to 1.
    shrinkage
        lambda > 0.

    Returns
    -------
    Tensor
        (L, D) in the precision of ``x``.
    """
    labels, width = int(y.max()) + 1, x.shape[1]
    hits = (torch.arange(len(x), device=x.device), y)

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        w = torch.from_numpy(flat).to(x.dtype).to(x.device).view(labels, width)
        scores = (x @ w.T).log_softmax(1)  # (N, L)
        value = -float(weight @ scores[hits])
        residual = scores.exp_()
        residual[hits] -= 1
        residual *= weight[:, None]
        slopes = torch.stack([x.T.mv(column) for column in residual.T.contiguous()])  # far faster than one product
        gradient = slopes.cpu().double().numpy().ravel() + shrinkage * flat
        return value + 0.5 * shrinkage * float(flat @ flat), gradient

    options = {"maxiter": _ITERATIONS, "maxcor": 10, "ftol": 1e-12, "gtol": 1e-7}
    with quiet_blas():
        found = minimize(loss, np.zeros(labels * width), jac=True, method="L-BFGS-B", options=options)
    return torch.from_numpy(found.x).to(x.dtype).to(x.device).view(labels, width)


def head_loss(w: Tensor, x: Tensor, y: Tensor, weight: Tensor, shrinkage: float) -> Tensor:
    """Weighted cross-entropy of the head (L, D) plus lambda / 2 |w|^2: what `fit_linear_head` minimises."""
    scores = (x @ w.T).log_softmax(1)
    return -weight @ scores.gather(1, y[:, None])[:, 0] + 0.5 * shrinkage * w.square().sum()
