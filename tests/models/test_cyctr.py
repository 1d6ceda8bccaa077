"""CyCTR by its equations: cycles, attention, and the choice of pixels."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.blocks.cycle_attention import CycleAttention, PredictedAttention, cycle_bias, positions
from napari_fewshot.models.methods.cyctr import CycleConfig, CyCTR
from tests.models.toys import noise, pictures, stripes, toy_ious, whole

SMALL = CycleConfig(16, (1,), width=8, heads=2, encoders=1, points=3, tokens=40)


def method(config: CycleConfig = SMALL, moved: bool = False) -> CyCTR:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = CyCTR(config)
        if moved:
            for p in made.head.parameters():
                torch.nn.init.normal_(p, std=0.2)
    made.head.double().eval()
    return made


def bias_by_the_paper(affinity: Tensor, labels: Tensor) -> list[float]:
    """Eqs. 3 and 4 for one head, token by token."""
    places, tokens = affinity.shape
    bias = []
    for j in range(tokens):
        there = max(range(places), key=lambda i: float(affinity[i, j]))
        back = max(range(tokens), key=lambda k: float(affinity[there, k]))
        bias.append(0.0 if labels[j] == labels[back] else -math.inf)
    return bias


def test_attention_equals_the_paper_place_by_place() -> None:
    attention = CycleAttention(6, 2).double().eval()
    query, tokens = noise(7, 6), noise(9, 6, seed=1)
    labels = torch.tensor([1, 0, 1, 1, 0, 0, 1, 0, 1], dtype=torch.bool)
    heads = []
    for head in range(2):
        rows = slice(3 * head, 3 * head + 3)
        q, k, v = (
            x @ layer.weight[rows].T
            for layer, x in ((attention.query, query), (attention.key, tokens), (attention.value, tokens))
        )
        affinity = (q @ k.T).detach() / math.sqrt(3)
        bias = torch.tensor(bias_by_the_paper(affinity, labels), dtype=torch.float64)
        assert bias.isinf().any() and not bias.isinf().all()
        heads.append(torch.stack([(affinity[i] + bias).softmax(0) @ v for i in range(7)]))  # eq. 5
    expected = attention.join(torch.cat(heads, 1))  # eq. 2
    torch.testing.assert_close(attention(query, tokens, labels), expected)


def test_nothing_is_left_out_where_the_query_is_the_shot() -> None:
    tokens = F.normalize(noise(30, 5), dim=1)
    labels = torch.rand(30, generator=torch.Generator().manual_seed(0)) < 0.5
    assert torch.equal(cycle_bias((tokens @ tokens.T)[None], labels), torch.zeros(1, 1, 30, dtype=torch.float64))


def test_what_leads_to_another_label_is_hardly_heard() -> None:
    affinity = torch.tensor([[[1.0, 2.0, 0.0], [0.0, -1.0, 3.0]]])  # tokens 0 and 1 both lead to 1
    bias = cycle_bias(affinity, torch.tensor([True, False, True]))
    assert bias[0, 0].tolist() == [-1e4, 0.0, 0.0]
    assert (affinity + bias).softmax(2)[0, :, 0].max() < 1e-6


def test_where_nothing_is_consistent_all_are_asked() -> None:
    attention = CycleAttention(4, 1).double().eval()
    tokens, labels = noise(2, 4), torch.tensor([True, False])
    with torch.no_grad():
        attention.key.weight.copy_(torch.eye(4).flip(0))
        attention.query.weight.copy_(torch.eye(4))
    query = noise(1, 4, seed=3)  # one place: both tokens lead to it, and it leads to one of them
    answer = attention(query, tokens, labels)
    assert answer.isfinite().all()
    one_sided = attention(query, tokens, torch.tensor([True, True]))
    assert not torch.allclose(answer, one_sided)  # with two labels only the better token is heard


def test_the_order_of_tokens_is_irrelevant() -> None:
    attention = CycleAttention(6, 3).double().eval()
    query, tokens = noise(7, 6), noise(9, 6, seed=1)
    labels, order = torch.arange(9) < 4, torch.randperm(9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(attention(query, tokens[order], labels[order]), attention(query, tokens, labels))


def interpolated(values: Tensor, row: float, column: float) -> Tensor:
    height, width = values.shape[-2:]
    row, column = min(max(row, 0.0), height - 1.0), min(max(column, 0.0), width - 1.0)
    top, left = min(int(row), height - 2), min(int(column), width - 2)
    y, x = row - top, column - left
    upper = (1 - x) * values[:, top, left] + x * values[:, top, left + 1]
    lower = (1 - x) * values[:, top + 1, left] + x * values[:, top + 1, left + 1]
    return (1 - y) * upper + y * lower


def test_places_that_a_place_chooses_equal_the_paper() -> None:
    attention = PredictedAttention(8, 2, 3).double().eval()
    maps = noise(8, 4, 5)
    query = maps.flatten(1).T
    told = query + positions(4, 5, 8)
    offsets = attention.offsets(told).view(-1, 2, 3, 2)
    weights = attention.weights(told).view(-1, 2, 3).softmax(2)
    values = attention.value(query).T.view(2, 4, 4, 5)
    rows = []
    for r in range(20):
        heads = []
        for h in range(2):
            places = [(r // 5 + dy, r % 5 + dx) for dy, dx in offsets[r, h].tolist()]
            parts = [w * interpolated(values[h], *at) for w, at in zip(weights[r, h], places, strict=True)]
            heads.append(torch.stack(parts).sum(0))  # eq. 6
        rows.append(torch.cat(heads))
    expected = attention.join(torch.stack(rows)).T.view(8, 4, 5)
    torch.testing.assert_close(attention(maps), expected)


def test_every_place_has_its_own_position() -> None:
    told = positions(5, 7, 8)
    assert told.shape == (35, 8) and len(told.unique(dim=0)) == 35


def test_pixels_that_are_asked_are_always_the_same_and_of_both_sides() -> None:
    pyramid, labels = pictures(1)
    shots = [whole(pyramid, labels, digest) for digest in ("a", "b", "c")]
    one, other = (method().fit(some, (1,)).solution[0] for some in (shots, shots[::-1]))
    assert torch.equal(one.features, other.features)
    assert 30 <= int(one.labels.sum()) <= 40 and 30 <= int((~one.labels).sum()) <= 40


def of_stripes(seed: int) -> FeaturePyramid:
    return FeaturePyramid({Level(4): noise(16, 8, 10, seed=seed)}, (32, 40))


@pytest.mark.parametrize("shots", [1, 50])
def test_however_many_shots_there_are_no_more_pixels_are_asked(shots: int) -> None:
    several = [whole(of_stripes(s), stripes(0, 1), f"{s}") for s in range(shots)]
    (known,) = method(CycleConfig(16, (4,), width=8, heads=2, tokens=60)).fit(several, (1,)).solution
    assert len(known.labels) <= 120


def test_a_query_of_any_size_asks_from_a_bounded_number_of_places() -> None:
    head = method().head
    for size in ((512, 512), (16, 4000), (4000, 16), (3, 1)):
        rows, columns = head._size(torch.zeros(1, *size))
        assert 1 <= rows * columns <= 64 * 64


def test_untrained_it_answers_with_the_calibrated_prior() -> None:
    assert min(toy_ious(method(), shots=2)) > 0.95


def test_the_class_on_the_query_has_to_find_itself_on_the_shots() -> None:
    from napari_fewshot.models.methods.trained import Episode

    cyctr = method(moved=True)
    (pyramid, labels), (query, truth) = pictures(1), pictures(2)
    support = (whole(pyramid, labels),)
    assert "aligned" in cyctr.loss(Episode(support, query, truth))
    assert "aligned" not in cyctr.loss(Episode(support, query, torch.zeros_like(truth)))


def test_each_class_is_answered_for_alone() -> None:
    cyctr = method(CycleConfig(16, (1,), width=8, heads=2, tokens=40, corrects=False, cues=1), moved=True)
    pyramid, labels = pictures(1, 2)
    with torch.inference_mode():
        state = cyctr.fit([whole(pyramid, labels)], (1, 2)).solution
        both, _ = cyctr.logits(state, pyramid)
        alone, _ = cyctr.logits(state[1:], pyramid)
    torch.testing.assert_close(both[1:], alone)
