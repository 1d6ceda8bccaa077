"""PANet by its equations (methods' invariants), on made-up features in float64."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.methods.base import SupportFeatures
from napari_fewshot.models.methods.panet import PANet

LEVEL = Level(4)
METHOD = PANet((4,))


def features(seed: int, size: tuple[int, int] = (32, 40)) -> FeaturePyramid:
    generator = torch.Generator().manual_seed(seed)
    cells = (size[0] // 4, size[1] // 4)
    return FeaturePyramid({LEVEL: torch.randn(6, *cells, generator=generator, dtype=torch.float64)}, size)


def shot(seed: int, labels: Tensor) -> SupportFeatures:
    return SupportFeatures.whole(features(seed), labels, f"{seed}")


def blocks(*values: int) -> Tensor:
    """Labels in vertical stripes."""
    labels = torch.zeros(32, 40, dtype=torch.long)
    for i, value in enumerate(values):
        labels[:, 40 * i // len(values) : 40 * (i + 1) // len(values)] = value
    return labels


def by_hand(shots: Sequence[SupportFeatures], query: FeaturePyramid, class_ids: Sequence[int]) -> Tensor:
    """Eqs. 1 to 3 with loops: upsample everything, average, compare, softmax."""
    up = torch.nn.functional.interpolate
    prototypes = []
    for value in (0, *class_ids):
        means = []
        for s in shots:
            ((pyramid, labels),) = s.parts()
            f = up(pyramid.features[LEVEL][None], (32, 40), mode="bilinear")[0]
            if (labels == value).any():
                means.append(f[:, labels == value].mean(1))
        prototypes.append(torch.stack(means).mean(0))
    grid = query.features[LEVEL]
    logits = torch.stack([20 * torch.cosine_similarity(grid, p[:, None, None], dim=0) for p in prototypes])
    return up(logits[None], query.size, mode="bilinear")[0].softmax(0)


def test_it_equals_the_equations_by_hand() -> None:
    shots = [shot(1, blocks(0, 1, 2)), shot(2, blocks(0, 2, 255)), shot(3, blocks(1, 0))]
    state = METHOD.fit(shots, (1, 2))
    torch.testing.assert_close(
        METHOD.predict(state, features(9)), by_hand(shots, features(9), (1, 2)), atol=1e-6, rtol=0
    )


def test_logits_stay_within_alpha() -> None:
    state = METHOD.fit([shot(1, blocks(0, 1))], (1,))
    p = METHOD.predict(state, features(1))
    ratio = (p[1] / p[0]).log()
    assert ratio.abs().max() <= 40


def test_scaling_features_changes_nothing() -> None:
    query = features(9)
    scaled = FeaturePyramid({LEVEL: 10 * query.features[LEVEL]}, query.size)
    state = METHOD.fit([shot(1, blocks(0, 1))], (1,))
    torch.testing.assert_close(METHOD.predict(state, scaled), METHOD.predict(state, query))


def test_with_one_class_it_is_a_sigmoid_of_the_difference_of_cosines() -> None:
    state = METHOD.fit([shot(1, blocks(0, 1))], (1,))
    query = features(9, (4, 4))
    background, foreground = state.solution
    cell = query.features[LEVEL][:, 0, 0]
    difference = torch.cosine_similarity(cell, foreground, dim=0) - torch.cosine_similarity(cell, background, dim=0)
    assert METHOD.predict(state, query)[1, 0, 0].item() == pytest.approx(torch.sigmoid(20 * difference).item())


def test_unlabelled_pixels_do_not_touch_the_prototypes() -> None:
    labels = blocks(0, 1, 255)
    first = METHOD.fit([shot(1, labels)], (1,)).solution
    changed = features(1)
    changed.features[LEVEL][:, :, 8:] += 100  # beyond the cells that interpolate labelled pixels
    second = METHOD.fit([SupportFeatures.whole(changed, labels, "1")], (1,)).solution
    torch.testing.assert_close(first, second)


def test_separable_clusters_are_told_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = blocks(0, 1)
    direction = torch.zeros(6, dtype=torch.float64)
    direction[0] = 1

    def toy() -> FeaturePyramid:
        base = torch.ones(6, 8, 10, dtype=torch.float64) + 0.1 * torch.randn(
            6, 8, 10, generator=generator, dtype=torch.float64
        )
        base[:, :, 5:] += 5 * direction[:, None, None]
        return FeaturePyramid({LEVEL: base}, (32, 40))

    support, query = toy(), toy()
    state = METHOD.fit([SupportFeatures.whole(support, labels, "a")], (1,))
    guess = METHOD.predict(state, query).argmax(0)
    assert ((guess == 1) & (labels == 1)).sum() / ((guess == 1) | (labels == 1)).sum() > 0.95
