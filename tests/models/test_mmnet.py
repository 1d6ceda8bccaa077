"""MMNet by its equations: memory, propagation of masks, quality of shots."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_fewshot.models.blocks import meta_memory
from napari_fewshot.models.blocks.meta_memory import MetaClassMemory, propagated
from napari_fewshot.models.methods.mmnet import MemoryConfig, MMNet, Nodes
from tests.models.toys import noise, pictures, toy_ious, whole

SMALL = MemoryConfig(16, (1,), classes=6, width=8)


def method(config: MemoryConfig = SMALL, moved: bool = False) -> MMNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = MMNet(config)
        if moved:
            for p in made.head.parameters():
                torch.nn.init.normal_(p, std=0.2)
    made.head.double().eval()
    return made


def activations(count: int, seed: int = 0) -> Tensor:
    return noise(6, count, seed=seed).sigmoid()


def test_a_cell_is_told_in_meta_classes_as_in_the_paper() -> None:
    memory = MetaClassMemory(4, 8, 6).double()
    cells = noise(4, 5, 7)
    told = memory(cells)
    features = memory.features(cells[None])[0]
    assert told.shape == (6, 5, 7) and told.min() > 0 and told.max() < 1
    for n, y, x in ((0, 0, 0), (5, 4, 6), (3, 2, 1)):
        expected = 1 / (1 + torch.exp(-(features[:, y, x] * memory.embeddings[n]).sum()))  # eq. 1
        torch.testing.assert_close(told[n, y, x], expected)


def by_the_paper(query: Tensor, shot: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Eqs. 2 to 4 and 9, cell by cell, the background included."""
    found, quality = [], []
    for h_q in query.T:
        e = [torch.cosine_similarity(h_q, h_s, dim=0) if m else -math.inf for h_s, m in zip(shot.T, mask, strict=True)]
        weights = torch.tensor([math.exp(x) for x in e], dtype=torch.float64)
        weights = weights / weights.sum()
        found.append(sum(w * h_s for w, h_s in zip(weights, shot.T, strict=True)))
        quality.append(sum(1 / (1 + math.exp(-x)) for x in e if x > -math.inf))
    return torch.stack(found, 1), torch.tensor(quality, dtype=torch.float64)


def test_masks_are_propagated_as_in_the_paper() -> None:
    query, shot = activations(5), activations(9, seed=1)
    mask = torch.tensor([1, 0, 0, 1, 1, 0, 1, 0, 0], dtype=torch.bool)
    found, quality = propagated(query, shot[:, mask], torch.ones(4, dtype=torch.float64))
    expected, summed = by_the_paper(query, shot, mask)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(quality, summed / 4)  # the mean of what the paper adds up


def test_what_is_not_painted_is_as_good_as_not_there() -> None:
    query, shot = activations(5), activations(9, seed=1)
    shares = torch.tensor([1.0, 0, 0, 0.5, 0.25, 0, 1, 0, 0], dtype=torch.float64)
    painted = shares > 0
    one, other = propagated(query, shot, shares), propagated(query, shot[:, painted], shares[painted])
    for all_of_it, part in zip(one, other, strict=True):
        torch.testing.assert_close(all_of_it, part)


def test_a_large_query_is_gone_through_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    query, shot, shares = activations(50), activations(9, seed=1), torch.ones(9, dtype=torch.float64)
    expected = propagated(query, shot, shares, 20.0)
    monkeypatch.setattr(meta_memory, "_AT_ONCE", 20)
    for got, wanted in zip(propagated(query, shot, shares, 20.0), expected, strict=True):
        torch.testing.assert_close(got, wanted)


def test_shots_share_a_query_by_their_quality() -> None:
    mmnet = method()
    query = activations(7)
    shots = [Nodes(activations(n, seed=n), torch.ones(n, dtype=torch.float64)) for n in (3, 4, 30)]
    told = [propagated(query, shot.activations, shot.shares, 20.0) for shot in shots]
    total = torch.zeros_like(query)
    for q in range(7):
        marks = [math.exp(20.0 * float(quality[q])) for _, quality in told]
        for mark, (found, _) in zip(marks, told, strict=True):
            total[:, q] += mark / sum(marks) * found[:, q]
    torch.testing.assert_close(mmnet._found(query, shots), total)
    torch.testing.assert_close(mmnet._found(query, shots[:1] * 3), told[0][0])  # weights add up to 1


def test_a_shot_counts_no_more_for_a_larger_mask() -> None:
    query, shot = activations(5), activations(3, seed=1)
    _, small = propagated(query, shot, torch.ones(3, dtype=torch.float64))
    _, large = propagated(query, shot.repeat(1, 10), torch.ones(30, dtype=torch.float64))
    torch.testing.assert_close(small, large)


def test_the_memory_is_asked_to_tell_cells_from_each_other() -> None:
    memory = MetaClassMemory(4, 8, 6).double()
    told = activations(11)
    shares = F.softmax(told, 0)  # eq. 10
    rebuilt = torch.stack([sum(shares[n, s] * memory.embeddings[n] for n in range(6)) for s in range(11)])  # eq. 11
    losses = []
    for i in range(11):
        row = torch.stack([rebuilt[i] @ rebuilt[j] for j in range(11)])  # eq. 12
        losses.append(row.exp().sum().log() - row[i])
    torch.testing.assert_close(memory.reconstruction_loss(told), torch.stack(losses).mean())
    with torch.no_grad():
        memory.embeddings.copy_(memory.embeddings[:1].expand(6, -1).clone())
    assert abs(memory.reconstruction_loss(told).item() - math.log(11)) < 1e-6  # all the same: nothing can be told


def test_one_painted_pixel_has_a_full_share() -> None:
    pyramid, _ = pictures(1)
    labels = torch.zeros(48, 64, dtype=torch.long)
    labels[20, 30] = 1
    (known,) = method().fit([whole(pyramid, labels)], (1,)).solution
    shares = known.shots[0].shares
    assert shares.max() == 1 and 1 <= len(shares) <= 4  # cells of the shot, which was pooled, overlap


def test_large_masks_are_compared_with_a_bounded_number_of_cells() -> None:
    pyramid, labels = pictures(1)
    (known,) = method().fit([whole(pyramid, torch.ones_like(labels))], (1,)).solution
    assert known.shots[0].shares.shape == (400,)


def test_untrained_it_answers_with_the_calibrated_prior() -> None:
    assert min(toy_ious(method(), shots=2)) > 0.95


def test_each_class_is_answered_for_alone() -> None:
    mmnet = method(MemoryConfig(16, (1,), classes=6, width=8, cues=1, corrects=False), moved=True)
    pyramid, labels = pictures(1, 2)
    with torch.inference_mode():
        state = mmnet.fit([whole(pyramid, labels)], (1, 2)).solution
        both, _ = mmnet.logits(state, pyramid)
        alone, _ = mmnet.logits(state[1:], pyramid)
    torch.testing.assert_close(both[1:], alone)
