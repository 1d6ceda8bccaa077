"""The default: what did best over the development data sets, see docs/benchmarks.md.

Today that is a blend of the ridge classifier on random features, which sees texture and detail, with PANet's
prototypes, which are steadier where one shot does not say enough.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid
from napari_fewshot.models.blocks.levels import LiftedLevels
from napari_fewshot.models.blocks.random_features import RandomFeatures
from napari_fewshot.models.methods import panet
from napari_fewshot.models.methods.base import FewShotMethod, SupportFeatures
from napari_fewshot.models.methods.ridge import Ridge

_WIDTH: Final = 96
_PROTOTYPES: Final = 0.25
"""Weight of PANet; between 0.15 and 0.3 the mean IoU is the same to within 0.002."""


class Blend:
    """A weighted geometric mean of the probabilities of several methods.

    Parameters
    ----------
    members
        Methods with their weights, which sum to 1.
    """

    name = "auto"

    def __init__(self, members: Sequence[tuple[FewShotMethod, float]]) -> None:
        self.members = tuple(members)

    def fit(self, support: Sequence[SupportFeatures], class_ids: tuple[int, ...]) -> tuple[Any, ...]:
        """Fit every member; see `FewShotMethod`."""
        return tuple(member.fit(support, class_ids) for member, _ in self.members)

    def update(
        self,
        state: tuple[Any, ...],
        added: Sequence[SupportFeatures],
        removed: Sequence[str],
        class_ids: tuple[int, ...],
    ) -> tuple[Any, ...]:
        """Update every member; see `FewShotMethod`."""
        return tuple(
            member.update(part, added, removed, class_ids)
            for (member, _), part in zip(self.members, state, strict=True)
        )

    def predict(self, state: tuple[Any, ...], query: FeaturePyramid) -> Tensor:
        """Add up weighted log-probabilities (1 + C, H, W), then normalise."""
        total: Tensor | float = 0.0
        for (member, weight), part in zip(self.members, state, strict=True):
            total = total + weight * member.predict(part, query).clamp_min_(1e-7).log_()
        return torch.softmax(torch.as_tensor(total), 0)


def make(backbone: Backbone) -> Blend:
    """Blend both on the levels that the backbone has and recommends."""
    return Blend(
        [(Ridge(levels=LiftedLevels(RandomFeatures(_WIDTH))), 1 - _PROTOTYPES), (panet.make(backbone), _PROTOTYPES)]
    )
