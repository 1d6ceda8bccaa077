"""P-Match and the stack of PMM by their equations, in the size of the paper, and what their sheet promises."""

import pytest
import torch
from torch import Tensor

from napari_fewshot.models.blocks.layers import conv
from napari_fewshot.models.methods.pmm import PMM
from napari_fewshot.models.methods.pmm_match import Match, MatchConfig, MatchedPMM, MatchedRPMM, StackConfig
from napari_fewshot.models.methods.rpmm import RPMM
from tests.models.toys import noise, pictures, random_shot, stripes, toy_ious, whole

SINGLE = MatchConfig(16, (1,), width=8, dilations=(2, 4))
STACK = StackConfig(16, (1,), width=8, dilations=(2, 4))
TRUNK = 8_543_296
"""Weights of ResNet-50 up to its fourth block, which the published number includes."""


def head(config: MatchConfig) -> Match:
    """All weights moved a little, so that none is zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = Match(config).double().eval()
        with torch.no_grad():
            for p in made.parameters():
                p.add_(0.1 * torch.randn_like(p))
    return made


def beside(query: Tensor, prototype: Tensor) -> Tensor:
    """The upsampled prototype concatenated with the query, cell by cell: (1, D + E, h, w)."""
    rows = [[torch.cat([query[:, y, x], prototype]) for x in range(query.shape[2])] for y in range(query.shape[1])]
    return torch.stack([torch.stack(row, 1) for row in rows], 1)[None]


def test_p_match_is_a_convolution_of_each_prototype_beside_every_cell() -> None:
    module = head(SINGLE)
    query, prototypes = noise(8 + 3, 6, 9), noise(3, 8, seed=1)
    activated = [module.compare.convolution(beside(query, mu)).relu()[0] for mu in prototypes]
    torch.testing.assert_close(module.match(query, prototypes), sum(activated) / 3)  # eq. 6
    torch.testing.assert_close(module.match(query, prototypes[[2, 0, 1]]), sum(activated) / 3)


@pytest.mark.parametrize("config", [SINGLE, STACK], ids=["pmm", "rpmm"])
def test_the_maps_of_p_conv_go_where_the_authors_put_them(config: MatchConfig) -> None:
    module = head(config)
    query, prototypes = noise(8 + 3, 6, 9), noise(3, 8, seed=1)
    maps, last = noise(2, 6, 9, seed=2).softmax(0), noise(2, 6, 9, seed=3).softmax(0)
    matched = module.match(query, prototypes)
    if config.is_stack:
        expected = module.optimise(module.merge(torch.cat([matched, maps])[None])[0], last)  # eq. 9
    else:
        expected = module.optimise(module.merge(matched[None])[0], maps)
    torch.testing.assert_close(module(query, prototypes, maps, last), expected)


def method_with(config: MatchConfig) -> MatchedPMM:
    return (MatchedRPMM if config.is_stack else MatchedPMM)(config, head(config))


def test_mixtures_of_reduced_pixels_are_fitted_to_what_the_query_is_reduced_by_too() -> None:
    """Eqs. 4 and 5 at their fixed point: one component is the direction of the mean of reduced, unit samples."""
    method = method_with(MatchConfig(6, (4,), (1,), width=8, dilations=(2,)))
    shot = random_shot(1, stripes(0, 1))
    (known,) = method.fit([shot], (1,)).solution
    kept = method.summarise(shot).pixels.labels[1].features[:600]
    (weight, bias) = method.head.reduce[0].parameters()  # type: ignore[index, union-attr]
    reduced = torch.stack([(weight[:, :, 0, 0] @ pixel + bias).relu() for pixel in kept])
    mean = torch.nn.functional.normalize(reduced, dim=1).mean(0)
    torch.testing.assert_close(known.reduced.prototypes[1][0], mean / mean.norm())


@pytest.mark.parametrize("config", [SINGLE, STACK], ids=["pmm", "rpmm"])
@pytest.mark.parametrize("classes", [1, 2])
def test_untrained_it_proposes_what_is_proposed_without_training(config: MatchConfig, classes: int) -> None:
    kind, plain = (MatchedRPMM, RPMM) if config.is_stack else (MatchedPMM, PMM)
    method = kind(config)
    method.head.double().eval()
    with torch.inference_mode():
        assert min(toy_ious(method, shots=2, classes=classes)) > 0.95
        (pyramid, labels), (query, _) = pictures(1, classes), pictures(2, classes)
        without = plain(method.levels)
        ids = tuple(range(1, classes + 1))
        expected = without.predict(without.fit([whole(pyramid, labels)], ids), query).argmax(0)
        found = method.predict(method.fit([whole(pyramid, labels)], ids), query).argmax(0)
    assert (found == expected).double().mean() > 0.995


def test_each_pass_is_told_what_the_one_before_answered() -> None:
    method = method_with(STACK)
    (pyramid, labels), (query, _) = pictures(1), pictures(2)
    solution = method.fit([whole(pyramid, labels)], (1,)).solution
    assert [len(known.plain.prototypes[1]) for known in solution] == [1, 3, 6]
    first, second, third = method.passes(solution, query)[0]
    alone = method.passes(solution[1:], query)[0]
    assert not torch.allclose(alone[0], second) and not torch.allclose(alone[1], third)
    answer = method.logits(solution, query)[0].sigmoid()
    torch.testing.assert_close(answer, torch.stack([first, second, third]).sigmoid().mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(method.passes(solution[:1], query)[0][0], first)


def test_gradients_go_through_the_rounds_of_the_mixture() -> None:
    method = method_with(MatchConfig(16, (1,), width=8, cues=0, corrects=False, dilations=(2,)))
    pyramid, labels = pictures(1)
    (known,) = method.combine([method.summarise(whole(pyramid, labels))], (1,))
    known.reduced.prototypes[1][:, 0].sum().backward()
    weight = method.head.reduce[0].weight  # type: ignore[index, union-attr]
    assert weight.grad is not None and weight.grad.abs().sum() > 0


def test_with_the_kernel_of_the_paper_shots_are_reduced_as_maps() -> None:
    method = method_with(MatchConfig(16, (1,), width=8, kernel=3, cues=0, corrects=False, dilations=(2,)))
    pyramid, labels = pictures(1)
    dot = torch.full_like(labels, 255)
    dot[20, 30] = 1
    with torch.inference_mode():
        for shots in ([whole(pyramid, labels)], [whole(pyramid, dot)]):
            p = method.predict(method.fit(shots, (1,)), pictures(2)[0])
            assert p.isfinite().all() and p.shape == (2, 48, 64)


@pytest.mark.parametrize("kind", [MatchConfig, StackConfig])
def test_the_paper_s_size_is_about_the_published_one(kind: type[MatchConfig]) -> None:
    """19.5 million in the paper's text, 19.0 for CANet: what P-Match adds is its second convolution."""
    with torch.device("meta"):
        made = Match(kind.paper())
    counted = TRUNK + sum(p.numel() for p in made.parameters())
    assert abs(counted / 1e6 - 19.5) < 0.15
    second = sum(p.numel() for p in conv(256, 256).parameters())
    assert round((counted - second) / 1e6, 1) == 19.0 if kind is MatchConfig else counted > TRUNK
