"""What holds for every registered method, on every backbone that needs no weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from skimage.measure import label, regionprops

from napari_fewshot import Box, Frame, Shot, SupportSet, Tag, list_segmenters, load_segmenter
from napari_fewshot.errors import ImageError, MaskError, SupportError
from napari_fewshot.models import list_backbones
from napari_fewshot.models.methods.base import TakesTags
from napari_fewshot.models.registry import AUTO_BACKBONE
from napari_fewshot.segmenter import Concept, FewShotSegmenter

Array = Any

pytestmark = pytest.mark.parametrize(
    ("method", "backbone"),
    [
        (method.name, backbone.name)
        for method in list_segmenters()
        for backbone in list_backbones()
        if not backbone.needs_weights and (not method.needs_head or backbone.name == AUTO_BACKBONE)  # heads are for it
    ],
)


@pytest.fixture
def segmenter(method: str, backbone: str) -> FewShotSegmenter:
    return load_segmenter(method, backbone=backbone, device="cpu")


def scene(seed: int = 0, size: tuple[int, int] = (64, 80), classes: int = 1) -> tuple[Array, Array]:
    """Discs on a dark, noisy ground: class 1 bright and smooth, class 2 medium and striped. Returns image, labels."""
    rng = np.random.default_rng(seed)
    height, width = size
    y, x = np.mgrid[:height, :width]
    image = 0.2 + 0.03 * rng.standard_normal(size)
    labels = np.zeros(size, np.int32)
    for i in range(3 * classes):
        value = 1 + i % classes
        centre = rng.uniform(0.15, 0.85, 2) * size
        disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < (min(size) / 8) ** 2
        image[disc] = 0.8 if value == 1 else 0.5 + 0.25 * np.sin(1.5 * x[disc])
        labels[disc] = value
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8), labels


def learnt(segmenter: FewShotSegmenter, *seeds: int, **options: Any) -> Concept:
    shots = [Shot(Frame(f"shot {seed}", scene(seed, **options)[0]), scene(seed, **options)[1]) for seed in seeds]
    return segmenter.learn(SupportSet(shots))


def iou(guess: Array, truth: Array, value: int = 1) -> float:
    union = ((guess == value) | (truth == value)).sum()
    return float(((guess == value) & (truth == value)).sum() / union)


def test_easy_objects_are_found(segmenter: FewShotSegmenter) -> None:
    image, truth = scene(7, (128, 128))
    assert iou(learnt(segmenter, 1, size=(128, 128)).propose(Frame("q", image)).labels, truth) > 0.6


def test_a_proposal_keeps_its_promises(segmenter: FewShotSegmenter) -> None:
    image, _ = scene(7, classes=2)
    proposal = learnt(segmenter, 1, 2, classes=2).propose(Frame(("stack", 3), image))
    assert proposal.key == ("stack", 3)
    assert proposal.labels.shape == image.shape and proposal.labels.dtype == np.int32
    assert proposal.class_ids == (1, 2)
    assert proposal.probabilities.shape == (3, *image.shape) and proposal.probabilities.dtype == np.float32
    np.testing.assert_allclose(proposal.probabilities.sum(0), 1, atol=1e-5)
    assert proposal.probabilities.min() >= 0
    np.testing.assert_array_equal(proposal.labels, proposal.probabilities.argmax(0))
    np.testing.assert_array_equal(proposal.confidence, proposal.probabilities.max(0))
    assert 0 <= proposal.score <= 1


def test_the_same_work_gives_the_same_bits(method: str, backbone: str) -> None:
    image, _ = scene(7)
    first, second = (
        learnt(load_segmenter(method, backbone=backbone, device="cpu"), 1, 2).propose(Frame("q", image))
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    assert first.score == second.score


def test_nothing_changes_its_inputs(segmenter: FewShotSegmenter) -> None:
    image, labels = scene(1)
    query, _ = scene(7)
    before = image.copy(), labels.copy(), query.copy()
    segmenter.learn(SupportSet([Shot(Frame("a", image), labels)])).propose(Frame("q", query))
    for array, kept in zip((image, labels, query), before, strict=True):
        np.testing.assert_array_equal(array, kept)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int64", "float16", "float32", "float64", "bool"]
)
def test_any_real_data_type_works(segmenter: FewShotSegmenter, dtype: str) -> None:
    def converted(seed: int) -> Array:
        image = scene(seed)[0]
        if dtype == "bool":
            return image > 100
        return (image // 2).astype(dtype)

    concept = segmenter.learn(SupportSet([Shot(Frame("a", converted(1)), scene(1)[1])]))
    proposal = concept.propose(Frame("q", converted(7)))
    assert np.isfinite(proposal.probabilities).all()
    assert iou(proposal.labels, scene(7)[1]) > 0.4


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_any_number_of_channels_works(segmenter: FewShotSegmenter, channels: int) -> None:
    def coloured(seed: int) -> Array:
        image = scene(seed)[0]
        return np.stack([image if c % 2 == 0 else 255 - image for c in range(channels)], -1)

    concept = segmenter.learn(SupportSet([Shot(Frame("a", coloured(1)), scene(1)[1])]))
    assert iou(concept.propose(Frame("q", coloured(7))).labels, scene(7)[1]) > 0.4


@pytest.mark.parametrize("size", [(16, 16), (17, 33), (31, 100), (63, 65), (128, 16)])
def test_odd_sizes_come_back_at_native_size(segmenter: FewShotSegmenter, size: tuple[int, int]) -> None:
    image, labels = scene(1, size)
    labels[:3, :3] = 1
    proposal = segmenter.learn(SupportSet([Shot(Frame("a", image), labels)])).propose(Frame("q", scene(2, (40, 70))[0]))
    assert proposal.labels.shape == (40, 70)
    concept = learnt(segmenter, 1)
    assert concept.propose(Frame("q", image)).labels.shape == size


def test_ids_are_kept(segmenter: FewShotSegmenter) -> None:
    image, labels = scene(1, classes=2)
    ids = np.array([0, 17, 254])
    proposal = segmenter.learn(SupportSet([Shot(Frame("a", image), ids[labels])])).propose(Frame("q", image))
    plain = segmenter.learn(SupportSet([Shot(Frame("a", image), labels)])).propose(Frame("q", image))
    assert proposal.class_ids == (17, 254)
    np.testing.assert_array_equal(proposal.labels, ids[plain.labels])


def test_renaming_classes_permutes_channels_only(segmenter: FewShotSegmenter) -> None:
    image, labels = scene(1, classes=2)
    swapped = np.array([0, 2, 1])[labels]
    query = Frame("q", scene(7, classes=2)[0])
    a = segmenter.learn(SupportSet([Shot(Frame("a", image), labels)])).propose(query)
    b = segmenter.learn(SupportSet([Shot(Frame("a", image), swapped)])).propose(query)
    np.testing.assert_allclose(a.probabilities, b.probabilities[[0, 2, 1]], atol=1e-3)


def test_a_shot_with_nothing_on_it_counts_as_background(segmenter: FewShotSegmenter) -> None:
    image, labels = scene(1)
    empty = np.random.default_rng(3).integers(40, 60, (64, 80)).astype(np.uint8)
    shots = [Shot(Frame("a", image), labels), Shot(Frame("b", empty), np.zeros_like(labels))]
    proposal = segmenter.learn(SupportSet(shots)).propose(Frame("q", scene(7)[0]))
    assert iou(proposal.labels, scene(7)[1]) > 0.3


def test_unlabelled_pixels_teach_nothing(segmenter: FewShotSegmenter) -> None:
    """Whether a region is 255 in a shot of its own, or not there at all, is the same."""
    image, labels = scene(1)
    unknown = np.full_like(labels, 255)
    query = Frame("q", scene(7)[0])
    with_unknown = SupportSet([Shot(Frame("a", image), labels), Shot(Frame("b", scene(2)[0]), unknown)])
    a = segmenter.learn(with_unknown).propose(query)
    b = segmenter.learn(SupportSet([Shot(Frame("a", image), labels)])).propose(query)
    np.testing.assert_array_equal(a.probabilities, b.probabilities)


def test_scribbles_are_enough(segmenter: FewShotSegmenter) -> None:
    image, labels = scene(1, (128, 128))
    strokes = np.full_like(labels, 255)
    strokes[::9] = labels[::9]
    proposal = segmenter.learn(SupportSet([Shot(Frame("a", image), strokes)])).propose(
        Frame("q", scene(7, (128, 128))[0])
    )
    assert iou(proposal.labels, scene(7, (128, 128))[1]) > 0.5


def test_boxes_are_enough(segmenter: FewShotSegmenter, method: str) -> None:
    assert "boxes" in next(card for card in list_segmenters() if card.name == method).accepts
    image, labels = scene(1, (128, 128))
    boxes = [Box(*region.bbox) for region in regionprops(label(labels))]
    query, truth = scene(7, (128, 128))
    for all_boxed in (True, False):
        shot = Shot.boxed(Frame("a", image), boxes, all_boxed=all_boxed)
        assert iou(segmenter.learn(SupportSet([shot])).propose(Frame("q", query)).labels, truth) > 0.5


def test_tags_count_only_where_the_card_says_so(segmenter: FewShotSegmenter, method: str) -> None:
    image, labels = scene(1, (128, 128))
    shots, query = [Shot(Frame("a", image), labels)], Frame("q", scene(7, (128, 128))[0])
    plain = segmenter.learn(SupportSet(shots)).propose(query)
    tags = [Tag(Frame("t", scene(2, (128, 128))[0]), (1,))]
    tagged = segmenter.learn(SupportSet(shots, tags=tags)).propose(query)
    takes_tags = "tags" in next(card for card in list_segmenters() if card.name == method).accepts
    assert takes_tags is isinstance(segmenter.method, TakesTags)  # type: ignore[attr-defined]
    assert takes_tags is not np.array_equal(plain.probabilities, tagged.probabilities)
    assert iou(tagged.labels, scene(7, (128, 128))[1]) > 0.6


def test_one_painted_pixel_is_enough_to_work(segmenter: FewShotSegmenter) -> None:
    image, labels = scene(1)
    dot = np.zeros_like(labels)
    dot[tuple(np.argwhere(labels == 1)[5])] = 1
    proposal = segmenter.learn(SupportSet([Shot(Frame("a", image), dot)])).propose(Frame("q", image))
    assert np.isfinite(proposal.probabilities).all()
    np.testing.assert_allclose(proposal.probabilities.sum(0), 1, atol=1e-5)


def test_a_mask_of_all_foreground_or_without_background_works(segmenter: FewShotSegmenter) -> None:
    image, labels = scene(1)
    for mask in (np.ones_like(labels), np.where(labels == 1, 1, 255)):
        proposal = segmenter.learn(SupportSet([Shot(Frame("a", image), mask)])).propose(Frame("q", image))
        assert (proposal.labels[labels == 1] == 1).mean() > 0.9


def test_duplicate_shots_equal_one(segmenter: FewShotSegmenter) -> None:
    image, labels = scene(1)
    query = Frame("q", scene(7)[0])
    once = segmenter.learn(SupportSet([Shot(Frame("a", image), labels)])).propose(query)
    thrice = segmenter.learn(SupportSet([Shot(Frame(k, image.copy()), labels) for k in "abc"])).propose(query)
    np.testing.assert_array_equal(once.probabilities, thrice.probabilities)


def test_the_order_of_shots_is_irrelevant(segmenter: FewShotSegmenter) -> None:
    query = Frame("q", scene(7)[0])
    a, b = learnt(segmenter, 1, 2, 3).propose(query), learnt(segmenter, 3, 1, 2).propose(query)
    np.testing.assert_array_equal(a.probabilities, b.probabilities)


def test_learning_step_by_step_equals_learning_at_once(method: str, backbone: str) -> None:
    query = Frame("q", scene(7)[0])
    at_once = learnt(load_segmenter(method, backbone=backbone, device="cpu"), 1, 3).propose(query)
    stepwise = load_segmenter(method, backbone=backbone, device="cpu")
    for seeds in ((1,), (1, 2), (1, 2, 3)):
        learnt(stepwise, *seeds)
    np.testing.assert_array_equal(learnt(stepwise, 1, 3).propose(query).probabilities, at_once.probabilities)


def test_a_class_that_appears_later_is_learnt_too(segmenter: FewShotSegmenter) -> None:
    learnt(segmenter, 1)
    image, labels = scene(2, classes=2)
    support = SupportSet([Shot(Frame("a", scene(1)[0]), scene(1)[1]), Shot(Frame("b", image), labels)])
    assert set(np.unique(segmenter.learn(support).propose(Frame("q", image)).labels)) >= {0, 1, 2}


def test_an_older_concept_still_answers_as_before(segmenter: FewShotSegmenter) -> None:
    query = Frame("q", scene(7)[0])
    old = learnt(segmenter, 1)
    before = old.propose(query)
    learnt(segmenter, 1, 2, 3)
    np.testing.assert_array_equal(old.propose(query).probabilities, before.probabilities)


@pytest.mark.parametrize(("shots", "classes"), [(50, 1), (2, 20)])
def test_many_shots_and_many_classes_work(segmenter: FewShotSegmenter, shots: int, classes: int) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (48, 60)).astype(np.uint8)
    regions = np.repeat(np.repeat(np.arange(20).reshape(4, 5), 12, 0), 12, 1)
    labels = regions + 5 if classes == 20 else (regions % 2).astype(np.int32)
    support = SupportSet([Shot(Frame(f"{i}", np.roll(image, i, 0)), np.roll(labels, i, 0)) for i in range(shots)])
    assert len(support.class_ids) == classes
    proposal = segmenter.learn(support).propose(Frame("q", image))
    assert proposal.probabilities.shape == (1 + classes, 48, 60)
    assert np.isfinite(proposal.probabilities).all()
    np.testing.assert_allclose(proposal.probabilities.sum(0), 1, atol=1e-5)


def test_nothing_of_the_mask_of_a_query_leaks(method: str, backbone: str) -> None:
    """Neither by an earlier lesson that had it: what is forgotten is forgotten to the last bit."""
    image, truth = scene(7, classes=2)
    asked = Frame("q", image)
    shots = [Shot(Frame(f"shot {seed}", scene(seed, classes=2)[0]), scene(seed, classes=2)[1]) for seed in (1, 2)]
    found = []
    for mask in (None, truth, np.where(truth == 0, 1, 0), np.roll(truth, 20, 1)):
        segmenter = load_segmenter(method, backbone=backbone, device="cpu")
        if mask is not None:
            segmenter.learn(SupportSet([*shots, Shot(asked, mask)])).propose(asked)
        found.append(segmenter.learn(SupportSet(shots)).propose(asked))
    for proposal in found[1:]:
        np.testing.assert_array_equal(proposal.probabilities, found[0].probabilities)
        assert proposal.score == found[0].score


def test_a_constant_image_is_proposed_as_empty_and_says_so(segmenter: FewShotSegmenter) -> None:
    proposal = learnt(segmenter, 1).propose(Frame("blank", np.full((64, 80), 7, np.uint8)))
    assert not proposal.labels.any()
    assert "'blank'" in proposal.note


def bad(change: Callable[[Array], Array]) -> Array:
    return change(scene(1)[0].astype(np.float32))


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (bad(lambda x: np.where(x > 100, np.nan, x)), "nan_to_num"),
        (bad(lambda x: np.where(x > 100, np.inf, x)), "nan_to_num"),
        (bad(lambda x: x.astype(np.complex64)), "real numbers"),
        (bad(lambda x: x.astype(object)), "real numbers"),
        (bad(lambda x: x[0]), "give one slice"),
        (bad(lambda x: x[:0]), "is empty"),
        (bad(lambda x: x[:8]), "at least 16 x 16"),
        (bad(lambda x: np.stack([x, x], -1)), "2 channel"),
    ],
)
def test_an_image_that_cannot_be_used_gets_a_message(segmenter: FewShotSegmenter, image: Array, told: str) -> None:
    concept = learnt(segmenter, 1)
    with pytest.raises(ImageError, match="'bad'") as caught:
        concept.propose(Frame("bad", image))
    assert told in str(caught.value)


def test_a_support_set_that_teaches_nothing_gets_a_message(segmenter: FewShotSegmenter) -> None:
    image, labels = scene(1)
    with pytest.raises(SupportError, match="paint a mask"):
        segmenter.learn(SupportSet())
    with pytest.raises(SupportError, match="at least one pixel"):
        segmenter.learn(SupportSet([Shot(Frame("a", image), np.zeros_like(labels))]))
    with pytest.raises(ImageError, match="same value"):
        segmenter.learn(SupportSet([Shot(Frame("a", np.zeros_like(image)), labels)]))
    with pytest.raises(MaskError, match="paint"):
        segmenter.learn(SupportSet([Shot(Frame("a", lambda: image), labels[:30])]))
    mixed = SupportSet([Shot(Frame("a", image), labels), Shot(Frame("b", np.stack([image] * 3, -1)), labels)])
    with pytest.raises(ImageError, match="one kind only"):
        segmenter.learn(mixed)
