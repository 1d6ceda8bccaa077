"""The default: what did best over the development data sets, see docs/benchmarks.md.

Today that is logistic regression on all levels of the backbone. Features that were trained for a linear classifier are
taken as they are; those of other backbones are joined by random features, and the classifier may bend.
"""

from typing import Final

from napari_fewshot.models.backbones.base import Backbone
from napari_fewshot.models.blocks.levels import LiftedLevels
from napari_fewshot.models.blocks.random_features import RandomFeatures
from napari_fewshot.models.methods.logistic import Logistic

_WIDTH: Final = 64
_LIFT_FROM: Final = 2
"""Random features at full resolution cost as much as all others together, and gain 0.003."""


def make(backbone: Backbone) -> Logistic:
    """Choose what suits the backbone."""
    lift = None if backbone.linear else RandomFeatures(_WIDTH)
    return Logistic(levels=LiftedLevels(lift, _LIFT_FROM))
