"""Gradient steps are those of torch.optim, and can be taken anywhere."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from napari_fewshot.models.blocks.descent import Adam, Plain, Rule, steps
from tests.models.toys import noise


def bowl(x: Tensor, y: Tensor, centre: Tensor) -> Tensor:
    return ((x - centre).square() * torch.tensor([1.0, 10.0, 0.1])).sum() + (y * x.sum()).cos().sum()


@pytest.mark.parametrize(
    ("rule", "reference"), [(Plain(0.01), torch.optim.SGD), (Adam(0.01), torch.optim.Adam)], ids=["plain", "adam"]
)
def test_places_are_those_of_torch_optim(rule: Rule, reference: type[torch.optim.Optimizer]) -> None:
    start, centre = (noise(3), noise(2, seed=1)), noise(3, seed=2)
    parameters = [p.clone().requires_grad_() for p in start]
    optimiser = reference(parameters, lr=0.01)  # type: ignore[call-arg]
    places = list(steps(start, bowl, (centre,), rule, 12))
    assert len(places) == 12
    for place, loss in places:
        value = bowl(*parameters, centre)
        assert loss == pytest.approx(value.item())
        torch.testing.assert_close(place, tuple(p.detach() for p in parameters))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    assert torch.equal(places[0][0][0], start[0])


def test_steps_can_be_taken_in_inference_mode_on_what_was_made_there() -> None:
    outside = [place for place, _ in steps((noise(3), noise(2)), bowl, (noise(3, seed=2),), Adam(0.1), 4)]
    with torch.inference_mode():
        inside = []
        for place, _ in steps((noise(3), noise(2)), bowl, (noise(3, seed=2),), Adam(0.1), 4):
            assert torch.is_inference_mode_enabled(), "between steps nothing is different"
            inside.append(place)
    assert all(torch.equal(a, b) for x, y in zip(inside, outside, strict=True) for a, b in zip(x, y, strict=True))


def test_no_compiler_is_imported() -> None:
    """Its start can take seconds, and beside OpenGL it can crash."""
    code = (
        "import sys, torch\n"
        "from napari_fewshot.models.blocks.descent import Adam, steps\n"
        "list(steps((torch.ones(3),), lambda x: x.square().sum(), (), Adam(0.1), 3))\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
