"""FSIL by its equations (methods' invariants), on made-up features in float64."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from napari_fewshot import Frame, Shot, SupportSet, load_segmenter
from napari_fewshot.errors import ImageError
from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.devices import moved
from napari_fewshot.models.methods.base import TaggedFeatures, TakesTags
from napari_fewshot.models.methods.fsil import FSIL, LEAST, distilled, trimmed_mean
from napari_fewshot.models.methods.panet import PANet
from napari_fewshot.support import Tag
from tests.models.toys import LEVEL, noise, random_pyramid, random_shot, stripes, toy_ious, whole

METHOD, PLAIN = FSIL((4,), no_worse=0.0), PANet((4,))
SHOTS = [random_shot(1, stripes(0, 1, 2)), random_shot(2, stripes(0, 2, 255))]


def tagged(seed: int, *class_ids: int) -> TaggedFeatures:
    return TaggedFeatures.whole(random_pyramid(seed), class_ids, f"{seed}")


def prototypes(method: FSIL, images: Sequence[TaggedFeatures]) -> Tensor:
    return method.refine(method.fit(SHOTS, (1, 2)), images).solution.prototypes


def by_hand(method: FSIL, images: Sequence[TaggedFeatures]) -> list[list[float]]:
    """One round with loops over cells."""
    learnt = method.fit(SHOTS, (1, 2)).solution
    taught = learnt.taught.tolist()

    def cosine(a: list[float], b: list[float]) -> float:
        return sum(u * v for u, v in zip(a, b, strict=True)) / (sum(u * u for u in a) * sum(v * v for v in b)) ** 0.5

    fused = [list(row) for row in taught]
    for row, least in enumerate(learnt.least.tolist(), 1):
        means, certainties = [], []
        for image in images:
            if row not in image.class_ids:
                continue
            ((pyramid),) = image.image()
            cells = pyramid.features[LEVEL].flatten(1).T.tolist()
            total, mass, kept = [0.0] * len(cells[0]), 0.0, 0
            for cell in cells:
                similarities = [cosine(cell, p) for p in taught]
                if similarities[row] < least:
                    continue
                powers = [np.exp(method.panet.alpha * s) for s in similarities]
                q = powers[row] / sum(powers)
                total = [t + q * v for t, v in zip(total, cell, strict=True)]
                mass, kept = mass + q, kept + 1
            if mass >= LEAST * len(cells):
                means.append([t / mass for t in total])
                certainties.append(mass / kept)
        if means:
            gamma = method.gamma * sum(certainties) / len(certainties)
            auxiliary = [sum(column) / len(means) for column in zip(*means, strict=True)]
            fused[row] = [(1 - gamma) * p + gamma * a for p, a in zip(taught[row], auxiliary, strict=True)]
    return fused


def test_a_round_equals_the_equations_by_hand() -> None:
    method = FSIL((4,), rounds=1, no_worse=0.0)
    images = [tagged(5, 1), tagged(6, 1, 2), tagged(7, 2)]
    found = prototypes(method, images)
    expected = torch.tensor(by_hand(method, images), dtype=torch.float64)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)
    assert not torch.allclose(found[1], method.fit(SHOTS, (1, 2)).solution.taught[1], atol=1e-3)


@pytest.mark.parametrize(
    "method", [METHOD, FSIL((4,), gamma=0.0), FSIL((4,), rounds=0)], ids=["no tag", "no fusion", "no round"]
)
def test_without_tags_or_without_fusion_it_is_panet(method: FSIL) -> None:
    state, query = method.fit(SHOTS, (1, 2)), random_pyramid(9)
    if method is not METHOD:
        state = method.refine(state, [tagged(5, 1, 2)])
    assert torch.equal(method.predict(state, query), PLAIN.predict(PLAIN.fit(SHOTS, (1, 2)), query))


def test_only_classes_that_are_tagged_change_and_the_background_never() -> None:
    taught, found = METHOD.fit(SHOTS, (1, 2)).solution.taught, prototypes(METHOD, [tagged(5, 2)])
    assert torch.equal(found[:2], taught[:2])
    assert not torch.equal(found[2], taught[2])


def test_what_is_found_lies_within_the_convex_hull_of_the_cells_of_the_image() -> None:
    method = FSIL((4,), gamma=1.0, rounds=1)
    learnt = method.fit(SHOTS, (1, 2)).solution
    ((pyramid),) = tagged(1, 1).image()  # the image of a shot
    found = method._found(learnt, learnt.taught, tagged(1, 1))[1].mean
    cells = pyramid.features[LEVEL].flatten(1).numpy()  # (D, N)
    system = np.vstack([cells, np.ones(cells.shape[1])])
    answer = linprog(np.zeros(cells.shape[1]), A_eq=system, b_eq=[*found.tolist(), 1.0], bounds=(0, None))
    assert answer.status == 0, "no weights >= 0 that sum to 1 give this average"


def test_a_higher_threshold_keeps_no_more() -> None:
    certainty, similarity = noise(500, seed=1).sigmoid(), noise(500, seed=2).tanh()
    kept = [distilled(certainty, similarity, least) for least in torch.linspace(-1.1, 1.1, 23).tolist()]
    masses = [float(weights.sum()) for weights in kept]
    assert all(bool((weights >= 0).all()) for weights in kept)
    assert masses == sorted(masses, reverse=True)
    assert masses[0] == pytest.approx(float(certainty.sum())) and masses[-1] == 0


def test_it_comes_to_rest() -> None:
    fifty, hundred = (prototypes(FSIL((4,), rounds=n, no_worse=0.0), [tagged(5, 1), tagged(6, 2)]) for n in (50, 100))
    torch.testing.assert_close(fifty, hundred, atol=1e-9, rtol=0)


def test_an_image_on_which_nothing_is_found_is_left_out() -> None:
    nothing = FeaturePyramid({LEVEL: torch.zeros(6, 8, 10, dtype=torch.float64)}, (32, 40))
    taught = METHOD.fit(SHOTS, (1, 2)).solution.taught
    cells = -taught[1][:, None, None].expand(6, 8, 10)
    for pyramid in (nothing, FeaturePyramid({LEVEL: cells.clone()}, (32, 40))):
        assert torch.equal(prototypes(METHOD, [TaggedFeatures.whole(pyramid, (1,), "x")]), taught)


def test_one_wrong_tag_among_five_does_no_harm() -> None:
    values = torch.cat([torch.ones(4, 3, dtype=torch.float64), torch.full((1, 3), 1e6, dtype=torch.float64)])
    assert torch.equal(trimmed_mean(values), torch.ones(3, dtype=torch.float64))
    assert torch.equal(trimmed_mean(values[2:]), values[2:].mean(0))


def test_a_class_that_the_shots_are_segmented_worse_with_stays_as_it_was() -> None:
    pyramid, labels = things_of_two_kinds(1, 1.0)
    misleading = FeaturePyramid(
        {Level(1): (0.3 + torch.eye(8, dtype=torch.float64)[1]).view(8, 1, 1).repeat(1, 9, 9)}, (9, 9)
    )
    image = TaggedFeatures.whole(misleading, (1,), "x")
    free, careful = (FSIL((1,), gamma=2.0, no_worse=share) for share in (0.0, 0.9))
    state = free.fit([whole(pyramid, labels)], (1,))
    state = replace(state, solution=replace(state.solution, least=torch.tensor([0.0], dtype=torch.float64)))
    taught = state.solution.taught
    moved_away = free.refine(state, [image]).solution.prototypes
    assert state.solution.iou(1, moved_away[1]) < 0.9 * state.solution.iou(1, taught[1])
    assert torch.equal(careful.refine(state, [image]).solution.prototypes, taught)


def test_padding_of_the_last_cells_counts_for_nothing() -> None:
    inside = random_pyramid(5, (32, 40))
    padded = FeaturePyramid({LEVEL: torch.cat([inside.features[LEVEL], 1e3 * noise(6, 8, 3)], 2)}, (32, 40))
    a, b = (prototypes(METHOD, [TaggedFeatures.whole(p, (1,), "x")]) for p in (inside, padded))
    assert torch.equal(a, b)


def test_an_image_in_tiles_is_as_good_as_in_one_piece() -> None:
    pyramid = FeaturePyramid({Level(1): noise(6, 16, 20, seed=5)}, (16, 20))

    def halves() -> Iterator[FeaturePyramid]:
        for columns in (slice(0, 10), slice(10, 20)):
            yield FeaturePyramid({Level(1): pyramid.features[Level(1)][:, :, columns]}, (16, 10))

    method = FSIL((1,))
    shot = whole(FeaturePyramid({Level(1): noise(6, 16, 20, seed=1)}, (16, 20)), stripes(0, 1, size=(16, 20)))
    state = method.fit([shot], (1,))
    tiled, one = TaggedFeatures(halves, (1,), "a"), TaggedFeatures.whole(pyramid, (1,), "a")
    results = [method.refine(state, [image]).solution.prototypes for image in (tiled, one)]
    torch.testing.assert_close(*results)


def test_refining_changes_no_input_and_shots_go_on_from_before_it() -> None:
    state = METHOD.fit(SHOTS[:1], (1, 2))
    before = state.solution.prototypes.clone()
    METHOD.refine(state, [tagged(5, 1, 2)])
    assert torch.equal(state.solution.prototypes, before)
    updated, fresh = METHOD.update(state, SHOTS[1:], [], (1, 2)), METHOD.fit(SHOTS, (1, 2))
    assert torch.equal(updated.solution.taught, fresh.solution.taught)
    assert torch.equal(updated.solution.least, fresh.solution.least)
    assert torch.equal(moved(updated, "cpu").solution.taught, fresh.solution.taught)


@pytest.mark.parametrize(("shots", "classes", "strokes"), [(1, 1, False), (1, 1, True), (5, 1, False), (3, 2, False)])
def test_toy_objects_are_found(shots: int, classes: int, strokes: bool) -> None:
    assert min(toy_ious(FSIL((1,)), shots, classes, strokes)) > 0.95


def things_of_two_kinds(seed: int, share: float) -> tuple[FeaturePyramid, Tensor]:
    """Features of a thing in the middle, of which so much looks like u and the rest like v, on ground like w."""
    u, v, w = torch.eye(8, dtype=torch.float64)[:3]
    labels = torch.zeros(16, 20, dtype=torch.long)
    labels[4:12, 5:15] = 1
    means = torch.where(labels[..., None] == 1, share * u + (1 - share) * v, w) + 0.3
    features = means.permute(2, 0, 1) + 0.02 * noise(8, 16, 20, seed=seed)
    return FeaturePyramid({Level(1): features}, (16, 20)), labels


def test_a_prototype_moves_towards_what_the_class_looks_like_on_tagged_images() -> None:
    method = FSIL((1,))
    state = method.fit([whole(*things_of_two_kinds(1, 1.0))], (1,))
    state = replace(state, solution=replace(state.solution, least=torch.tensor([0.6], dtype=torch.float64)))
    images = [TaggedFeatures.whole(things_of_two_kinds(seed, 0.6)[0], (1,), f"{seed}") for seed in (2, 3)]
    refined = method.refine(state, images)
    query, truth = things_of_two_kinds(4, 0.6)
    thing = query.features[Level(1)][:, truth == 1].mean(1)
    before, after = (float(torch.cosine_similarity(s.solution.prototypes[1], thing, dim=0)) for s in (state, refined))
    assert after > before + 0.03
    certain = [float(method.predict(s, query)[1][truth == 1].mean()) for s in (state, refined)]
    assert certain[1] > certain[0]


# ---------------------------------------------------------------- from a support set to the method
def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc on dark ground with some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :64]
    centre = rng.uniform(16, 32, 2)
    labels = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 100).astype(np.int32)
    return (60 + 100 * labels + rng.normal(0, 10, labels.shape)).astype(np.uint8), labels


def support(*tags: Tag) -> SupportSet:
    return SupportSet([Shot(Frame("a", scene(1)[0]), scene(1)[1])], tags=tags)


def contains(key: str, seed: int, *class_ids: int) -> Tag:
    return Tag(Frame(key, scene(seed)[0]), class_ids or (1,))


QUERY = Frame("q", scene(9)[0])


def answer(method: str, given: SupportSet) -> np.ndarray:
    return load_segmenter(method, device="cpu").learn(given).propose(QUERY).probabilities


def test_tags_reach_the_method_in_any_order_and_twice_is_once() -> None:
    one, two = contains("b", 2), contains("c", 3)
    plain, tagged_ = answer("fsil", support()), answer("fsil", support(one, two))
    assert not np.array_equal(plain, tagged_)
    np.testing.assert_array_equal(plain, answer("panet", support()))
    np.testing.assert_array_equal(tagged_, answer("fsil", support(two, contains("d", 2), one)))


def test_tags_that_come_and_go_leave_no_trace() -> None:
    segmenter = load_segmenter("fsil", device="cpu")
    results = [
        segmenter.learn(given).propose(QUERY).probabilities
        for given in (support(), support(contains("b", 2)), support())
    ]
    np.testing.assert_array_equal(results[0], results[2])
    assert not np.array_equal(results[0], results[1])


@pytest.mark.parametrize("method", ["ridge", "panet", "repri"])
def test_methods_that_take_no_tags_are_not_changed_by_any(method: str) -> None:
    segmenter = load_segmenter(method, device="cpu")
    assert not isinstance(segmenter.method, TakesTags)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(answer(method, support()), answer(method, support(contains("b", 2))))


def test_a_tag_of_a_class_that_is_painted_nowhere_says_nothing() -> None:
    np.testing.assert_array_equal(answer("fsil", support()), answer("fsil", support(contains("b", 2, 7))))


def test_what_is_painted_on_a_tagged_image_elsewhere_changes_nothing() -> None:
    """The leak test: a method sees pixels of a tagged image and its class, nothing else."""
    tag = contains("b", 2)
    changed = replace(tag, frame=replace(tag.frame, key="another name"))
    np.testing.assert_array_equal(answer("fsil", support(tag)), answer("fsil", support(changed)))


def test_a_tagged_image_that_cannot_be_used_gets_a_message() -> None:
    segmenter = load_segmenter("fsil", device="cpu")
    with pytest.raises(ImageError, match=r"all pixels of 'flat' have the same value.*take its tag away"):
        segmenter.learn(support(Tag(Frame("flat", np.zeros((32, 32), np.uint8)), (1,))))
    with pytest.raises(ImageError, match=r"'rgb' has 3 channel\(s\), but the taught images have 1; take its tag away"):
        segmenter.learn(support(Tag(Frame("rgb", np.zeros((32, 32, 3), np.uint8)), (1,))))


def test_progress_counts_tagged_images_too() -> None:
    told: list[tuple[int, int]] = []
    segmenter = load_segmenter("fsil", device="cpu")
    segmenter.learn(
        support(contains("b", 2), contains("c", 3)), progress=lambda done, total: told.append((done, total))
    )
    assert told[-1][1] == 3 and max(done for done, _ in told) == 2
