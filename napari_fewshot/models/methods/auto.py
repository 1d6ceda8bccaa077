"""The default: what did best over the development data sets, see docs/benchmarks.md.

Today that is the mean of two ridge classifiers, a plain one, which is steady with a single shot, and one on
random features, which bends and gains with more.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import Backbone, FeaturePyramid
from napari_fewshot.models.blocks.random_features import RandomFeatures
from napari_fewshot.models.methods.base import FewShotMethod, SupportFeatures
from napari_fewshot.models.methods.ridge import Ridge

_WIDTH: Final = 256


class Blend:
    """The normalised geometric mean of the probabilities of several methods.

    Parameters
    ----------
    members
        Methods, each counting the same.
    """

    name = "auto"

    def __init__(self, members: Sequence[FewShotMethod]) -> None:
        self.members = tuple(members)

    def fit(self, support: Sequence[SupportFeatures], class_ids: tuple[int, ...]) -> tuple[Any, ...]:
        """Fit every member; see `FewShotMethod`."""
        return tuple(member.fit(support, class_ids) for member in self.members)

    def update(
        self,
        state: tuple[Any, ...],
        added: Sequence[SupportFeatures],
        removed: Sequence[str],
        class_ids: tuple[int, ...],
    ) -> tuple[Any, ...]:
        """Update every member; see `FewShotMethod`."""
        return tuple(
            member.update(part, added, removed, class_ids) for member, part in zip(self.members, state, strict=True)
        )

    def predict(self, state: tuple[Any, ...], query: FeaturePyramid) -> Tensor:
        """Average log-probabilities, then normalise."""
        logs = [
            member.predict(part, query).clamp_min(1e-7).log() for member, part in zip(self.members, state, strict=True)
        ]
        return torch.stack(logs).mean(0).softmax(0)


def make(backbone: Backbone) -> Blend:
    """Blend the two classifiers on every level of the backbone."""
    return Blend([Ridge(), Ridge(lift=RandomFeatures(_WIDTH))])
