"""The contract of every backbone, and the feature pyramid it makes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

Alignment = Literal["centre", "corner"]
"""Where the cells of a level lie: cell 0 covers the first ``stride`` pixels ("centre", as after pooling), or is
centred on pixel 0 ("corner", as after the padded strided convolutions of a ResNet)."""


@dataclass(frozen=True)
class Level:
    """Shape of one level: pixels per cell, and where cells lie."""

    stride: int
    alignment: Alignment = "centre"

    @property
    def origin(self) -> float:
        """Pixel coordinate of the centre of cell 0."""
        return (self.stride - 1) / 2 if self.alignment == "centre" else 0.0


Statistics = tuple[Tensor, Tensor]
"""Mean and standard deviation (C,) of the features of a level."""


@dataclass(frozen=True, eq=False)
class FeaturePyramid:
    """Features of one image, or of a tile of it. They may have half precision; compute in single.

    Attributes
    ----------
    features
        Level -> (C, h, w) with h >= H / stride, w >= W / stride. Fine levels first.
    size
        (H, W) of the image or tile. Cells beyond it come from padding.
    statistics
        Of a tile: level -> mean and standard deviation (C,) over the whole image. None for a whole image.
    """

    features: Mapping[Level, Tensor]
    size: tuple[int, int]
    statistics: Mapping[Level, Statistics] | None = None

    @property
    def levels(self) -> tuple[Level, ...]:
        """Fine to coarse."""
        return tuple(self.features)

    @property
    def nbytes(self) -> int:
        """Memory that the features take."""
        return sum(f.element_size() * f.nelement() for f in self.features.values())

    def select(self, strides: tuple[int, ...]) -> "FeaturePyramid":
        """Keep the levels of these strides only."""
        chosen = {lv: f for lv, f in self.features.items() if lv.stride in strides}
        return FeaturePyramid(chosen, self.size, self.statistics)

    def seen(self, level: Level) -> Tensor:
        """Features (C, h, w) of one level, without cells that come from padding."""
        height, width = self.size
        return self.features[level][:, : -(-height // level.stride), : -(-width // level.stride)]


class Backbone(Protocol):
    """A frozen network, or anything else, from images to features. It sees no labels and keeps no state.

    On typical images its features have about unit standard deviation. One that has an attribute ``mixed_precision``
    which is true may be run with its products in half precision, where that is faster; the others never are.
    """

    @property
    def key(self) -> str:
        """Identity of everything that its features depend on: architecture, weights, settings."""
        ...

    @property
    def levels(self) -> tuple[Level, ...]:
        """Levels that it makes, fine to coarse; all strides divide the last."""
        ...

    @property
    def matching_strides(self) -> tuple[int, ...]:
        """Strides of the levels to compare prototypes on."""
        ...

    @property
    def linear(self) -> bool:
        """Whether the features were trained for a linear classifier to stand on them."""
        ...

    @property
    def halo(self) -> int:
        """How far features look, in pixels: further inside, a tile has the features of its image."""
        ...

    def to(self, device: str) -> "Backbone":
        """Move to a device, in place."""
        ...

    def __call__(self, image: Tensor) -> dict[Level, Tensor]:
        """Compute features.

        Parameters
        ----------
        image
            (channels, H, W) float32, about [0, 1], H and W multiples of the coarsest stride.

        Returns
        -------
        dict
            Level -> (C, H / stride, W / stride).
        """
        ...
