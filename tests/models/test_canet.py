"""CANet by its equations, in the size of the paper, and what its sheet promises."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_fewshot import Box, Frame, Shot
from napari_fewshot.models.methods.base import SupportFeatures
from napari_fewshot.models.methods.canet import (
    CANet,
    CANetConfig,
    CANetHead,
    ComparingConvolution,
    DenseComparison,
    IterativeOptimisation,
)
from tests.models.toys import iou, noise, pictures, toy_ious, whole

SMALL = CANetConfig(16, (1,), width=8, dilations=(2, 4))


def head(config: CANetConfig = SMALL) -> CANetHead:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = CANetHead(config).double().eval()
        with torch.no_grad():
            for p in made.parameters():
                p.add_(0.1 * torch.randn_like(p))
    return made


def put_beside(cells: Tensor, vector: Tensor) -> Tensor:
    """The concatenation of the paper, cell by cell: (1, D + E, h, w)."""
    rows = [
        torch.stack([torch.cat([cells[:, i, j], vector]) for j in range(cells.shape[2])], 1)
        for i in range(cells.shape[1])
    ]
    return torch.stack(rows, 1)[None]


def by_the_paper(module: DenseComparison, query: Tensor, vectors: Tensor) -> Tensor:
    """Sections 4.1 and 4.3, shot by shot."""
    compared, weights = [], []
    for vector in vectors:
        pair = put_beside(query, vector)
        compared.append(module.compare.convolution(pair).relu()[0])
        first = F.max_pool2d(module.attend.convolution(pair).relu(), 3, 2, 1)
        weights.append(module.weigh[-1](first).mean().exp())
    return sum(w / sum(weights) * d for w, d in zip(weights, compared, strict=True))


# ---------------------------------------------------------------------------- dense comparison and attention
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (9, 6)], ids=str)
@pytest.mark.parametrize("dilation", [1, 2])
def test_a_convolution_with_a_vector_beside_every_cell_is_exact_at_borders_too(
    size: tuple[int, int], dilation: int
) -> None:
    layer = ComparingConvolution(3, 5, 4, dilation).double()
    cells, vectors = noise(3, *size), noise(6, 5, seed=1)
    found = layer.of_map(cells) + layer.of_vectors(vectors, cells)
    expected = torch.cat([layer.convolution(put_beside(cells, vector)) for vector in vectors])
    torch.testing.assert_close(found, expected)


def test_dense_comparison_equals_the_paper_shot_by_shot() -> None:
    module = head().compare
    query, vectors = noise(11, 9, 7), noise(11, 8, seed=1)  # more shots than are compared at once
    torch.testing.assert_close(module(query, vectors), by_the_paper(module, query, vectors))


def test_weights_of_shots_are_a_distribution_and_those_of_equal_shots_are_equal() -> None:
    module, query = head().compare, noise(11, 9, 7)
    a, b = 3 * noise(2, 8, seed=1)
    weights = module.weights(query, torch.stack([a, b, a]))
    assert weights.sum().item() == pytest.approx(1) and bool((weights > 0).all())
    assert weights[0].item() == pytest.approx(weights[2].item())
    assert weights[0].item() != pytest.approx(weights[1].item(), abs=1e-3)


def test_the_same_shot_several_times_is_one_shot() -> None:
    module, query, vector = head().compare, noise(11, 9, 7), noise(1, 8, seed=1)
    torch.testing.assert_close(module(query, vector.expand(12, -1)), module(query, vector))


# ---------------------------------------------------------------------------- iterative optimisation
def optimised(module: IterativeOptimisation, x: Tensor, last: Tensor) -> Tensor:
    """Section 4.2 in plain steps, (h, w)."""

    def block(layers: torch.nn.Sequential, value: Tensor) -> Tensor:
        return layers[3](layers[1](value.relu()).relu())

    merged = x[None] + block(module.incorporate, torch.cat([x, last])[None])
    for layers in module.residual:
        merged = merged + block(layers, merged)
    whole_map = module.pyramid.whole[0](merged.mean((2, 3), keepdim=True)).relu().expand_as(merged)
    branches = [branch[0](merged).relu() for branch in module.pyramid.branches]
    assert len(branches) == 1 + len(SMALL.dilations)
    fused = module.fuse[0](torch.cat([whole_map, *branches], 1)).relu()
    return module.classify(fused)[0, 0]


def test_refinement_equals_the_paper_step_by_step() -> None:
    net, x, base = head(), noise(8, 9, 7).relu(), noise(9, 7, seed=2)
    last = torch.zeros(2, 9, 7, dtype=torch.float64)
    for refinements in range(4):
        expected = base + optimised(net.optimise, x, last)
        torch.testing.assert_close(net(x, base, refinements), expected)
        p = expected.sigmoid()
        last = torch.stack([1 - p, p])


def test_where_nothing_is_incorporated_the_comparison_passes_unchanged() -> None:
    """F = 0 in eq. 1: answers no longer depend on those before."""
    net, x, base = head(), noise(8, 9, 7).relu(), noise(9, 7, seed=2)
    with torch.no_grad():
        for p in net.optimise.incorporate[-1].parameters():
            p.zero_()
    torch.testing.assert_close(net(x, base, 0), net(x, base, 3))


def test_an_answer_that_stays_itself_once_stays_itself() -> None:
    net, x, base = head(), noise(8, 9, 7).relu(), noise(9, 7, seed=2)
    with torch.no_grad():
        settled = net(x, base, 60)
        p = settled.sigmoid()
        again = base + net.optimise(x, torch.stack([1 - p, p]))
    torch.testing.assert_close(again, settled, atol=1e-6, rtol=0)


def test_training_mostly_begins_and_ends_with_the_first_answer() -> None:
    method = CANet(SMALL)
    method.head.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        counts = torch.tensor([method._refinements() for _ in range(2000)]).bincount(minlength=3)
    assert counts[0].item() / 2000 == pytest.approx(SMALL.reset, abs=0.05)
    assert counts[1:].min() > 200 and len(counts) == 1 + SMALL.refinements
    method.head.eval()
    assert {method._refinements() for _ in range(50)} == {SMALL.refinements}


# ---------------------------------------------------------------------------- the method
def test_the_paper_s_size_has_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        net = CANetHead(CANetConfig.paper())
    attention = [*net.compare.attend.parameters(), *net.compare.weigh.parameters()]
    counted = sum(p.numel() for p in net.parameters()) - sum(p.numel() for p in attention)
    assert round(counted / 1e6, 1) == 10.5  # table of ASGNet, which counts the released code: it has no attention


def test_untrained_it_answers_with_the_calibrated_similarity() -> None:
    method = CANet(SMALL)
    method.head.eval()
    with torch.inference_mode():
        assert min(toy_ious(method, shots=2)) > 0.9


def test_reduced_whole_maps_teach_what_reduced_pixels_teach() -> None:
    """A 1 x 1 convolution with ReLU does the same to pixels that are drawn and to a map."""
    method = CANet(SMALL)
    method.head.double().eval()
    method_with_maps = CANet(CANetConfig(16, (1,), width=8, kernel=3, dilations=(2, 4)))
    method_with_maps.head.double().eval()
    pyramid, labels = pictures(1)
    shot = whole(pyramid, labels)
    with torch.inference_mode():
        cells, _ = method.levels.cells(pyramid)
        expected = method._reduced(cells)[:, labels == 1].mean(1)
        (known,) = method.fit([shot], (1,)).solution
        torch.testing.assert_close(known.vectors[0], expected, atol=0.05, rtol=0.05)
        state = method_with_maps.fit([shot, whole(*pictures(2), "b")], (1,))
        assert state.solution[0].vectors.shape == (2, 8)
        assert method_with_maps.predict(state, pyramid).isfinite().all()


def test_boxes_are_nearly_as_good_as_masks() -> None:
    method = CANet(SMALL)
    method.head.double().eval()
    pyramid, labels = pictures(3)
    rows, columns = ((labels == 1).any(d).nonzero()[:, 0] for d in (1, 0))
    box = Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
    boxed = Shot.boxed(Frame("a", labels.numpy().astype("uint8")), [box])
    support = [SupportFeatures.whole(pyramid, torch.from_numpy(boxed.labels.astype("int64")), "a")]
    query, truth = pictures(50)
    with torch.inference_mode():
        assert iou(method.predict(method.fit(support, (1,)), query).argmax(0), truth) > 0.8


def test_memory_of_many_shots_is_bounded() -> None:
    """No more than a few shots are compared at the same time."""
    module, seen = head().compare, []
    module.drop.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    module(noise(11, 9, 7), noise(50, 8, seed=1))
    assert sum(seen) == 50 and max(seen) <= 8
