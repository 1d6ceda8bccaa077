"""MM-Former by its equations: what is found, how it is assigned, aligned, matched and blended."""

from itertools import permutations
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_fewshot.errors import SettingsError
from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.blocks.mask_matching import (
    CrossAttention,
    FeatureAlignment,
    blended,
    contrastive_loss,
    pooled,
    self_aligned,
    thinned,
)
from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.blocks.potential_objects import (
    assigned,
    costs,
    objects_of,
    out_of_sight,
    proposal_losses,
    sine_positions,
)
from napari_fewshot.models.methods.base import AdditiveState
from napari_fewshot.models.methods.mmformer import MaskMatching
from napari_fewshot.models.methods.mmformer_networks import MaskMatchingConfig
from napari_fewshot.models.methods.mmformer_superpixels import (
    SuperpixelMatching,
    instance_proposals,
    superpixel_proposals,
)
from napari_fewshot.models.methods.trained import Episode
from tests.models.toys import SIZE, iou, noise, pictures, stripes, toy_ious, whole

CHANNELS = {4: 5, 8: 6, 16: 7}


def pyramid(seed: int, size: tuple[int, int] = SIZE) -> FeaturePyramid:
    """Noise on three levels, padded to cells of 16 pixels."""
    cells = [-(-side // 16) for side in size]
    features = {Level(s): noise(c, cells[0] * 16 // s, cells[1] * 16 // s, seed=seed + s) for s, c in CHANNELS.items()}
    return FeaturePyramid(features, size)


def made(**changes: Any) -> MaskMatching:
    """With weights that are all drawn, in float64."""
    settings = {"width": 8, "heads": 2, "hidden": 8, "rounds": 1, "proposals": 6, "matched": 8} | changes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        proposals = settings.pop("proposals")
        config = MaskMatchingConfig(tuple(CHANNELS.values()), tuple(CHANNELS), proposals=proposals, **settings)
        method = MaskMatching(config)
        method.head.double().eval()
        for p in method.head.parameters():
            torch.nn.init.normal_(p, std=0.3)
    return method


def taught(method: MaskMatching, shots: int = 1) -> Any:
    summaries = [method.summarise(whole(pyramid(seed), stripes(0, 1), f"{seed}")) for seed in range(shots)]
    return method.combine(summaries, (1,))


# ---------------------------------------------------------------------------- proposals
def test_costs_are_cross_entropy_and_dice_of_every_pair() -> None:
    logits, objects, known = noise(3, 4, 5), noise(2, 4, 5, seed=1).sigmoid(), noise(4, 5, seed=2).abs()
    entropy, dice = costs(logits, objects, known)
    for n in range(3):
        for m in range(2):
            each = F.binary_cross_entropy_with_logits(logits[n], objects[m], reduction="none")
            torch.testing.assert_close(entropy[n, m], (each * known).sum() / known.sum())
            p, t = logits[n].sigmoid(), objects[m]
            expected = 1 - (2 * (known * p * t).sum() + 1) / ((known * p).sum() + (known * t).sum() + 1)
            torch.testing.assert_close(dice[n, m], expected)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
def test_the_assignment_is_the_cheapest_of_all(shape: tuple[int, int]) -> None:
    cost = noise(*shape)
    rows, columns = assigned(cost)
    wide = cost if shape[0] <= shape[1] else cost.T
    cheapest = min(sum(wide[i, j] for i, j in enumerate(p)) for p in permutations(range(wide.shape[1]), len(wide)))
    assert cost[rows, columns].sum().item() == pytest.approx(float(cheapest))
    assert len(set(rows.tolist())) == len(set(columns.tolist())) == min(shape)


def test_labels_and_their_pieces_are_objects() -> None:
    labels = torch.zeros(32, 32, dtype=torch.long)
    labels[:8, :8], labels[16:, 16:], labels[:8, 24:] = 1, 1, 255
    objects, known = objects_of(labels, Level(4), (8, 8))
    assert len(objects) == 4, "background, class, and two pieces of the class"
    assert objects.min() >= 0 and objects.max() <= 1 + 1e-6
    torch.testing.assert_close(objects[1], objects[2] + objects[3])
    assert objects[2].sum() > objects[3].sum()
    assert float(known[0, 7]) == 0 and float(known.sum()) == 32 * 32 - 64
    assert len(objects_of(torch.full((32, 32), 255), Level(4), (8, 8))[0]) == 0


def test_only_the_assigned_masks_learn() -> None:
    logits = noise(4, 6, 6).requires_grad_()
    objects = (noise(2, 6, 6, seed=1) > 0).double()
    losses = proposal_losses([logits], objects, torch.ones(6, 6).double())
    torch.stack([*losses.values()]).sum().backward()
    assert logits.grad is not None
    learning = logits.grad.abs().sum((1, 2)) > 0
    entropy, dice = costs(logits.detach(), objects, torch.ones(6, 6).double())
    assert sorted(learning.nonzero()[:, 0].tolist()) == sorted(assigned(entropy + dice)[0].tolist())


def test_embeddings_look_at_their_mask_and_everywhere_if_it_is_empty() -> None:
    masks = torch.full((2, 4, 4), -1.0)
    masks[0, :2, :2] = 1
    hidden = out_of_sight(masks, (2, 2))
    assert hidden.tolist() == [[False, True, True, True], [False] * 4]


def test_positions_are_shares_of_the_map() -> None:
    small, large = sine_positions((4, 6), 8).view(4, 6, 8), sine_positions((12, 18), 8).view(12, 18, 8)
    torch.testing.assert_close(small, large[1::3, 1::3], atol=1e-5, rtol=0)
    assert len(small.flatten(0, 1).unique(dim=0)) == 24


# ---------------------------------------------------------------------------- alignment
def test_self_alignment_weighs_channels_as_the_equation_says() -> None:
    x = noise(5, 3, 4)
    average = torch.stack([x[:, i, j].mean() for i in range(3) for j in range(4)])
    anchor = average.exp() / average.exp().sum()
    gate = torch.stack([1 / (1 + (-(channel.flatten() @ anchor)).exp()) for channel in x])
    torch.testing.assert_close(self_aligned(x), x * gate[:, None, None])
    assert gate.min() > 0 and gate.max() < 1


def test_cross_attention_equals_the_equation_cell_by_cell() -> None:
    layer = CrossAttention(4, 1, 6).double()
    one, other = noise(1, 4, 2, 3), noise(1, 4, 3, 2, seed=1)
    found = layer(one, other)
    wq, wk, wv = layer.look.in_proj_weight.split(4)
    bq, bk, bv = layer.look.in_proj_bias.split(4)
    seen = [other[0, :, i, j] for i in range(3) for j in range(2)]
    for i in range(2):
        for j in range(3):
            x = one[0, :, i, j]
            odds = torch.stack([((wq @ x + bq) @ (wk @ y + bk) / 4**0.5).exp() for y in seen])
            mixed = sum(p * (wv @ y + bv) for p, y in zip(odds / odds.sum(), seen, strict=True))
            x = layer.norms[0](x + layer.look.out_proj(mixed))
            torch.testing.assert_close(found[0, :, i, j], layer.norms[1](x + layer.forth(x)))


@pytest.mark.parametrize("size", [(200, 200), (20, 400), (400, 20), (3, 100), (7, 5), (1, 1)])
def test_what_attention_looks_at_is_bounded(size: tuple[int, int]) -> None:
    assert max(thinned(torch.zeros(1, 2, *size)).shape[2:]) <= 30
    assert min(thinned(torch.zeros(1, 2, *size)).shape[2:]) <= 15


def test_support_and_query_go_through_the_same_weights() -> None:
    align = FeatureAlignment((5, 3), 4, 2, 8, 1).double()
    same, share = noise(8, 4, 5), torch.ones(4, 5).double()
    proposed, wanted = align(same, share[None], same, share)
    torch.testing.assert_close(proposed[0], wanted)


def test_a_proposal_like_the_class_on_the_same_image_is_as_similar_as_can_be() -> None:
    features, mask = self_aligned(noise(6, 5, 5)), (noise(5, 5, seed=1) > 0).double()
    prototypes = pooled(features, torch.stack([mask, 1 - mask, mask]))
    similarities = F.cosine_similarity(prototypes, pooled(features, mask[None]))
    assert similarities[0].item() == pytest.approx(1) and similarities[0] == similarities[2]
    assert similarities[1] < 1


# ---------------------------------------------------------------------------- matching
def test_similarities_are_cosines_and_those_of_the_same_proposal_the_same() -> None:
    method = made()
    cells, _ = MatchingLevels((8, 16)).cells(pyramid(9))
    masks = noise(4, *cells.shape[1:], seed=3).sigmoid()
    masks[2] = masks[0]
    masks[3] = 0
    found = method.similarities(taught(method, 2)[0], cells, masks)
    assert found.abs().max() <= 1 and found[2] == found[0] and found[3] == 0


def test_the_contrastive_loss_is_that_of_the_best_and_the_worst_proposal() -> None:
    wanted = torch.zeros(4, 4).double()
    wanted[:2] = 1
    masks = torch.stack([wanted, 1 - wanted, torch.full_like(wanted, 0.5)])
    known = torch.ones_like(wanted)
    s = torch.tensor([0.3, 0.1, 0.5]).double()
    stretched = (s - 0.1) / (0.4 + 1e-6)
    expected = -(stretched[0].log() + torch.tensor(1 - 1e-4).double().log()) / 2
    torch.testing.assert_close(contrastive_loss(s, masks, wanted, known), expected)
    right = contrastive_loss(torch.tensor([0.9, -0.2, 0.1]), masks.float(), wanted.float(), known.float())
    assert right < 1e-3
    wrong = contrastive_loss(torch.tensor([-0.2, 0.9, 0.1]), masks.float(), wanted.float(), known.float())
    assert 5 < wrong < 20
    assert contrastive_loss(torch.zeros(3), masks.float(), wanted.float(), known.float()).isfinite()


def test_a_cell_and_what_covers_it_are_averaged_by_trust() -> None:
    masks, answers, trust, cells = (
        noise(3, 4, 5).sigmoid(),
        noise(3, seed=1),
        noise(3, seed=2).exp(),
        noise(4, 5, seed=3),
    )
    found = blended(masks, answers, trust, cells, 0.7)
    for i in range(4):
        for j in range(5):
            over = [float(masks[n, i, j] * trust[n]) for n in range(3)]
            expected = 0.7 * float(cells[i, j]) + sum(w * float(a) for w, a in zip(over, answers, strict=True))
            assert float(found[i, j]) == pytest.approx(expected / (0.7 + sum(over)))
    assert torch.equal(blended(masks, answers, torch.zeros_like(trust), cells), cells), "nobody trusts proposals"


def test_a_single_trusted_proposal_gives_back_itself_where_proposals_share_out_the_image() -> None:
    masks = superpixel_proposals(noise(6, 20, 24))
    chosen = torch.zeros(len(masks)).double()
    chosen[2] = 1
    torch.testing.assert_close(blended(masks, chosen, torch.ones_like(chosen), masks[2]), masks[2])


def test_an_untrained_head_answers_as_superpixels_do() -> None:
    """Training begins there: the last layer starts at zero."""
    config = MaskMatchingConfig(tuple(CHANNELS.values()), tuple(CHANNELS), width=8, heads=2, hidden=8, proposals=6)
    with torch.random.fork_rng(devices=[]):
        method = MaskMatching(config)
    plain = SuperpixelMatching(config.strides)
    shots, query = [whole(pyramid(0), stripes(0, 1), "0")], pyramid(9, (64, 80))
    expected = plain.predict(plain.fit(shots, (1,)), query)
    torch.testing.assert_close(
        method.predict(method.fit(shots, (1,)), query), expected, atol=1e-4, rtol=0, check_dtype=False
    )


def test_what_matching_adds_is_bounded_and_knows_no_size() -> None:
    method = made()
    with torch.no_grad():
        for p in method.head.matching.parameters():
            p.mul_(100)
    calibrated = 4 * noise(12, 12).tanh()
    small, large = torch.zeros(2, 12, 12).double()
    small[0, 0], large[:] = 1, 1
    similarities = torch.tensor([0.5, 0.5]).double()
    masks = torch.stack([small, large])
    answers, trust = method._coefficients(similarities, masks, calibrated)
    mean = torch.stack([calibrated[0, 0], calibrated.mean()])
    assert ((answers - mean).abs() <= 2 + 1e-9).all()
    assert trust.min() >= 0.25 - 1e-9 and trust.max() <= 1 + 1e-9
    level = torch.ones_like(calibrated)
    a, b = method._coefficients(similarities, masks, level)
    torch.testing.assert_close(a[0], a[1])
    torch.testing.assert_close(b[0], b[1])


def test_with_slots_the_answer_is_equation_4() -> None:
    method = made(slots=True)
    query, known = pyramid(9), taught(method)
    masks = method.masks(query)
    cells, _ = MatchingLevels((8, 16)).cells(query)
    inside = masks.clone()
    inside[:, SIZE[0] // 4 :], inside[:, :, SIZE[1] // 4 :] = 0, 0
    s = method.similarities(known[0], cells, F.adaptive_avg_pool2d(inside, cells.shape[1:]))
    first, _, second = method.head.matching.coefficients
    c = second.weight @ (first.weight @ s + first.bias).relu() + second.bias
    expected = torch.zeros_like(inside[0])
    for n in range(6):
        expected += c[n] * inside[n]
    logits, level = method.logits(known, query)
    torch.testing.assert_close(logits[0], 4 * (expected - 0.5))
    assert level == Level(4)


def test_slots_know_the_learnt_proposals_only() -> None:
    config = MaskMatchingConfig(tuple(CHANNELS.values()), tuple(CHANNELS), slots=True)
    with pytest.raises(SettingsError, match="slots=False"):
        MaskMatching(config, proposals="both")
    method = made(slots=True)
    with pytest.raises(SettingsError, match="slots=False"):
        method.predict_among(AdditiveState({}, taught(method)), pyramid(9), stripes(0, 1))


# ---------------------------------------------------------------------------- training
@pytest.mark.parametrize(
    ("part", "expected"),
    [("proposals", {"mask", "mask dice"}), ("matching", {"entropy", "dice", "contrast"})],
)
def test_each_stage_has_its_losses_and_moves_its_part_alone(part: str, expected: set[str]) -> None:
    method = made()
    for name, child in method.head.named_children():
        child.requires_grad_(name == part)
    losses = method.loss(Episode((whole(pyramid(1), stripes(0, 1)),), pyramid(9), stripes(1, 0)))
    assert set(losses) == expected
    torch.stack([*losses.values()]).sum().backward()
    moved = {name for name, p in method.head.named_parameters() if p.grad is not None}
    assert moved and all(name.startswith(part) for name in moved)


def test_matching_does_not_move_proposals() -> None:
    method = MaskMatching(made().config, made().head, proposals="both")
    logits, _ = method.logits(taught(method), pyramid(9))
    logits.sum().backward()
    assert all(p.grad is None for p in method.head.proposals.parameters())


# ---------------------------------------------------------------------------- proposals from elsewhere
def test_superpixels_share_out_every_cell() -> None:
    for size in ((20, 24), (1, 1), (3, 50), (120, 90)):
        masks = superpixel_proposals(noise(4, *size))
        assert masks.shape[1:] == size and len(masks) <= 400
        torch.testing.assert_close(masks.sum(0), torch.ones(size).double())


def test_untrained_superpixels_are_enough_for_things_of_one_look() -> None:
    assert min(toy_ious(SuperpixelMatching((1,)), shots=2, classes=2)) > 0.95


def test_instances_of_somebody_else_are_told_apart() -> None:
    method, matching = SuperpixelMatching((1,)), made_for_pictures()
    (shown, labels), (query, truth) = pictures(1, 2), pictures(50, 2)
    instances = truth.clone()
    instances[truth == 0] = 3 + (torch.arange(64).expand(48, 64)[truth == 0] > 32).long()
    instances[:6] = 0
    for asked in (method, matching):
        state = asked.fit([whole(shown, labels)], (1, 2))
        found = asked.predict_among(state, query, instances)
        torch.testing.assert_close(found.sum(0), torch.ones(48, 64).double())
        assert min(iou(found.argmax(0)[6:], truth[6:], value) for value in (1, 2)) == 1
        assert (found.argmax(0)[instances == 0] == 0).all(), "nothing is beside instances"
        nothing = asked.predict_among(state, query, torch.zeros_like(instances))
        assert (nothing.argmax(0) == 0).all()


def made_for_pictures() -> MaskMatching:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        method = MaskMatching(MaskMatchingConfig((16,), (1,), 8, 2, 8, 1, 6, 8))
    method.head.double().eval().requires_grad_(False)
    return method


def test_superpixels_take_the_place_of_learnt_proposals() -> None:
    learnt = made_for_pictures()
    method = MaskMatching(learnt.config, learnt.head, proposals="superpixels")
    assert min(toy_ious(method, shots=2, classes=2)) > 0.95
    torch.testing.assert_close(method.masks(pictures(1)[0]).sum(0), torch.ones(48, 64).double())
    asked = pictures(1)[0]
    assert torch.equal(learnt.masks(asked), method.masks(asked)), "they are the default"
    both = MaskMatching(learnt.config, learnt.head, proposals="both").masks(asked)
    assert torch.equal(both[learnt.config.proposals :], method.masks(asked))
    alone = MaskMatching(learnt.config, learnt.head, proposals="learnt").masks(asked)
    assert torch.equal(both[: learnt.config.proposals], alone) and alone.sum(0).max() <= 1 + 1e-9


def test_too_many_instances_are_refused() -> None:
    instances = torch.arange(40 * 40).view(40, 40)
    with pytest.raises(SettingsError, match="1000 at most"):
        instance_proposals(instances, torch.zeros(1, 10, 10), Level(4))


def test_values_of_instances_may_be_anything() -> None:
    instances = torch.zeros(8, 8, dtype=torch.long)
    instances[:4], instances[4:] = 255, 70000
    masks = instance_proposals(instances, torch.zeros(1, 8, 8), Level(1))
    assert len(masks) == 2
    expected: Tensor = (instances == 255).float()
    assert torch.equal(masks[0], expected)
