"""The way back from the query to the shots, as a loss and as a sign of quality."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from napari_fewshot.models.blocks.alignment import Cycle, alignment_loss
from napari_fewshot.models.blocks.labelled_pixels import ShotPixels, collect_pixels
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.resampling import upsample
from napari_fewshot.models.methods.panet import PANet
from tests.models.toys import LEVEL, SIZE, pictures, random_pyramid, stripes, whole

FINE = MatchingLevels((1,), standardised=False)


def features(seed: int) -> torch.Tensor:
    return random_pyramid(seed).features[LEVEL]


def test_the_loss_equals_loops_over_classes_shots_and_pixels() -> None:
    query, found = features(1), stripes(0, 1, 2)
    shots = [(features(2), stripes(0, 1, 255, 2)), (features(3), stripes(2, 0))]
    up = upsample(query, LEVEL, SIZE)
    background = up[:, found == 0].mean(1)
    losses = []
    for c in (1, 2):
        own = up[:, found == c].mean(1)
        for f, labels in shots:
            if not (labels == c).any():
                continue
            cosines = torch.stack([torch.cosine_similarity(f, p[:, None, None], dim=0) for p in (background, own)])
            logits = upsample(20 * cosines, LEVEL, SIZE)
            each = [
                -logits[:, y, x].log_softmax(0)[int(labels[y, x] == c)]  # eq. 7
                for y in range(SIZE[0])
                for x in range(SIZE[1])
                if labels[y, x] in (0, c)  # other classes, and what is unknown, do not count
            ]
            losses.append(sum(each) / len(each))
    assert len(losses) == 3
    expected = sum(losses) / 3
    assert alignment_loss(query, found, shots, LEVEL, (1, 2)).item() == pytest.approx(expected.item(), rel=1e-5)


def test_with_the_true_mask_of_the_query_it_is_the_loss_of_the_task_the_other_way_round() -> None:
    query, shot, truth, painted = random_pyramid(1), random_pyramid(2), stripes(0, 1, 0), stripes(1, 0)
    method = PANet((4,))
    p = method.predict(method.fit([whole(query, truth)], (1,)), shot)
    swapped = F.nll_loss(p.log()[None], painted[None])
    there = alignment_loss(query.features[LEVEL], truth, [(shot.features[LEVEL], painted)], LEVEL, (1,))
    torch.testing.assert_close(there, swapped, atol=1e-6, rtol=0)


def test_where_nothing_was_found_there_is_no_way_back_and_no_loss() -> None:
    query, shots = features(1).requires_grad_(), [(features(2), stripes(0, 1))]
    for found in (stripes(0), stripes(1)):
        loss = alignment_loss(query, found, shots, LEVEL, (1,))
        loss.backward()
        assert loss == 0
    assert not query.grad.any()  # type: ignore[union-attr]
    assert alignment_loss(query, stripes(0, 1), [(features(2), stripes(0))], LEVEL, (1,)) == 0


def test_its_gradient_is_right_and_brings_query_and_shots_together() -> None:
    query, shot = features(1)[:, :4, :4].clone(), features(2)[:, :4, :4].clone()
    found, painted = stripes(0, 1, size=(16, 16)), stripes(1, 0, size=(16, 16))

    def loss(q: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return alignment_loss(q, found, [(s, painted)], LEVEL, (1,))

    assert torch.autograd.gradcheck(loss, (query.requires_grad_(), shot.requires_grad_()))
    optimiser = torch.optim.SGD([query, shot], lr=0.5)
    before = loss(query, shot).item()
    for _ in range(20):
        optimiser.zero_grad()
        loss(query, shot).backward()
        optimiser.step()
    assert loss(query, shot).item() < 0.5 * before


def kept(seed: int) -> ShotPixels:
    pyramid, labels = pictures(seed, classes=2)
    return collect_pixels([(pyramid, labels)], FINE, is_dense=True)


def test_the_iou_on_the_shots_equals_loops() -> None:
    pyramid, labels = pictures(9, classes=2)
    cells, level = FINE.cells(pyramid)
    wrong = labels.roll(12, 1)
    cycle = Cycle()
    cycle.add(cells, level, wrong)
    background, own = (cells[:, wrong == v].mean(1) for v in (0, 1))
    hit = union = 0.0
    for value, pixels in kept(1).labels.items():
        if value == 2:
            continue
        for x in pixels.features:
            guess = x @ own / own.norm() > x @ background / background.norm()
            hit += pixels.area / len(pixels) * float(guess and value == 1)
            union += pixels.area / len(pixels) * float(guess or value == 1)
    assert cycle.ious([kept(1)], (1, 2))[1] == pytest.approx(hit / union)


def test_better_proposals_find_more_of_the_shots_again() -> None:
    pyramid, labels = pictures(9, classes=2)
    cells, level = FINE.cells(pyramid)
    qualities = []
    for shift in (0, 6, 12, 18):
        cycle = Cycle()
        cycle.add(cells, level, labels.roll(shift, 0))
        qualities.append(sum(cycle.ious([kept(1), kept(2)], (1, 2)).values()) / 2)
    assert qualities[0] > 0.95
    assert qualities[0] >= qualities[1] >= qualities[2] > qualities[3] + 0.05


def test_tiles_together_say_what_the_whole_says() -> None:
    pyramid, labels = pictures(9, classes=2)
    cells, level = FINE.cells(pyramid)
    at_once, in_tiles = Cycle(), Cycle()
    at_once.add(cells, level, labels)
    for left in (0, 32):
        part = torch.full_like(labels, 255)
        part[:, left : left + 32] = labels[:, left : left + 32]
        in_tiles.add(cells, level, part)
    assert in_tiles.ious([kept(1)], (1, 2)) == pytest.approx(at_once.ious([kept(1)], (1, 2)))


def test_what_was_not_proposed_or_is_on_no_shot_has_no_quality() -> None:
    pyramid, labels = pictures(9, classes=2)
    cells, level = FINE.cells(pyramid)
    cycle = Cycle()
    cycle.add(cells, level, torch.where(labels == 2, 0, labels))
    assert sorted(cycle.ious([kept(1)], (1, 2, 3))) == [1]
    everything = Cycle()
    everything.add(cells, level, torch.ones_like(labels))
    assert everything.ious([kept(1)], (1,)) == {}
