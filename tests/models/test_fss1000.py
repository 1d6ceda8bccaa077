"""The relation baseline layer by layer, and what its sheet promises."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from napari_fewshot.models.methods.fss1000 import FSS1000, FSS1000Config, RelationNet
from tests.models.toys import noise, pictures, toy_ious, whole

SMALL = FSS1000Config((16,), (1,), (8,))
DEEP = FSS1000Config((3, 4, 5), (4, 8, 16), (8, 9, 10), corrects=False)
PAPER_LIKE = FSS1000Config((3, 4, 5), (4, 8, 16), (8, 9, 10), grid=7, masks=1, cues=0, corrects=False)


def perturbed(network: RelationNet) -> RelationNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network.double().eval()
        with torch.no_grad():
            for p in network.parameters():
                p.add_(0.1 * torch.randn_like(p))
    return network


def method(config: FSS1000Config = SMALL) -> FSS1000:
    made = FSS1000(config)
    perturbed(made.head)  # type: ignore[arg-type]
    return made


def double(block: nn.Sequential, x: Tensor) -> Tensor:
    """Convolution, normalisation in groups and ReLU, twice."""
    for convolution, norm, _ in block:
        x = F.conv2d(x, convolution.weight, convolution.bias, padding=1)
        parts = x.view(1, norm.num_groups, -1)
        mean, variance = parts.mean(2, keepdim=True), parts.var(2, keepdim=True, correction=0)
        x = ((parts - mean) / (variance + norm.eps).sqrt()).view_as(x)
        x = (x * norm.weight[:, None, None] + norm.bias[:, None, None]).relu()
    return x


def halved(x: Tensor, how: str) -> Tensor:
    """Mean or largest of blocks of 2 x 2, which are smaller at the end of odd maps."""
    rows = []
    for i in range(0, x.shape[2], 2):
        blocks = [x[:, :, i : i + 2, j : j + 2].flatten(2) for j in range(0, x.shape[3], 2)]
        rows.append(torch.stack([b.mean(2) if how == "mean" else b.amax(2) for b in blocks], 2))
    return torch.stack(rows, 2)


def grown(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


def encoded_by_the_paper(net: RelationNet, cells: Tensor, masks: Tensor) -> list[Tensor]:
    fine, middle, coarse = cells[None, :3], cells[None, 3:7], cells[None, 7:]
    first = double(net.encode[0], torch.cat([fine, masks[None]], 1))
    second = double(net.encode[1], torch.cat([halved(middle, "mean"), halved(first, "largest")], 1))
    coarse = F.avg_pool2d(coarse, 4)
    return [first, second, double(net.encode[2], torch.cat([coarse, halved(second, "largest")], 1))]


def by_the_paper(net: RelationNet, shots: list[tuple[Tensor, Tensor]], query: Tensor, cues: Tensor) -> Tensor:
    """Encoder with masks, mean over shots, relation, decoder with the skips of the query."""
    codes = []
    for cells, mask in shots:
        deepest = encoded_by_the_paper(net, cells, torch.stack([mask, torch.ones_like(mask)]))[-1]
        share = F.avg_pool2d(mask[None, None], 4)
        codes.append((deepest * share).sum((2, 3)) / share.sum())
    first, second, third = encoded_by_the_paper(net, query, torch.zeros(2, *query.shape[1:]).double())
    support = (sum(codes) / len(codes))[:, :, None, None].expand_as(third)
    x = double(net.relate, torch.cat([support, third], 1))
    x = double(net.decode[2], torch.cat([x, third], 1))
    x = double(net.decode[1], torch.cat([grown(x, second), second], 1))
    x = double(net.decode[0], torch.cat([grown(x, first), first, cues[None]], 1))
    return net.classify(x)[0, 0]


def test_it_equals_the_paper_layer_by_layer() -> None:
    net = perturbed(RelationNet(DEEP))
    query, cues = noise(12, 16, 24), noise(3, 16, 24, seed=1)
    shots = [(noise(12, 8, 12, seed=s), (noise(8, 12, seed=10 + s) > 0).double()) for s in (2, 3)]
    codes = [net.code(cells, torch.stack([mask, torch.ones_like(mask)])) for cells, mask in shots]
    steps = net.encoded(query, torch.zeros(2, 16, 24).double())
    found = net(steps, torch.stack(codes).mean(0), cues)
    torch.testing.assert_close(found, by_the_paper(net, shots, query, cues))


@pytest.mark.parametrize("config", [DEEP, PAPER_LIKE], ids=["average", "7 x 7 parts"])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (16, 3)], ids=str)
def test_maps_of_any_size_are_welcome(config: FSS1000Config, size: tuple[int, int]) -> None:
    net = perturbed(RelationNet(config))
    masks = torch.ones(config.masks, *size).double()
    code = net.code(noise(12, *size), masks)
    assert code.shape == (1, 10, config.grid, config.grid)
    cues = noise(config.cues, *size)
    assert net(net.encoded(noise(12, *size, seed=1), 0 * masks), code, cues).shape == size


def test_the_code_is_of_the_class_only() -> None:
    """What is far from the class plays no part in it, but through normalisation; here there is none."""
    net = perturbed(RelationNet(DEEP))
    for module in [*net.modules()]:
        if isinstance(module, nn.Sequential) and len(module) == 3 and isinstance(module[1], nn.GroupNorm):
            module[1] = nn.Identity()
    cells, changed = noise(12, 64, 64), noise(12, 64, 64)
    changed[:, 56:, 56:] += 3
    masks = torch.zeros(2, 64, 64).double()
    masks[0, :8, :8] = 1
    torch.testing.assert_close(net.code(cells, masks), net.code(changed, masks))
    assert not torch.allclose(net.code(cells, masks), net.code(changed, masks.flip(1, 2)))


# ---------------------------------------------------------------------------- the method
def answers(made: FSS1000, seeds: list[int], repeated: int = 1) -> Tensor:
    support = [whole(*pictures(seed), f"{seed}-{i}") for i in range(repeated) for seed in seeds]
    with torch.inference_mode():
        return made.logits(made.fit(support, (1,)).solution, pictures(50)[0])[0][0]


def test_shots_are_averaged_so_that_showing_them_twice_says_nothing_new() -> None:
    made = method(FSS1000Config((16,), (1,), (8,), corrects=False, cues=0))
    torch.testing.assert_close(answers(made, [1, 2], repeated=3), answers(made, [1, 2]))
    torch.testing.assert_close(answers(made, [2, 1]), answers(made, [1, 2]))
    assert not torch.allclose(answers(made, [1]), answers(made, [2]))


def test_the_class_reaches_the_code_through_the_mask() -> None:
    net = perturbed(RelationNet(PAPER_LIKE))
    cells, mask = noise(12, 8, 12), (noise(1, 8, 12, seed=1) > 0).double()
    assert not torch.allclose(net.code(cells, mask), net.code(cells, 1 - mask))


def test_untrained_it_answers_with_the_calibrated_similarity() -> None:
    made = FSS1000(SMALL)
    made.head.eval()
    with torch.inference_mode():
        assert min(toy_ious(made, shots=2)) > 0.9


def test_the_paper_s_size_has_the_widths_of_vgg() -> None:
    with torch.device("meta"):
        net = RelationNet(FSS1000Config.paper())
    assert [block[0][0].out_channels for block in net.decode] == [64, 128, 256, 512, 512]
    assert net.relate[0][0].in_channels == 1024
