"""OSLSM by its equations, in the size of the paper, and what its sheet promises."""

import pytest
import torch
from torch import Tensor

from napari_fewshot.models.blocks.support_maps import SupportMap
from napari_fewshot.models.methods.oslsm import OSLSM, OSLSMConfig, OSLSMHead, WeightHashing, erased
from tests.models.toys import noise, pictures, toy_ious, whole

SMALL = OSLSMConfig(16, (1,), embedding=12, code=5, hidden=8)
BARE = OSLSMConfig(16, (1,), embedding=12, code=5, hidden=8, corrects=False)
VGG_CONVOLUTIONS = 14_714_688
"""Weights of the convolutions of VGG-16."""


def perturbed(config: OSLSMConfig) -> OSLSM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        method = OSLSM(config)
        method.head.double().eval()
        with torch.no_grad():
            for p in method.head.parameters():
                p.add_(0.3 * torch.randn_like(p))
    return method


def answers(method: OSLSM, seeds: list[int]) -> Tensor:
    """Logits (h, w) on a picture that was not taught."""
    support = [whole(*pictures(seed), f"{seed}") for seed in seeds]
    with torch.inference_mode():
        return method.logits(method.fit(support, (1,)).solution, pictures(50)[0])[0][0]


# ---------------------------------------------------------------------------- weight hashing
def test_every_number_of_a_classifier_is_one_of_the_code_or_its_negative() -> None:
    matrix = WeightHashing(50, 401).matrix
    assert matrix.shape == (401, 50)
    assert torch.equal(matrix.abs().sum(1), torch.ones(401)) and set(matrix.unique().tolist()) == {-1.0, 0.0, 1.0}
    code = noise(3, 50).float()
    copied = matrix.abs().argmax(1)  # kappa
    signs = matrix.sum(1)  # zeta
    expected = torch.stack([torch.stack([signs[i] * x[copied[i]] for i in range(401)]) for x in code])
    layer = WeightHashing(50, 401)
    layer.matrix.copy_(matrix)
    torch.testing.assert_close(layer(code), expected)


def test_random_signs_keep_copies_of_a_number_apart() -> None:
    """Over many codes the covariance of different numbers of a classifier is about zero on average."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = WeightHashing(5, 200)
    theta = layer(torch.randn(4000, 5, generator=torch.Generator().manual_seed(1)))
    covariance = torch.cov(theta.T)
    assert covariance.diag().mean().item() == pytest.approx(1, abs=0.1)
    assert abs((covariance.sum() - covariance.trace()).item()) / (200 * 199) < 0.02


def test_the_hashing_is_kept_with_the_weights_and_not_trained() -> None:
    head, other = OSLSMHead(SMALL), OSLSMHead(SMALL)
    assert "hashing.matrix" in head.state_dict() and "hashing.matrix" not in dict(head.named_parameters())
    other.load_state_dict(head.state_dict())
    assert torch.equal(other.hashing.matrix, head.hashing.matrix)


# ---------------------------------------------------------------------------- the method
def test_it_equals_the_paper_pixel_by_pixel() -> None:
    """Eqs. 1 and 2: sigma(w F + b), with w and b hashed from the code of the shot."""
    method = perturbed(BARE)
    head, (pyramid, labels), query = method.head, pictures(1), pictures(50)[0]
    cells, embedded = (method.levels.cells(p)[0] for p in (pyramid, query))
    inside, rest = (cells[:, labels == value].mean(1) for value in (1, 0))
    with torch.inference_mode():
        code = head.support(torch.cat([inside, rest]))
        theta = [sum(sign * x for sign, x in zip(row, code, strict=True)) for row in head.hashing.matrix]
        embedded = head.query(embedded[None])[0]
        for y, x in ((0, 0), (20, 31), (47, 63)):
            expected = sum(w * f for w, f in zip(theta[:-1], embedded[:, y, x], strict=True)) + theta[-1]
            assert answers(method, [1])[y, x].item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("config", [SMALL, BARE])
def test_several_shots_are_the_largest_answer_of_each_alone(config: OSLSMConfig) -> None:
    method = perturbed(config)
    alone = torch.stack([answers(method, [seed]) for seed in (1, 2, 3)])
    torch.testing.assert_close(answers(method, [1, 2, 3]), alone.amax(0))
    assert (answers(method, [1, 2, 3]) >= answers(method, [1, 2]) - 1e-9).all()  # a shot more takes nothing away


def test_untrained_it_answers_with_the_calibrated_similarity() -> None:
    method = OSLSM(SMALL)
    method.head.eval()
    with torch.inference_mode():
        assert min(toy_ious(method, shots=2)) > 0.9


def test_what_is_erased_is_zero_and_what_is_small_is_not_faint() -> None:
    features = noise(3, 8, 8)
    share = torch.zeros(8, 8, dtype=torch.float64)
    share[:4, :4] = 1
    seen = erased(SupportMap(features, {1: share}, torch.ones(8, 8), (4, 4)), 1, 2)
    torch.testing.assert_close(seen[:, 0, 0], 4 * features[:, :4, :4].mean((1, 2)))
    assert not seen[:, 1].any() and not seen[:, :, 1].any()


def test_the_support_branch_can_see_where_things_are() -> None:
    method = perturbed(OSLSMConfig(16, (1,), embedding=12, code=5, hidden=8, grid=7, background=False, corrects=False))
    assert answers(method, [1, 2]).isfinite().all()


def test_the_paper_s_size_has_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        head = OSLSMHead(OSLSMConfig.paper())
    counted = 2 * VGG_CONVOLUTIONS + sum(p.numel() for p in head.parameters())
    assert round(counted / 1e6, 1) == 272.6  # quoted by SG-One; both branches have convolutions of their own
