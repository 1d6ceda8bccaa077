"""The emulated card fails where a real one would; else tests on it would prove nothing."""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tests.emulated_card import CARD, EmulatedCard, OnCard, emulated_card


@pytest.fixture
def card() -> Iterator[EmulatedCard]:
    with emulated_card() as card:
        yield card


def here(*shape: int) -> Tensor:
    return torch.arange(float(np.prod(shape))).view(shape)


def there(*shape: int) -> Tensor:
    return here(*shape).to("cuda")


@pytest.mark.parametrize(
    "mix",
    [
        lambda: there(3, 4) + here(3, 4),
        lambda: there(3, 4) * here(1),
        lambda: here(3, 4).mul_(there(3, 4)),
        lambda: here().mul_(there()),
        lambda: there(3, 4) @ here(4, 2),
        lambda: torch.stack([there(2), here(2)]),
        lambda: torch.stack([there(), here()]),
        lambda: there(3, 4).index_select(0, torch.tensor([1])),
        lambda: there(3, 4).gather(1, torch.zeros(3, 4, dtype=torch.long)),
        lambda: there(3, 4).masked_fill(here(3, 4) > 2, 0.0),
        lambda: here(3, 4)[there(2).long()],
        lambda: there(3, 4).index_put((there(2).long(),), here(4)),
        lambda: F.conv2d(there(1, 1, 4, 4), here(1, 1, 3, 3)),
        lambda: nn.Linear(4, 2)(there(3, 4)),
    ],
)
def test_what_mixes_devices_raises(card: EmulatedCard, mix: Callable[[], object]) -> None:
    with pytest.raises(RuntimeError, match="same device"):
        mix()


@pytest.mark.parametrize(
    ("mix", "expected"),
    [
        (lambda: there(3) + here(), [0, 1, 2]),
        (lambda: here(2)[1] * there(3), [0, 1, 2]),
        (lambda: there(3)[torch.tensor([2, 0])], [2, 0]),
        (lambda: there(3)[here(3) > 0], [1, 2]),
        (lambda: torch.where(there(3) > 1, there(3), torch.tensor(7.0)), [7, 7, 2]),
        (lambda: there(3).masked_fill(there(3) > 1, torch.tensor(9.0)), [0, 1, 9]),
        (lambda: torch.zeros(3, device="cuda").copy_(here(3)), [0, 1, 2]),
        (lambda: torch.tensor([3, 4], device="cuda"), [3, 4]),
        (lambda: torch.arange(2, device="cuda:0"), [0, 1]),
    ],
)
def test_what_cuda_allows_gives_the_values_of_the_cpu_on_the_card(
    card: EmulatedCard, mix: Callable[[], Tensor], expected: list[float]
) -> None:
    found = mix()
    assert found.device == CARD and found.is_cuda
    assert found.tolist() == found.cpu().numpy().tolist() == expected
    assert type(found.cpu()) is Tensor


def test_numpy_does_not_see_what_is_on_the_card(card: EmulatedCard) -> None:
    for look in (lambda: there(3).numpy(), lambda: np.asarray(there(3)), lambda: np.add(there(3), 1)):
        with pytest.raises(TypeError, match=r"Use Tensor\.cpu\(\)"):
            look()


def test_random_numbers_of_a_generator_on_the_cpu_do_not_go_to_the_card(card: EmulatedCard) -> None:
    generator = torch.Generator().manual_seed(0)
    for draw in (
        lambda: torch.randn(3, generator=generator, device="cuda"),
        lambda: torch.randperm(3, generator=generator, device="cuda"),
        lambda: there(3).uniform_(generator=generator),
    ):
        with pytest.raises(RuntimeError, match="generator"):
            draw()
    assert torch.randn(3, generator=generator).device.type == "cpu"


def test_cards_of_apple_know_no_float64() -> None:
    with emulated_card("apple"):
        for make in (
            lambda: there(3).double(),
            lambda: there(3).sum(dtype=torch.float64),
            lambda: here().double().to(CARD),
        ):
            with pytest.raises(TypeError, match="float64"):
                make()
    with emulated_card():
        assert there(3).double().dtype == torch.float64


def test_what_a_card_cannot_compute_raises(card: EmulatedCard) -> None:
    with pytest.raises(RuntimeError, match="not implemented for"):
        there(3, 3).long() @ there(3, 3).long()
    with pytest.raises(RuntimeError, match="not implemented for"):
        F.avg_pool2d(there(1, 4, 4).long(), 2)


@pytest.mark.skipif(not torch.version.cuda, reason="no GPU is known to this build of torch")
def test_an_operator_without_a_kernel_for_cuda_raises(card: EmulatedCard) -> None:
    with pytest.raises(NotImplementedError, match="histogram"):
        torch.histogram(there(3), bins=2)


def test_views_share_memory_and_what_is_there_stays_the_same_tensor(card: EmulatedCard) -> None:
    tensor = there(3, 4)
    tensor[1:, 0] = 5
    tensor.view(-1)[3] = 9
    assert tensor.tolist() == [[0, 1, 2, 9], [5, 5, 6, 7], [5, 9, 10, 11]]
    assert tensor[1:].untyped_storage().nbytes() == tensor.nbytes > tensor[1:].nbytes
    assert tensor.to("cuda") is tensor is tensor.to(CARD)
    assert copy.deepcopy(tensor).tolist() == tensor.tolist()


def test_a_network_moves_there_and_back_and_learns(card: EmulatedCard) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 1))
    twin, images = copy.deepcopy(net), here(2, 1, 4, 4)
    optimiser = torch.optim.AdamW(net.to("cuda").parameters())
    assert all(isinstance(p, OnCard) and isinstance(p, nn.Parameter) for p in net.parameters())
    loss = net(images.to("cuda")).square().sum()
    loss.backward()
    twin(images).square().sum().backward()
    for ours, theirs in zip(net.parameters(), twin.parameters(), strict=True):
        assert isinstance(ours.grad, OnCard)
        torch.testing.assert_close(ours.grad.cpu(), theirs.grad)
    optimiser.step()
    before = loss.item()
    del loss  # it holds on to the parameters
    with torch.no_grad():
        assert net(images.to("cuda")).square().sum().item() != before
    assert type(net.to("cpu")[0].weight.data) is Tensor


def test_autocast_computes_in_half_precision_there_and_only_there(card: EmulatedCard) -> None:
    with torch.autocast("cuda", torch.float16):
        assert (there(3, 3) @ there(3, 3)).dtype == torch.float16
        assert (here(3, 3) @ here(3, 3)).dtype == torch.float32


def test_a_full_card_takes_nothing_more(card: EmulatedCard) -> None:
    tensor = there(3)
    card.full = True
    with pytest.raises(torch.OutOfMemoryError):
        there(3)
    with pytest.raises(torch.OutOfMemoryError):
        tensor + 1
    assert tensor[1:].add_(1).cpu().tolist() == [2, 3]


def test_afterwards_all_is_as_before() -> None:
    before = torch.cuda.is_available(), torch.backends.cudnn.enabled, torch._C._only_lift_cpu_tensors()
    with emulated_card():
        assert torch.cuda.is_available()
    assert before == (torch.cuda.is_available(), torch.backends.cudnn.enabled, torch._C._only_lift_cpu_tensors())
    assert not torch.__future__.get_swap_module_params_on_conversion()
