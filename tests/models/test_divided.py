"""A large frame in parts: the same labels and the same score as in one piece, whoever does which part."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from napari_fewshot import Frame, Shot, SupportSet, load_segmenter
from napari_fewshot.models import answers
from napari_fewshot.models.feature_segmenter import FeatureConcept, FeatureSegmenter
from napari_fewshot.segmenter import Divides, Region
from tests.models.test_tiling import Counting, texture

METHODS = ("auto", "panet", "pl", "cwt")  # the last two learn from the image that they are asked about


def learnt(method: str, backbone: str = "auto") -> FeatureConcept:
    segmenter = load_segmenter(method, backbone=backbone, device="cpu")
    assert isinstance(segmenter, FeatureSegmenter)
    image = texture(96, 96, seed=3)
    concept = segmenter.learn(SupportSet([Shot(Frame("a", image), (image > 128).astype(np.int32))]))
    segmenter.extractor.tile_values = 1  # tiles as small as they get
    return concept


@pytest.mark.parametrize("method", METHODS)
def test_parts_in_any_order_and_by_several_give_what_one_piece_gives(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "LEAST_TILES", 4)
    concept = learnt(method)
    assert isinstance(concept, Divides)
    frame = Frame("q", texture(300, 700))
    whole = concept.propose(frame)
    parts = concept.parts(frame)
    assert len(parts) > 3
    several = [concept.divide(frame), concept.divide(frame)]
    made = {part: several[n % 2].propose(part) for n, part in reversed(list(enumerate(parts)))}
    labels = np.full(frame.size, -1, np.int32)
    for part, proposal in made.items():
        assert (labels[part.index] == -1).all()
        labels[part.index] = proposal.labels
    np.testing.assert_array_equal(labels, whole.labels)
    assert concept.score([each for part in parts for each in made[part].evidence]) == whole.score
    assert 0.02 < (labels == 1).mean() < 0.98


def test_parts_of_other_tiles_show_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    concept = learnt("auto")
    monkeypatch.setattr("napari_fewshot.models.extractor._STATISTICS_TILES", 1000)
    frame = Frame("q", texture(300, 700))
    divided = concept.divide(frame)
    concept.extractor.tile_values = 1 << 22
    whole = concept.propose(frame)
    concept.extractor.tile_values = 1
    columns = [0, 333, 500, 700]  # in the middle of tiles
    labels = [divided.propose(Region((0, 300), (a, b))).labels for a, b in pairwise(columns)]
    assert (np.concatenate(labels, 1) == whole.labels).mean() > 0.999


def test_frames_are_divided_without_being_read_and_only_large_ones() -> None:
    concept = learnt("panet", "scale-space")
    lazy = Counting(np.zeros((16, 16), np.uint8))
    lazy.shape = (1100, 1100)
    parts = concept.parts(Frame("large", lazy))
    assert len(parts) > 9 and lazy.read == 0
    covered = np.zeros(lazy.shape, int)
    for part in parts:
        covered[part.index] += 1
    assert (covered == 1).all()
    assert concept.parts(Frame("small", texture(300, 300))) == ()


def test_an_empty_image_in_parts_is_sure_to_be_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "LEAST_TILES", 4)
    concept = learnt("panet", "scale-space")
    frame = Frame("empty", np.full((300, 700), 9, np.uint8))
    whole = concept.propose(frame)
    made = [concept.divide(frame).propose(part) for part in concept.parts(frame)]
    assert not any(each.labels.any() for each in made)
    assert {each.note for each in made} == {whole.note}
    assert concept.score([piece for each in made for piece in each.evidence]) == whole.score == 1


def test_a_part_is_told_of_tile_by_tile_and_can_be_given_up() -> None:
    concept = learnt("panet", "scale-space")
    frame = Frame("q", texture(300, 700))
    told: list[tuple[int, int]] = []
    part = Region((0, 128), (0, 384))
    concept.divide(frame).propose(part, progress=lambda done, total: told.append((done, total)))
    assert told and all(0 <= done < total for done, total in told)

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    divided = concept.divide(frame)
    give_up: Callable[[int, int], None] = stop
    with pytest.raises(KeyboardInterrupt):
        divided.propose(part, progress=give_up)
    np.testing.assert_array_equal(divided.propose(part).labels, concept.propose(frame).labels[part.index])
