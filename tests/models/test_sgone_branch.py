"""SG-One's segmentation branch by its layers, in the size of the paper, and what its sheet promises."""

import pytest
import torch
from torch import Tensor, nn

from napari_fewshot.models.backbones.base import FeaturePyramid
from napari_fewshot.models.methods.sgone import SGOne
from napari_fewshot.models.methods.sgone_branch import Branch, BranchConfig, GuidedBranch
from tests.models.toys import noise, pictures, toy_ious, whole

SMALL = BranchConfig((16,), (1,), (0, 0), width=8)
VGG = 14_714_688
"""Weights of the convolutions of VGG-16, which the published number includes."""


def head(config: BranchConfig = SMALL) -> Branch:
    """All weights moved a little, so that none is zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = Branch(config).double().eval()
        with torch.no_grad():
            for p in made.parameters():
                p.add_(0.1 * torch.randn_like(p))
    return made


def convolved(layer: nn.Module, x: Tensor) -> Tensor:
    """3 x 3 convolution with zeros around the map, cell by cell: (D, h, w) -> (E, h, w)."""
    convolution = next(m for m in layer.modules() if isinstance(m, nn.Conv2d))
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    rows = [
        [
            torch.einsum("edyx,dyx->e", convolution.weight, padded[:, y : y + 3, x : x + 3]) + convolution.bias
            for x in range(x.shape[2])
        ]
        for y in range(x.shape[1])
    ]
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


@pytest.mark.parametrize("config", [SMALL, BranchConfig((4, 5, 6), (4, 8, 16), (1, 2), 8, maps=1)], ids=["two", "one"])
def test_it_equals_the_paper_layer_by_layer(config: BranchConfig) -> None:
    branch = head(config)
    levels = [noise(channels, 5, 7, seed=i) for i, channels in enumerate(config.channels)]
    guidance = torch.tanh(noise(config.maps, 5, 7, seed=9))
    a3 = convolved(branch.stem, levels[0]).relu()
    a4 = convolved(branch.steps[0], torch.cat([a3, levels[config.beside[0]]])).relu()
    a5 = convolved(branch.steps[1], torch.cat([a4, levels[config.beside[1]]]))
    looked = branch.look(torch.cat(levels))
    torch.testing.assert_close(looked, a5)
    assert a5.min() < 0  # no ReLU: what is guided has both signs
    merged = convolved(branch.merge, torch.cat([one * a5 for one in guidance])).relu()
    answer = torch.einsum("d,dyx->yx", branch.classify.weight[0, :, 0, 0], merged) + branch.classify.bias
    torch.testing.assert_close(branch(looked, guidance), answer)


def test_guidance_that_is_one_everywhere_leaves_the_plain_branch() -> None:
    branch = head(BranchConfig((16,), (1,), (0,), width=8, maps=1))
    looked = branch.look(noise(16, 5, 7))
    plain = branch.classify(branch.merge(looked[None]))[0, 0]
    torch.testing.assert_close(branch(looked, torch.ones(1, 5, 7, dtype=torch.float64)), plain)
    assert not torch.allclose(branch(looked, -torch.ones(1, 5, 7, dtype=torch.float64)), plain)


@pytest.mark.parametrize("guidance", [0, 12], ids=["features as they are", "with the convolution of the paper"])
def test_guidance_is_the_cosine_with_the_average(guidance: int) -> None:
    config = BranchConfig((16,), (1,), (0,), width=8, guidance=guidance)
    method = GuidedBranch(config, head(config))
    (pyramid, labels), (query, _) = pictures(1), pictures(2)
    ((level, features),) = pyramid.features.items()  # few enough cells for maps to be kept as they are
    pyramid, labels = FeaturePyramid({level: features[:, 8:40, 8:48]}, (32, 40)), labels[8:40, 8:48]
    (known,) = method.fit([whole(pyramid, labels)], (1,)).solution
    (shown, _), (cells, _) = method.levels.cells(pyramid), method.levels.cells(query)
    if guidance:
        shown, cells = (convolved(method.head.guide, x) for x in (shown, cells))  # type: ignore[arg-type]
    v = shown[:, labels == 1].mean(1)
    expected = torch.cosine_similarity(cells, v[:, None, None], dim=0)
    maps = method.guidance(known, method.levels.cells(query)[0])
    torch.testing.assert_close(maps[0], expected)
    assert len(maps) == 2 and maps.abs().max() <= 1 + 1e-12


def test_untrained_it_proposes_what_the_map_alone_proposes() -> None:
    method = GuidedBranch(SMALL)
    method.head.double().eval()
    plain = SGOne(method.levels)
    (pyramid, labels), (query, _) = pictures(1, 2), pictures(2, 2)
    with torch.inference_mode():
        assert min(toy_ious(method, shots=2)) > 0.95
        expected = plain.predict(plain.fit([whole(pyramid, labels)], (1, 2)), query).argmax(0)
        found = method.predict(method.fit([whole(pyramid, labels)], (1, 2)), query).argmax(0)
    assert (found == expected).double().mean() > 0.995


def test_the_paper_s_size_has_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        branch = Branch(BranchConfig.paper())
    assert round((VGG + sum(p.numel() for p in branch.parameters())) / 1e6, 1) == 19.0  # table VI
