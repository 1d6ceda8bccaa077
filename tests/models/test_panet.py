"""PANet by its equations (methods' invariants), on made-up features in float64."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_fewshot import Frame, Shot, SupportSet, load_segmenter
from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.blocks.quality import Quality, most_probable
from napari_fewshot.models.feature_segmenter import FeatureSegmenter
from napari_fewshot.models.methods.base import SupportFeatures
from napari_fewshot.models.methods.panet import CyclicPANet, PANet

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


CYCLIC = CyclicPANet((4,))


def test_with_the_way_back_it_answers_the_same() -> None:
    shots = [shot(1, blocks(0, 1, 2)), shot(2, blocks(0, 2, 255))]
    answers = [method.predict(method.fit(shots, (1, 2)), features(9)) for method in (METHOD, CYCLIC)]
    torch.testing.assert_close(*answers)


def test_a_proposal_is_judged_by_how_well_it_finds_the_shots_again() -> None:
    """By loops over the pixels of the shot, from averages over those of the proposal."""
    painted, found = blocks(0, 1), blocks(1, 0, 0)
    judge = CYCLIC.judge(CYCLIC.fit([shot(1, painted)], (1,)))
    judge.add(features(9), found)
    up = torch.nn.functional.interpolate
    there, back = (up(f.features[LEVEL][None], (32, 40), mode="bilinear")[0] for f in (features(9), features(1)))
    background, own = (there[:, found == value].mean(1) for value in (0, 1))
    hit = union = 0
    for y in range(32):
        for x in range(40):
            f, truth = back[:, y, x], bool(painted[y, x])
            guess = bool(f @ own / own.norm() > f @ background / background.norm())
            hit, union = hit + (guess and truth), union + (guess or truth)
    assert judge.value == pytest.approx(hit / union, abs=1e-9)


def test_where_nothing_was_found_the_way_back_says_nothing() -> None:
    judge = CYCLIC.judge(CYCLIC.fit([shot(1, blocks(0, 1))], (1,)))
    judge.add(features(9), blocks(0))
    assert judge.value is None


def test_the_score_of_a_proposal_is_that_of_its_judge_or_the_usual_one() -> None:
    image = np.random.default_rng(0).integers(0, 60, (64, 64)).astype(np.uint8)
    image[16:40, 16:40] += 150
    labels = (image > 100).astype(np.int32)
    plain = load_segmenter("panet", device="cpu")
    assert isinstance(plain, FeatureSegmenter)
    strides = plain.method.strides  # type: ignore[attr-defined]
    cyclic = FeatureSegmenter(plain.extractor, CyclicPANet(strides), "panet")
    support = SupportSet([Shot(Frame("a", image), labels)])
    usual, judged = (s.learn(support).propose(Frame("q", image[::-1].copy())) for s in (plain, cyclic))
    np.testing.assert_allclose(judged.probabilities, usual.probabilities, atol=1e-5)
    p = torch.from_numpy(np.array(usual.probabilities))
    quality = Quality((0, 1))
    quality.add(p, *most_probable(p, (0, 1)))
    assert usual.score == pytest.approx(quality.value)
    concept = cyclic.learn(support)
    opened = plain.extractor.open(Frame("q", image[::-1].copy()).open(), None)
    judge = cyclic.method.judge(concept.state)  # type: ignore[attr-defined]
    for tile in opened.tiles:
        own = torch.full(tile.size, 255)
        own[tile.inner] = torch.from_numpy(np.array(judged.labels[tile.core])).long()
        judge.add(opened.pyramid(tile), own)
    assert judged.score == pytest.approx(judge.value) and judged.score != usual.score
