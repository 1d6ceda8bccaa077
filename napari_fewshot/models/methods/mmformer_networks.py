"""The networks of MM-Former (`mmformer`), and what decides their shape."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from torch import nn

from napari_fewshot.models.blocks.mask_matching import FeatureAlignment
from napari_fewshot.models.blocks.potential_objects import PotentialObjects

_CUES: Final = 5
"""Numbers that tell of a proposal whether it is wanted, and whether to trust it."""


@dataclass(frozen=True)
class MaskMatchingConfig:
    """What decides the shape of both parts.

    Attributes
    ----------
    channels
        Features of each level, fine to coarse. The finest is what masks lie on; the others are what is matched.
    strides
        Of these levels. Where there is a single one, it serves for all.
    width, heads, hidden, rounds
        Of the segmenter: see `PotentialObjects`.
    proposals
        N.
    matched
        Channels of aligned features.
    layers
        Of cross-alignment.
    slots
        Whether all N similarities together decide about each coefficient, as in the paper, where every embedding
        always proposes the same kind of thing; and not the similarity of each proposal alone, with which proposals may
        come from anywhere and correct what the calibrated cosine with the average of the class says.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    width: int = 48
    heads: int = 4
    hidden: int = 128
    rounds: int = 2
    proposals: int = 40
    matched: int = 48
    layers: int = 1
    slots: bool = False

    @property
    def first_matched(self) -> int:
        """Number in both of the first level that is matched."""
        return min(1, len(self.strides) - 1)

    @classmethod
    def for_features(cls, channels: Mapping[int, int], matching: tuple[int, ...]) -> Self:
        """Masks on the finest level that the backbone recommends for comparing, matching on three coarser ones."""
        coarser = tuple(sorted(stride for stride in channels if stride > matching[0]))[:3]
        strides = (matching[0], *coarser)
        return cls(tuple(channels[stride] for stride in strides), strides)

    @classmethod
    def paper(cls) -> Self:
        """ResNet-50: masks on stride 4, three coarser levels, 9 layers (as in the code), 100 proposals."""
        return cls((256, 512, 1024, 2048), (4, 8, 16, 32), 256, 8, 2048, 3, 100, 256, 2, slots=True)


class MaskMatchingTransformer(nn.Module):
    """The segmenter ``proposals``, and ``matching``: both are trained apart."""

    def __init__(self, config: MaskMatchingConfig) -> None:
        super().__init__()
        coarse_first = config.channels[config.first_matched :][::-1]
        self.proposals = PotentialObjects(
            sum(config.channels),
            coarse_first,
            config.width,
            config.proposals,
            config.heads,
            config.hidden,
            config.rounds,
        )
        self.matching = Matching(config)


class Matching(nn.Module):
    """Feature alignment, and coefficients from what comes out."""

    def __init__(self, config: MaskMatchingConfig) -> None:
        super().__init__()
        hidden = 2 * config.matched
        self.align = FeatureAlignment(config.channels[config.first_matched :], config.matched, 4, hidden, config.layers)
        number, inside = (config.proposals, 5 * config.proposals) if config.slots else (_CUES, 32)
        last = nn.Linear(inside, number if config.slots else 2)
        self.coefficients = nn.Sequential(nn.Linear(number, inside), nn.ReLU(), last)  # eq. 4
        if not config.slots:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
