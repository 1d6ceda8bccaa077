"""The blend that is the default."""

import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.methods.auto import Blend
from napari_fewshot.models.methods.base import SupportFeatures
from napari_fewshot.models.methods.panet import PANet
from napari_fewshot.models.methods.ridge import Ridge


def features(seed: int) -> FeaturePyramid:
    return FeaturePyramid({Level(4): torch.randn(6, 8, 10, generator=torch.Generator().manual_seed(seed))}, (32, 40))


def shots() -> list[SupportFeatures]:
    labels = torch.zeros(32, 40, dtype=torch.long)
    labels[:16, :20], labels[16:, 20:] = 1, 2
    return [SupportFeatures.whole(features(1), labels, "a")]


def predicted(*members: tuple[Ridge | PANet, float]) -> Tensor:
    blend = Blend(members)
    return blend.predict(blend.fit(shots(), (1, 2)), features(9))


def test_a_blend_of_one_is_that_one() -> None:
    method = Ridge()
    alone = method.predict(method.fit(shots(), (1, 2)), features(9))
    torch.testing.assert_close(predicted((method, 1.0)), alone, atol=1e-5, rtol=0)


def test_log_odds_of_a_blend_are_the_weighted_mean_of_those_of_its_members() -> None:
    def odds(p: Tensor) -> Tensor:
        return p[1].log() - p[0].log()

    ridge, panet = predicted((Ridge(), 1.0)), predicted((PANet((4,)), 1.0))
    blended = predicted((Ridge(), 0.7), (PANet((4,)), 0.3))
    torch.testing.assert_close(odds(blended), 0.7 * odds(ridge) + 0.3 * odds(panet), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(blended.sum(0), torch.ones(32, 40))
