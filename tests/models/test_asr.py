"""ASR: reconstruction in a basis of groups of channels, and the projection that filters."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from napari_fewshot.models.blocks.matching import MatchingLevels
from napari_fewshot.models.methods.asr import ASR, SemanticSpace, filtered, grouped, kept, lengths, rectified
from tests.models.toys import LEVEL, noise, random_pyramid, random_shot, scaled, stripes, toy_ious, whole

PLAIN_LEVELS = MatchingLevels((4,), standardised=False)
PLAIN = ASR(PLAIN_LEVELS, groups=4)


def space() -> SemanticSpace:
    return PLAIN.fit([random_shot(1, stripes(0, 1))], (1,)).solution[0]


def places(seed: int = 3) -> Tensor:
    return lengths(rectified(noise(6, 20, seed=seed)).square(), space().members)


def test_reconstruction_and_filter_equal_the_equations_by_hand() -> None:
    """With the vectors of the basis written out, cell by cell."""
    known, cells = space(), random_pyramid(9).features[LEVEL]
    groups = [row.nonzero()[:, 0].tolist() for row in known.members]
    basis, weights = [], []
    for channels in groups:
        part = torch.zeros(12, dtype=torch.float64)
        for channel in channels:
            part[channel] = known.vector[channel]
        weights.append(part.norm())
        basis.append(part / part.norm())  # v_b
    torch.testing.assert_close(known.basis, torch.stack(basis))
    support = sum(w * v for w, v in zip(weights, basis, strict=True))  # eq. 1
    share = kept(lengths(rectified(cells).square(), known.members), known.weights)
    after = filtered(lengths(rectified(cells).square(), known.members), known.weights)
    for y in range(8):
        for x in range(10):
            feature = torch.tensor(
                [max(float(v), 0) for v in cells[:, y, x]] + [max(-float(v), 0) for v in cells[:, y, x]]
            )
            query = torch.zeros(12, dtype=torch.float64)
            for channels, v in zip(groups, basis, strict=True):
                query += sum(float(feature[c]) ** 2 for c in channels) ** 0.5 * v  # the query in the basis
            projected = (query @ support / support.norm()) * support / support.norm()  # eq. 5
            torch.testing.assert_close(known.basis.T @ after[:, y, x], projected, atol=1e-6, rtol=1e-6)
            assert share[y, x].item() == pytest.approx((projected.norm() / query.norm()).item(), abs=1e-6)


def test_the_basis_is_orthonormal_and_rebuilds_the_class_exactly() -> None:
    known = space()
    torch.testing.assert_close(known.basis @ known.basis.T, torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(known.weights @ known.basis, known.vector)


def test_the_filter_is_a_projection_of_rank_one_that_lengthens_nothing() -> None:
    known, before = space(), places()
    after = filtered(before, known.weights)
    torch.testing.assert_close(filtered(after, known.weights), after)
    assert (after.norm(dim=0) <= before.norm(dim=0) + 1e-12).all()
    assert torch.linalg.matrix_rank(after) == 1
    torch.testing.assert_close(filtered(known.weights[:, None], known.weights)[:, 0], known.weights)


def test_the_share_that_is_kept_lies_within_one_and_is_one_along_the_class() -> None:
    known = space()
    share = kept(places(), known.weights)
    assert share.min() >= 0 and share.max() <= 1 + 1e-12
    assert kept(7 * known.weights[:, None], known.weights).item() == pytest.approx(1)
    assert kept(torch.zeros(4, 1, dtype=torch.float64), known.weights).item() == 0


def test_every_channel_is_in_one_group_of_its_kind() -> None:
    answers = noise(12, seed=2)
    members = grouped(answers, 4)
    assert members.sum(0).tolist() == [1] * 12 and members.sum(1).tolist() == [3] * 4
    sorts = [answers[row > 0] for row in members]
    assert all(a.max() <= b.min() for a, b in pairwise(sorts))
    assert grouped(answers, 99).sum(1).tolist() == [1] * 12


def test_rectified_channels_lose_nothing() -> None:
    x = noise(6, 20)
    split = rectified(x)
    assert split.min() >= 0
    torch.testing.assert_close(split[:6] - split[6:], x)


def test_the_vector_is_the_average_of_those_of_the_shots() -> None:
    shots = [random_shot(1, stripes(0, 0, 0, 1)), random_shot(2, stripes(1, 0))]
    apart = [PLAIN.fit([shot], (1,)).solution[0].vector for shot in shots]
    together = PLAIN.fit(shots, (1,)).solution[0].vector
    torch.testing.assert_close(together, (apart[0] + apart[1]) / 2, atol=1e-5, rtol=1e-5)


def test_the_length_of_features_is_irrelevant() -> None:
    ((pyramid, labels),) = random_shot(1, stripes(0, 1)).parts()
    state, query = PLAIN.fit([whole(pyramid, labels)], (1,)), random_pyramid(9)
    torch.testing.assert_close(PLAIN.predict(state, scaled(query, 10)), PLAIN.predict(state, query))
    longer = PLAIN.fit([whole(scaled(pyramid, 10), labels)], (1,))
    torch.testing.assert_close(PLAIN.predict(longer, query), PLAIN.predict(state, query), atol=1e-6, rtol=0)


@pytest.mark.parametrize("standardised", [True, False])
def test_things_are_found_with_masks_and_with_strokes(standardised: bool) -> None:
    method = ASR(MatchingLevels((1,), standardised))
    assert min(toy_ious(method)) > 0.95
    assert min(toy_ious(method, shots=5, classes=2)) > 0.95
    assert min(toy_ious(method, strokes=True)) > 0.95
