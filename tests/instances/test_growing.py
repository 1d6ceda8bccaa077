"""Similarity, masks, seeds and suppression against slow twins, and whole frames."""

from itertools import pairwise

import numpy as np
import pytest

from napari_fewshot import Frame, Shot, SupportSet
from napari_fewshot.errors import SettingsError
from napari_fewshot.frames import Instances
from napari_fewshot.instances.embedding import TAUS, Embedded, NumberedShot
from napari_fewshot.instances.growing import GrowSettings, Seeds, grow, reach_of, similarity, suppress
from napari_fewshot.instances.growth import better, choose_growth
from napari_fewshot.instances.segmenter import InstanceSegmenter
from napari_fewshot.instances.splitting import SplitSettings
from napari_fewshot.instances.tuning import Chosen
from tests.fakes import BrightnessSegmenter

RNG = np.random.default_rng(0)


def some(number: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(number, 3)).astype(np.float32), rng.random(number).astype(np.float32)


# ---------------------------------------------------------------------------- equations
def test_similarity_is_one_for_the_same_and_falls_with_the_distance() -> None:
    squared = np.linspace(0, 100, 1000)
    found = similarity(squared)
    assert found[0] == 1 and (np.diff(found) <= 0).all() and (np.diff(found[:300]) < 0).all() and found[-1] >= 0
    assert np.allclose(found[:50], [2 / (1 + np.exp(d)) for d in squared[:50]])


def test_the_distance_of_a_threshold_has_that_similarity() -> None:
    assert [round(reach_of(tau), 3) for tau in TAUS] == [1.946, 1.099, 0.511, 0.201]
    assert all(similarity(np.array(reach_of(tau))) == pytest.approx(tau) for tau in TAUS)


def picked(vectors: np.ndarray, scores: np.ndarray, alpha: float, number: int) -> list[int]:
    seeds = Seeds(vectors, scores, alpha)
    found, before = [], np.full(len(vectors), np.inf)
    for _ in range(number):
        found.append(seeds.pick())
        assert (seeds.distances <= before).all()
        before = seeds.distances.copy()
    return [at for at in found if at is not None]


def slowly(vectors: np.ndarray, scores: np.ndarray, alpha: float, number: int) -> list[int]:
    chosen: list[int] = []
    for _ in range(number):
        best, merit = -1, -np.inf
        for p in range(len(vectors)):
            if p in chosen:
                continue
            value = np.log(float(scores[p]))
            if chosen:
                value += alpha * np.log(min(float(np.sum((vectors[p] - vectors[q]) ** 2)) for q in chosen))
            if value > merit:
                best, merit = p, value
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.0, 1e6])
def test_seeds_are_those_of_brute_force(alpha: float) -> None:
    vectors, scores = some()
    found = picked(vectors, scores, alpha, 15)
    assert found == slowly(vectors, scores, alpha, 15) and len(set(found)) == 15
    if not alpha:
        assert found == list(np.argsort(-scores)[:15])


def test_what_is_excluded_is_no_seed_and_in_the_end_none_is_left() -> None:
    vectors, scores = some(6)
    seeds = Seeds(vectors, scores, 0.2)
    seeds.exclude(np.array([int(scores.argmax())]))
    found = [seeds.pick() for _ in range(7)]
    assert found[5:] == [None, None] and scores.argmax() not in found
    assert Seeds(vectors[:0], scores[:0], 0.2).pick() is None


def test_the_better_of_two_masks_of_one_object_stays() -> None:
    masks = [RNG.permutation(60)[: int(n)] for n in RNG.integers(5, 50, size=25)]
    scores = RNG.random(25)
    kept: list[int] = []
    for at in np.argsort(-scores):
        own = set(masks[at].tolist())
        if all(len(own & set(masks[k])) <= 0.3 * len(own | set(masks[k])) for k in kept):
            kept.append(int(at))
    assert suppress(masks, scores, 0.3, 60) == kept and 1 < len(kept) < 25
    assert suppress([], np.zeros(0), 0.3, 60) == []


# ---------------------------------------------------------------------------- frames
def touching() -> Instances:
    ids = np.zeros((24, 40), np.int32)
    ids[4:14, 4:14], ids[4:14, 14:24], ids[18, 30] = 1, 2, 3
    return ids


def known(ids: Instances, where: np.ndarray, apart: float = 9.0) -> Embedded:
    """What an oracle knows: pixels of an object in one place, all masks good."""
    vectors = np.stack([ids[where] * apart, np.zeros(int(where.sum()))], 1).astype(np.float32)
    return Embedded(vectors, np.full((len(vectors), len(TAUS)), 0.9, np.float32))


def test_objects_that_touch_are_grown_apart_and_one_pixel_is_an_object() -> None:
    ids = touching()
    where = ids > 0
    found = grow(known(ids, where), np.full(int(where.sum()), 0.8, np.float32), where, GrowSettings(), 5.0)
    assert found.max() == 3 and np.array_equal(found > 0, where)
    assert len({*zip(found.ravel().tolist(), ids.ravel().tolist(), strict=True)}) == 4


def test_a_frame_with_nothing_above_the_threshold_has_no_object() -> None:
    where = touching() > 0
    faint = np.full(int(where.sum()), 0.4, np.float32)
    assert not grow(known(touching(), where), faint, where, GrowSettings(), 5.0).any()
    nothing = np.zeros((5, 6), bool)
    assert not grow(known(nothing.astype(np.int32), nothing), faint[:0], nothing, GrowSettings(), 5.0).any()


def test_masks_are_nested() -> None:
    vectors, _ = some()
    squared = np.square(vectors[:, None] - vectors).sum(-1)
    masks = [squared <= reach_of(tau) for tau in TAUS]
    assert all((tight <= wide).all() for wide, tight in pairwise(masks))
    assert all(mask.diagonal().all() for mask in masks)


@pytest.mark.parametrize("wrong", [{"threshold": 0.0}, {"overlap": 0.0}, {"seediness": 2.0}, {"alpha": -1.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        GrowSettings(**wrong)


# ---------------------------------------------------------------------------- which engine
class Oracle:
    """Knows the objects of every frame, or takes all for one."""

    key = "oracle"

    def __init__(self, *, knows: bool) -> None:
        self.knows = knows
        self.taught: list[int] = []

    def fit(self, shots: tuple[NumberedShot, ...], radius: float) -> "Oracle":
        self.taught.append(sum(int(each.ids.max()) for each in shots))
        return self

    def at(self, frame: Frame, ys: np.ndarray, xs: np.ndarray) -> Embedded:
        ids = np.where(bars()[1][ys, xs] > 0, bars()[1][ys, xs], 99)
        return known(ids if self.knows else np.ones_like(ids), np.ones(ids.shape, bool))


def bars() -> tuple[np.ndarray, Instances]:
    """Long bars side by side: no watershed of their outline tells where one ends."""
    ids = np.zeros((60, 60), np.int32)
    for number in range(8):
        ids[10:50, 6 + 6 * number : 12 + 6 * number] = number + 1
    return np.where(ids > 0, 200, 20).astype(np.uint8), ids


def support() -> SupportSet:
    image, ids = bars()
    return SupportSet(Shot.of_objects(Frame(name, image + np.uint8(i)), ids) for i, name in enumerate("ab"))


def test_the_embedding_is_taken_where_it_is_clearly_better_on_shots_that_were_left_out() -> None:
    oracle = Oracle(knows=True)
    concept = InstanceSegmenter(BrightnessSegmenter(), BrightnessSegmenter(), embedding=oracle).learn(support())
    assert isinstance(concept.chosen.settings, GrowSettings) and concept.chosen.f1 == 1
    assert oracle.taught == [8, 8, 16]  # each without the other, then both
    proposal = concept.propose(Frame("q", bars()[0] + np.uint8(2)))
    assert proposal.instances is not None and proposal.instances.max() == 8


def test_the_watershed_stays_where_the_embedding_is_no_better() -> None:
    oracle = Oracle(knows=False)
    segmenter = InstanceSegmenter(BrightnessSegmenter(), BrightnessSegmenter(), embedding=oracle)
    concept = segmenter.learn(support())
    assert isinstance(concept.chosen.settings, SplitSettings) and concept.embedder is None
    assert oracle.taught == [8, 8]


def test_an_engine_can_be_asked_for() -> None:
    brightness = BrightnessSegmenter()
    asked = InstanceSegmenter(brightness, brightness, embedding=Oracle(knows=False), engine="dml").learn(support())
    assert isinstance(asked.chosen.settings, GrowSettings)
    oracle = Oracle(knows=True)
    asked = InstanceSegmenter(brightness, brightness, embedding=oracle, engine="watershed").learn(support())
    assert isinstance(asked.chosen.settings, SplitSettings) and not oracle.taught
    with pytest.raises(SettingsError, match="no trained embedding"):
        InstanceSegmenter(brightness, brightness, engine="dml")
    with pytest.raises(SettingsError, match="no engine 'magic'"):
        InstanceSegmenter(brightness, brightness, engine="magic")  # type: ignore[arg-type]


def test_doubt_is_for_the_usual_one() -> None:
    usual = Chosen(SplitSettings(), 5.0, 0.5, 1.5)
    for merit, wins in ((1.4, False), (1.52, False), (1.7, True), (None, False)):
        other = Chosen(GrowSettings(), 5.0, 0.6, merit)
        assert (better(usual, other) is other) == wins
    assert better(Chosen(SplitSettings(), 5.0), Chosen(GrowSettings(), 5.0, 0.9, 2.9)).f1 is None


def test_without_an_object_to_try_on_it_stays_with_what_is_usual() -> None:
    assert choose_growth([], 5.0) == Chosen(GrowSettings(), 5.0)
