"""Random features: what makes a linear classifier bend, without fitting anything (Rahimi & Recht, NeurIPS 2007)."""

import torch
from torch import Tensor


class RandomFeatures:
    """max(0, R^T x + b) with R and b drawn once, from a fixed seed, for the features x of one level.

    Levels are lifted apart, each at its own stride: what follows stays linear in what is upsampled, so nothing
    has to be computed at full resolution that is not full resolution already.

    Parameters
    ----------
    width
        Number of features made.
    gain
        Standard deviation of R^T x for standardised, independent x.
    seed
        Of the draw; the same numbers for every number of inputs and on every device.
    """

    def __init__(self, width: int, gain: float = 1.5, seed: int = 0) -> None:
        self.width = width
        self.gain = gain
        self.seed = seed
        self._drawn: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}

    def __call__(self, cells: Tensor) -> Tensor:
        """Lift (D, N) to (width, N)."""
        projection, offset = self.draw(len(cells), cells.device)
        return torch.addmm(offset[:, None], projection, cells).relu_()

    def draw(self, inputs: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return R^T (width, inputs) and b (width,)."""
        key = (inputs, device)
        if key not in self._drawn:
            generator = torch.Generator().manual_seed(self.seed)
            projection = torch.randn((self.width, inputs), generator=generator) * (self.gain / inputs**0.5)
            offset = torch.randn(self.width, generator=generator)
            self._drawn[key] = (projection.to(device), offset.to(device))
        return self._drawn[key]
