"""Comparing a map with vectors by convolution, and refining what came of it: parts of CANet that PMM has as well.

Zhang et al., CVPR 2019, arXiv 1903.02351.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from napari_fewshot.models.blocks.layers import ASPP, conv


class ComparingConvolution(nn.Module):
    """3 x 3 convolution of a map with a vector beside every cell, for many vectors at about the cost of one.

    It is linear in both, so the part of the map is the same for all vectors; that of a vector is a convolution of a
    map of ones, with kernels that were multiplied by the vector. This is exact, at the border of the map too.

    Parameters
    ----------
    inputs
        Channels of the map.
    vector
        Length of the vectors.
    outputs
        Channels of what comes out.
    dilation
        Of the kernel.
    """

    def __init__(self, inputs: int, vector: int, outputs: int, dilation: int = 1) -> None:
        super().__init__()
        self.inputs = inputs
        self.convolution = nn.Conv2d(inputs + vector, outputs, 3, padding=dilation, dilation=dilation)

    def of_map(self, cells: Tensor) -> Tensor:
        """Convolve the part of a map (inputs, h, w), bias included: (outputs, h, w)."""
        return self._convolve(cells[None], self.convolution.weight[:, : self.inputs], self.convolution.bias)[0]

    def of_vectors(self, vectors: Tensor, like: Tensor) -> Tensor:
        """Convolve the part of vectors (K, vector) on the cells of a map (..., h, w): (K, outputs, h, w)."""
        kernels = torch.einsum("oiyx,ki->koyx", self.convolution.weight[:, self.inputs :], vectors)
        ones = like.new_ones((1, 1, *like.shape[-2:]))
        convolved = self._convolve(ones, kernels.flatten(0, 1)[:, None], None)  # (1, K outputs, h, w)
        return convolved.view(*kernels.shape[:2], *like.shape[-2:])

    def _convolve(self, maps: Tensor, kernels: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(maps, kernels, bias, padding=self.convolution.padding, dilation=self.convolution.dilation)


class IterativeOptimisation(nn.Module):
    """IOM (section 4.2 of CANet): a comparison and the last answer, made into the next answer.

    Residual blocks have their ReLU in front, as in the authors' code: what the last answer adds can have either sign.

    Parameters
    ----------
    width
        Channels of the comparison, and of everything inside.
    dilations
        Of the pyramid pooling, in cells.
    """

    def __init__(self, width: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.incorporate = _before_convolving(width + 2, width)
        self.residual = nn.ModuleList(_before_convolving(width, width) for _ in range(2))
        self.pyramid = ASPP(width, width, dilations)
        self.fuse = conv(self.pyramid.width, width, 1)
        self.classify = nn.Conv2d(width, 1, 1)

    def forward(self, compared: Tensor, last: Tensor) -> Tensor:
        """Answer with logits (h, w).

        Parameters
        ----------
        compared
            (width, h, w) x of the paper.
        last
            (2, h, w) y_{t-1}: probabilities of background and class, or zeros where there is no last answer.
        """
        x = compared[None]
        merged = x + self.incorporate(torch.cat([x, last[None]], 1))  # eq. 1
        for block in self.residual:
            merged = merged + block(merged)
        logits: Tensor = self.classify(self.fuse(self.pyramid(merged)))
        return logits[0, 0]


def _before_convolving(inputs: int, outputs: int) -> nn.Sequential:
    first, second = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
    return nn.Sequential(nn.ReLU(), first, nn.ReLU(), second)
