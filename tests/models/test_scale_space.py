"""Scale space goes through an image strip by strip; nothing of that shows."""

import pytest
import torch

from napari_fewshot.models.backbones import scale_space
from napari_fewshot.models.backbones.scale_space import ScaleSpace


@pytest.mark.parametrize("shape", [(1, 320, 48), (3, 256, 64)])
def test_strips_give_the_features_of_the_whole_image(
    shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(scale_space, "_STRIP", image.numel())
    whole = ScaleSpace()(image)
    monkeypatch.setattr(scale_space, "_STRIP", 1)  # as low as strips get: several per level
    strips = ScaleSpace()(image)
    for level, features in whole.items():
        torch.testing.assert_close(strips[level], features, atol=1e-4, rtol=0)  # rounding
