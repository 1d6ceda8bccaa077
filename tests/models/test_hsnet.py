"""HSNet by its equations, in the size of the paper, and within bounds where two maps meet."""

from itertools import product

import pytest
import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.blocks.convolution4d import CentrePivotConv4d, pooled_over_shot, resized_query
from napari_fewshot.models.methods.hsnet import HSNet, HypercorrelationSqueeze, SqueezeConfig, vote
from tests.models.toys import noise, permuted, toy_ious, whole

LAYERS = {4: 3, 8: 5, 16: 4}
PLAIN = SqueezeConfig((3, 5, 4), (4, 8, 16), (8, 8, 16), (4, 4, 8), False, (4, 8), corrects=False)
FULL = SqueezeConfig((3, 5, 4), (4, 8, 16), (8, 8, 16), (4, 4, 8), True, (4, 8))


def pyramid(seed: int, size: tuple[int, int] = (32, 48)) -> FeaturePyramid:
    maps = {
        Level(stride): noise(width, -(-size[0] // stride), -(-size[1] // stride), seed=seed + stride)
        for stride, width in LAYERS.items()
    }
    return FeaturePyramid(maps, size)


def square(size: tuple[int, int] = (32, 48)) -> Tensor:
    labels = torch.zeros(size, dtype=torch.long)
    labels[8:24, 8:24] = 1
    return labels


def method(config: SqueezeConfig) -> HSNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = HSNet(config)
    made.head.double().eval()
    return made


def in_four_dimensions(layer: CentrePivotConv4d, pairs: Tensor) -> Tensor:
    """Eq. 3 with a kernel that is zero where neither place is its own centre, place by place."""
    size = layer.over_query.kernel_size[0]
    reach = size // 2
    kernel = torch.zeros(*layer.over_query.weight.shape[:2], size, size, size, size, dtype=pairs.dtype)
    kernel[:, :, :, :, reach, reach] += layer.over_query.weight
    kernel[:, :, reach, reach] += layer.over_shot.weight
    _, _, h, w, u, v = pairs.shape
    rows = []
    for y, x, s, t in product(range(h), range(w), range(0, u, layer.stride), range(0, v, layer.stride)):
        total = layer.over_query.bias + layer.over_shot.bias
        for i, j, k, m in product(range(-reach, reach + 1), repeat=4):
            if 0 <= y + i < h and 0 <= x + j < w and 0 <= s + k < u and 0 <= t + m < v:
                weights = kernel[:, :, i + reach, j + reach, k + reach, m + reach]
                total = total + weights @ pairs[0, :, y + i, x + j, s + k, t + m]
        rows.append(total)
    left = (-(-u // layer.stride), -(-v // layer.stride))
    return torch.stack(rows, 1).view(1, -1, h, w, *left)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_centre_pivot_is_a_sparse_convolution_in_four_dimensions(stride: int) -> None:
    layer = CentrePivotConv4d(2, 3, 3, stride).double()
    pairs = noise(1, 2, 3, 4, 5, 3)
    torch.testing.assert_close(layer(pairs), in_four_dimensions(layer, pairs))


def test_places_are_pooled_on_the_shot_and_interpolated_on_the_query() -> None:
    pairs = noise(2, 3, 4, 5, 6, 2)
    assert pooled_over_shot(pairs, (6, 2)) is pairs
    torch.testing.assert_close(pooled_over_shot(pairs, (1, 1))[..., 0, 0], pairs.mean((-2, -1)))
    larger = resized_query(pairs, (8, 10))
    assert larger.shape == (2, 3, 8, 10, 6, 2)
    alone = torch.nn.functional.interpolate(pairs[..., 5, 1], (8, 10), mode="bilinear", align_corners=False)
    torch.testing.assert_close(larger[..., 5, 1], alone)


def test_the_paper_s_size_has_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        head = HypercorrelationSqueeze(SqueezeConfig.paper())
    assert round(sum(p.numel() for p in head.parameters()) / 1e6, 1) == 2.6  # section 5.1


def correlated(hsnet: HSNet, query: FeaturePyramid, labels: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Correlations with one shot, and the features of the query that went in."""
    (known,) = hsnet.fit([whole(pyramid(7), labels)], (1,)).solution
    cells, _ = hsnet.levels.cells(query)
    layers = [torch.nn.functional.normalize(f, dim=0) for f, _ in hsnet._layers(cells, 10_000)]
    return hsnet.correlations(layers, known.shots[0]), layers


def test_correlations_equal_the_paper_place_by_place() -> None:
    hsnet = method(PLAIN)
    (fine, coarse), layers = correlated(hsnet, pyramid(1), square())
    assert fine.shape == (1, 2, 4, 6, 4, 6) and coarse.shape == (1, 1, 2, 3, 2, 3)
    (each,) = hsnet.summarise(whole(pyramid(7), square()))[1]
    shares = torch.nn.functional.avg_pool2d(each.shares[1][None], 2)[0]
    mask = shares / shares.max()
    assert mask[0, 5] == 0 and mask[1, 1] > 0.5
    for y, x, u, v in product(range(4), range(6), range(4), range(6)):
        cell = each.features[3:8, 2 * u : 2 * u + 2, 2 * v : 2 * v + 2].mean((1, 2))  # the second layer
        cosine = torch.cosine_similarity(layers[1][:, y, x], cell, dim=0)
        torch.testing.assert_close(fine[0, 1, y, x, u, v], cosine.clamp_min(0) * mask[u, v])  # eqs. 1 and 2


def test_correlations_lie_between_0_and_1_and_so_do_those_with_the_background() -> None:
    both, _ = correlated(method(FULL), pyramid(1), square())
    assert [c.shape[1] for c in both] == [4, 2]
    assert all(c.min() >= 0 and c.max() <= 1 + 1e-9 for c in both)


def test_the_order_of_features_in_a_layer_is_irrelevant() -> None:
    def shuffled(p: FeaturePyramid) -> FeaturePyramid:
        return FeaturePyramid({level: f.flip(0) for level, f in p.features.items()}, p.size)

    hsnet = method(FULL)
    torch.nn.init.normal_(hsnet.head.classify[-1].weight)
    one = hsnet.predict(hsnet.fit([whole(pyramid(7), square())], (1,)), pyramid(1))
    other = hsnet.predict(hsnet.fit([whole(shuffled(pyramid(7)), square())], (1,)), shuffled(pyramid(1)))
    torch.testing.assert_close(one, other)


def test_without_a_mask_the_shot_has_no_part_in_the_answer() -> None:
    hsnet = method(PLAIN)
    answers = []
    for seed in (7, 8):
        (each,) = hsnet.summarise(whole(pyramid(seed), square()))[1]
        each.shares[1].zero_()  # type: ignore[index]
        correlations = hsnet.correlations([f for f, _ in hsnet._layers(each.features, 10_000)], hsnet._masked(each, 1))
        answers.append(hsnet.head(correlations, noise(1, 0, 8, 12)))
    assert torch.equal(*answers)


def test_each_shot_has_a_vote() -> None:
    unsure = torch.tensor([[3.0, 1.0, -1.0, -5.0], [2.0, -1.0, -2.0, -1.0], [1.0, 2.0, 1.0, -4.0]])
    counted = vote(unsure, counted=True)
    votes = [sum(float(answer) > 0 for answer in column) for column in unsure.T]  # 3, 2, 1, 0
    expected = torch.tensor([v / max(votes) for v in votes])
    torch.testing.assert_close(counted.sigmoid(), expected.clamp(1e-3, 1 - 1e-3))
    assert (counted > 0).tolist() == [True, True, False, False]  # more than a half of the most
    torch.testing.assert_close(vote(unsure, counted=False).sigmoid(), unsure.sigmoid().mean(0))


def test_the_bar_is_lower_where_shots_agree_nowhere() -> None:
    alone = torch.full((5, 2), -1.0)
    alone[0, 0] = 1.0
    assert (vote(alone, counted=True) > 0).tolist() == [True, False]
    assert (vote(-alone.abs(), counted=True) > 0).tolist() == [False, False]
    sure = torch.tensor([[200.0], [190.0]])
    assert vote(sure, counted=False).item() > 180


def test_the_same_shot_twice_is_that_shot() -> None:
    hsnet = method(PLAIN)
    once = hsnet.predict(hsnet.fit([whole(pyramid(7), square(), "a")], (1,)), pyramid(1))
    twice = hsnet.predict(hsnet.fit([whole(pyramid(7), square(), d) for d in "ab"], (1,)), pyramid(1))
    torch.testing.assert_close(once, twice)


def test_untrained_it_answers_with_the_calibrated_prior() -> None:
    hsnet = method(SqueezeConfig((16,), (1,), (8,), (4, 4, 8), True, (1,)))
    assert min(toy_ious(hsnet, shots=2)) > 0.95


def test_features_in_another_order_do_not_matter_for_one_layer() -> None:
    hsnet = method(SqueezeConfig((5,), (8,), (8,), (4, 4, 8), False, (8,), corrects=False))
    shots = [whole(pyramid(7).select((8,)), square())]
    columns = torch.tensor([4, 2, 0, 1, 3])
    query = pyramid(1).select((8,))
    changed = FeaturePyramid({level: f[columns] for level, f in query.features.items()}, query.size)
    one = hsnet.predict(hsnet.fit(shots, (1,)), query)
    torch.testing.assert_close(one, hsnet.predict(hsnet.fit(permuted(shots, columns), (1,)), changed))


def test_correlations_stay_bounded_however_large_both_images_are() -> None:
    hsnet = HSNet(SqueezeConfig.for_features({4: 2, 8: 2, 16: 2}, (4, 8)))
    for shape, other in (((2048, 2048), (1024, 1024)), ((64, 8192), (4096, 128)), ((16, 16), (2048, 2048))):
        shot = FeaturePyramid({Level(s): torch.rand(2, shape[0] // s, shape[1] // s) for s in (4, 8, 16)}, shape)
        query = FeaturePyramid({Level(s): torch.rand(2, other[0] // s, other[1] // s) for s in (4, 8, 16)}, other)
        labels = torch.zeros(shape, dtype=torch.long)
        labels[:8] = 1
        (known,) = hsnet.combine([hsnet.summarise(whole(shot, labels))], (1,))
        cells, _ = hsnet.levels.cells(query)
        layers = [features for features, _ in hsnet._layers(cells, 64 * 64)]
        pairs = [f[0].numel() * m.features[0].numel() for f, m in zip(layers, known.shots[0], strict=True)]
        assert max(pairs) <= 1.05 * 64**2 * 32**2
