"""Long work says how far it is, and stops within a tile when it is asked to, with nothing broken."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_fewshot import Frame, Shot, SupportSet, list_segmenters
from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.extractor import FeatureExtractor
from napari_fewshot.models.feature_segmenter import FeatureSegmenter
from napari_fewshot.models.loading import _factory
from napari_fewshot.models.methods.base import SupportFeatures
from napari_fewshot.models.progress import heed
from napari_fewshot.proposals import Proposal

TILES, SAMPLED = 20, 9
METHODS = {card.name: card.home for card in list_segmenters() if not card.needs_head}


class Enough(Exception):
    """Somebody gave up."""


class Blocks:
    """A backbone that sees little around it, so that small images have many tiles. Counts those it has seen."""

    key = "blocks"
    levels = (Level(1), Level(4))
    matching_strides = (4,)
    linear = False
    halo = 4

    def __init__(self) -> None:
        self.seen = 0
        self.on_tile: Callable[[], None] = lambda: None

    def to(self, device: str) -> "Blocks":
        return self

    def __call__(self, image: Tensor) -> dict[Level, Tensor]:
        self.seen += 1
        self.on_tile()
        coarse = F.avg_pool2d(image[None], 4)[0]
        return {Level(1): torch.cat([image, image**2]) - 0.5, Level(4): torch.cat([coarse, coarse**2]) - 0.5}


def segmenter(method: str = "panet") -> tuple[FeatureSegmenter, Blocks]:
    backbone = Blocks()
    head = _factory("methods", METHODS[method])(backbone)
    return FeatureSegmenter(FeatureExtractor(backbone, tile_values=1), head, "test"), backbone


def picture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random((4, 5)).repeat(32, 0).repeat(32, 1) * 200 + rng.random((128, 160)) * 50).astype(np.uint8)


def support(*seeds: int) -> SupportSet:
    return SupportSet([Shot(Frame(f"shot {s}", picture(s)), (picture(s) > 128).astype(np.int32)) for s in seeds])


def same(a: Proposal, b: Proposal) -> bool:
    return np.array_equal(a.probabilities, b.probabilities) and a.score == b.score


class Stopping:
    """A person who presses Stop while the backbone is busy with a certain tile."""

    def __init__(self, backbone: Blocks, tile: int) -> None:
        self._backbone, self._last, self.pressed = backbone, backbone.seen + tile, False
        backbone.on_tile = self._on_tile

    def _on_tile(self) -> None:
        self.pressed = self.pressed or self._backbone.seen == self._last

    def __call__(self, done: int, total: int) -> None:
        if self.pressed:
            raise Enough


QUERY = Frame("q", picture(9))


def test_proposing_tells_of_every_tile_and_of_those_for_the_statistics() -> None:
    s, _ = segmenter()
    concept, told = s.learn(support(1)), []
    concept.propose(QUERY, progress=lambda *at: told.append(at))
    assert {total for _, total in told} == {TILES + SAMPLED}
    assert sorted({done for done, _ in told}) == list(range(TILES + SAMPLED))
    assert told == sorted(told)


@pytest.mark.parametrize("method", METHODS)
def test_learning_tells_of_every_tile_however_often_it_is_gone_through(method: str) -> None:
    s, _ = segmenter(method)
    told: list[tuple[int, int]] = []
    s.learn(support(1, 2), progress=lambda *at: told.append(at))
    assert all(0 <= done < total for done, total in told)
    assert told[-1] == (2 * (TILES + SAMPLED) - 1, 2 * (TILES + SAMPLED))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_tiles_on_which_nothing_is_labelled_are_not_waited_for() -> None:
    s, _ = segmenter()
    labels = np.full((128, 160), 255, np.int32)
    labels[:20, :10], labels[:20, 10:20] = 0, 1
    totals = set()
    s.learn(SupportSet([Shot(QUERY, labels)]), progress=lambda done, total: totals.add(total))
    assert max(totals) == 1 + SAMPLED


def test_an_image_of_one_tile_is_told_of_as_well() -> None:
    s, _ = segmenter()
    s.extractor.tile_values = 1 << 22
    told: set[tuple[int, int]] = set()
    concept = s.learn(support(1), progress=lambda *at: told.add(at))
    concept.propose(QUERY, progress=lambda *at: told.add(at))
    assert told == {(0, 1)}


@pytest.mark.parametrize("tile", [1, 5, SAMPLED, SAMPLED + 1, TILES - 1])
def test_a_stop_while_proposing_takes_effect_after_the_tile_at_work(tile: int) -> None:
    s, backbone = segmenter()
    concept = s.learn(support(1))
    expected = segmenter()[0].learn(support(1)).propose(QUERY)
    before = backbone.seen
    with pytest.raises(Enough):
        concept.propose(QUERY, progress=Stopping(backbone, tile))
    assert backbone.seen == before + tile, "none after the stop"
    assert same(concept.propose(QUERY), expected)
    assert backbone.seen == before + TILES, "what was computed before the stop is not computed again"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tile", [1, SAMPLED + 2, TILES + 3])
def test_a_stop_while_learning_takes_effect_after_the_tile_at_work(method: str, tile: int) -> None:
    s, backbone = segmenter(method)
    fresh, _ = segmenter(method)
    first = s.learn(support(1))
    known, proposed = backbone.seen, first.propose(QUERY)
    before = backbone.seen
    with pytest.raises(Enough):
        s.learn(support(1, 2, 3), progress=Stopping(backbone, tile))
    assert backbone.seen == before + tile, "none after the stop"
    assert same(first.propose(QUERY), proposed), "what was learnt before is as it was"
    assert same(s.learn(support(1, 2, 3)).propose(QUERY), fresh.learn(support(1, 2, 3)).propose(QUERY))
    assert backbone.seen == known + 3 * TILES


def test_a_stop_is_heard_while_shots_that_are_known_are_opened_and_read() -> None:
    s, backbone = segmenter()
    s.learn(support(1, 2))
    again = FeatureSegmenter(s.extractor, s.method, "the same features")
    calls = []

    def give_up(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == 3:
            raise Enough

    before = backbone.seen
    with pytest.raises(Enough):
        again.learn(support(1, 2), progress=give_up)
    assert len(calls) == 3 and backbone.seen == before


def test_an_image_of_one_colour_can_be_given_up_as_well() -> None:
    s, _ = segmenter()
    concept, calls = s.learn(support(1)), []

    def give_up(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == 5:
            raise Enough

    with pytest.raises(Enough):
        concept.propose(Frame("flat", np.full((128, 160), 7)), progress=give_up)


def test_after_running_out_of_memory_tiles_are_counted_from_the_start() -> None:
    s, _ = segmenter()
    s.extractor.tile_values = 1 << 22
    concept = s.learn(support(1))
    real, told = Blocks.__call__, []

    def full(self: Blocks, image: Tensor) -> dict[Level, Tensor]:
        if s.extractor.tile_values > 1 << 18:
            raise torch.OutOfMemoryError("out of memory")
        s.extractor.tile_values = 1
        return real(self, image)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Blocks, "__call__", full)
        concept.propose(QUERY, progress=lambda *at: told.append(at))
    assert told.count((0, 1)) >= 5, "for every size that was tried"


def test_preparing_computes_one_tile_at_each_step() -> None:
    s, backbone = segmenter()
    seen = [backbone.seen for _ in s.prepare(QUERY)]
    assert seen == list(range(1, TILES + 1))
    concept = s.learn(support(1))
    before = backbone.seen
    concept.propose(QUERY)
    assert backbone.seen == before
    flat = [backbone.seen for _ in s.prepare(Frame("flat", np.full((128, 160), 7)))]
    assert flat == [before] * TILES


class Remembering:
    """A method that goes through all shots again whenever one is new, and works on for long after that."""

    name = "remembering"

    def fit(self, shots: Sequence[SupportFeatures], class_ids: tuple[int, ...]) -> tuple[SupportFeatures, ...]:
        for shot in shots:
            for _ in shot.parts():
                pass
        for _ in range(100):
            heed()
        return tuple(shots)

    def update(
        self,
        state: tuple[SupportFeatures, ...],
        added: Sequence[SupportFeatures],
        removed: Sequence[str],
        class_ids: tuple[int, ...],
    ) -> tuple[SupportFeatures, ...]:
        return self.fit([*(shot for shot in state if shot.digest not in removed), *added], class_ids)

    def predict(self, state: Any, query: FeaturePyramid) -> Tensor:
        return torch.full((2, *query.size), 0.5)


def test_shots_that_a_method_keeps_tell_whoever_asks_now() -> None:
    backbone = Blocks()
    s = FeatureSegmenter(FeatureExtractor(backbone, tile_values=1), Remembering(), "test")
    old: list[int] = []
    s.learn(support(1), progress=lambda done, total: old.append(done))
    heard = len(old)

    def now(done: int, total: int) -> None:
        told.append((done, total))

    told: list[tuple[int, int]] = []
    s.learn(support(1, 2), progress=now)
    assert len(old) == heard, "who asked before has nothing to do with it"
    assert len(told) > 2 * TILES + 100 and all(done < total for done, total in told)
    heard = len(told)
    s.learn(support(1, 2, 3))
    assert len(told) == heard, "nobody asks any more"
