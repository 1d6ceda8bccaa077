"""The default takes features that were made for it as they are, and lets others bend."""

import pytest
import torch

from napari_fewshot import load_segmenter
from napari_fewshot.models import list_backbones
from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.backbones.scale_space import ScaleSpace
from napari_fewshot.models.methods import auto
from napari_fewshot.models.methods.base import SupportFeatures


class Linear(ScaleSpace):
    """As if its features had been trained for a linear classifier."""

    linear = True


def accuracy_on_a_ring(backbone: ScaleSpace) -> float:
    """A ring in feature space, which no linear classifier finds: class 1 where a feature is near 0."""
    feature = torch.linspace(-3, 3, 40).expand(1, 32, 40)
    pyramid = FeaturePyramid({Level(2): feature[:, ::2, ::2]}, (32, 40))
    middle = (feature[0].abs() < 1).long()
    method = auto.make(backbone)
    state = method.fit([SupportFeatures.whole(pyramid, middle, "a")], (1,))
    return (method.predict(state, pyramid).argmax(0) == middle).float().mean().item()


def test_features_of_other_backbones_may_bend() -> None:
    assert accuracy_on_a_ring(ScaleSpace()) > 0.85
    assert accuracy_on_a_ring(Linear()) < 0.75


def test_the_default_needs_no_download() -> None:
    assert list_backbones()[0].name == "mica"
    assert not list_backbones()[0].needs_weights
    assert load_segmenter(device="cpu").name == "auto on mica (cpu)"


@pytest.mark.parametrize("card", [c for c in list_backbones() if not c.needs_weights], ids=lambda c: c.name)
def test_every_backbone_that_needs_no_download_says_what_its_features_are_for(card: object) -> None:
    assert load_segmenter("auto", backbone=card.name, device="cpu").extractor.backbone.linear == (card.name == "mica")  # type: ignore[attr-defined]
