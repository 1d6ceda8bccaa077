"""What slices say together, on stacks whose answer is known."""

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_fewshot.errors import ImageError
from napari_fewshot.frames import Frame, FrameKey
from napari_fewshot.propagation import PropagationSettings, propagate
from napari_fewshot.proposals import Proposal
from napari_fewshot.segmenter import Concept, TileProgress
from napari_fewshot.session import Session, open_session
from napari_fewshot.support import Shot, SupportSet
from napari_fewshot.volumes.concept import Consistency, Surroundings, VolumeConcept
from napari_fewshot.volumes.consistency import Weights
from napari_fewshot.volumes.settings import VolumeSettings
from napari_fewshot.volumes.tuning import learn_consistency
from napari_fewshot.volumes.views import shots_across
from tests.fakes import BrightnessSegmenter

SIDE, SLICES = 32, 9
ALONG_Z = VolumeSettings("z")


@dataclass(frozen=True)
class Tube:
    """A bright tube that runs obliquely through a stack: what is in it, and a noisy picture of it."""

    images: np.ndarray
    labels: np.ndarray
    frames: tuple[Frame, ...]

    @classmethod
    def noisy(cls, noise: float = 45.0, slices: int = SLICES, seed: int = 0) -> "Tube":
        rng = np.random.default_rng(seed)
        z, y, x = np.ogrid[:slices, :SIDE, :SIDE]
        labels = (np.hypot(y - 12 - 0.8 * z, x - 16) < 7).astype(np.int32)
        images = np.clip(70 + 90 * labels + rng.normal(0, noise, labels.shape), 0, 255).astype(np.uint8)
        return cls(images, labels, Frame.of_stack("tube", images, (1.0, 1.0), step=4.0))

    def shots(self, *places: int) -> SupportSet:
        return SupportSet([Shot(self.frames[z], self.labels[z]) for z in places])

    def iou(self, proposals: "dict[FrameKey, np.ndarray]") -> float:
        both = sum(int(((p == 1) & (self.labels[key[1]] == 1)).sum()) for key, p in proposals.items())
        union = sum(int(((p == 1) | (self.labels[key[1]] == 1)).sum()) for key, p in proposals.items())
        return both / union


def _labels(tube: Tube, support: SupportSet, volume: VolumeSettings) -> dict[FrameKey, np.ndarray]:
    made = propagate(BrightnessSegmenter(), support, tube.frames, PropagationSettings(volume=volume))
    return {proposal.key: proposal.labels for proposal in made}


@dataclass
class Counting:
    """A concept that takes note of what it is asked."""

    inner: Concept
    asked: list[FrameKey] = field(default_factory=list)

    @property
    def support(self) -> SupportSet:
        return self.inner.support

    def propose(self, frame: Frame, *, progress: TileProgress | None = None) -> Proposal:
        self.asked.append(frame.key)
        return self.inner.propose(frame, progress=progress)


def _concept(tube: Tube, volume: VolumeSettings, weights: Weights, *places: int) -> tuple[VolumeConcept, Counting]:
    concept = Counting(BrightnessSegmenter().learn(tube.shots(*places)))
    return Consistency(concept, volume, weights).around(Surroundings(tube.frames)), concept


@pytest.mark.parametrize("places", [(4,), (1, 4, 7)])
def test_neighbours_make_proposals_better_and_flicker_less(places):
    tube = Tube.noisy()
    support = tube.shots(*places)
    alone, together = (_labels(tube, support, volume) for volume in (VolumeSettings(), ALONG_Z))
    assert tube.iou(together) > tube.iou(alone) + 0.1
    keys = sorted(alone)
    still = {a: tube.labels[a[1]] == tube.labels[b[1]] for a, b in pairwise(keys) if b[1] == a[1] + 1}

    def flicker(made):
        return sum(int(((made[a] != made[("tube", a[1] + 1)]) & same).sum()) for a, same in still.items())

    assert flicker(together) < 0.7 * flicker(alone)


def test_no_weight_means_what_each_slice_says_by_itself():
    tube = Tube.noisy()
    off, concept = _concept(tube, ALONG_Z, Weights(strength=0.0), 4)
    proposal = off.propose(tube.frames[2])
    expected = concept.inner.propose(tube.frames[2])
    np.testing.assert_array_equal(proposal.probabilities, expected.probabilities)
    np.testing.assert_array_equal(proposal.labels, expected.labels)


def test_nothing_is_gained_where_slices_have_nothing_to_do_with_each_other():
    rng = np.random.default_rng(1)
    labels = np.zeros((7, SIDE, SIDE), np.int32)
    for z, (y, x) in enumerate(rng.integers(0, SIDE - 10, (7, 2))):
        labels[z, y : y + 10, x : x + 10] = 1
    images = (60 + 120 * labels + rng.normal(0, 5, labels.shape)).astype(np.uint8)
    tube = Tube(images, labels, Frame.of_stack("odd", images))
    support = tube.shots(1, 3, 5)
    concept = BrightnessSegmenter().learn(support)
    assert learn_consistency(BrightnessSegmenter(), concept, tube.frames, ALONG_Z).weights.strength == 0


def test_proposals_are_probabilities_and_what_was_painted_stands():
    tube = Tube.noisy()
    painted = np.full((SIDE, SIDE), 255, np.int32)
    painted[:4], painted[14:18, 14:18] = 0, 1
    support = SupportSet([Shot(tube.frames[3], painted), Shot(tube.frames[6], tube.labels[6])])
    made = list(propagate(BrightnessSegmenter(), support, tube.frames, PropagationSettings(volume=ALONG_Z)))
    assert {p.key for p in made} == {frame.key for frame in tube.frames} - {("tube", 6)}
    for proposal in made:
        np.testing.assert_allclose(proposal.probabilities.sum(axis=0), 1, atol=1e-5)
        np.testing.assert_allclose(proposal.confidence, proposal.probabilities.max(axis=0), atol=1e-6)
    (partly,) = (p for p in made if p.key == ("tube", 3))
    assert (partly.labels[painted != 255] == painted[painted != 255]).all()


@settings(max_examples=6, deadline=None)
@given(
    order=st.permutations(range(SLICES)),
    strength=st.sampled_from([0.0, 0.5, 2.0]),
    fill_gaps=st.integers(0, 2),
    min_extent=st.integers(1, 3),
)
def test_a_window_that_slides_gives_what_one_large_window_gives(order, strength, fill_gaps, min_extent):
    tube = Tube.noisy(seed=3)
    volume = replace(ALONG_Z, fill_gaps=fill_gaps, min_extent=min_extent, interpolate=True)
    weights = Weights(strength=strength)
    whole, _ = _concept(tube, volume, weights, 2, 6)
    for memo in (whole._alone, whole._together, whole._gapless):
        memo._room = 10_000
    expected = {z: whole.propose(tube.frames[z]) for z in range(SLICES)}
    sliding, _ = _concept(tube, volume, weights, 2, 6)
    for z in order:
        made = sliding.propose(tube.frames[z])
        np.testing.assert_array_equal(made.probabilities, expected[z].probabilities)
        np.testing.assert_array_equal(made.labels, expected[z].labels)


def test_slices_are_looked_at_once_on_the_way_up_and_down_and_few_are_kept():
    tube = Tube.noisy(slices=24)
    concept, asked = _concept(tube, ALONG_Z, Weights(), 12)
    for away in range(1, 12):
        concept.propose(tube.frames[12 + away])
        concept.propose(tube.frames[12 - away])
    assert len(asked.asked) == len(set(asked.asked)) == 23
    assert len(concept._alone) <= 12


def test_the_unit_of_the_spacing_does_not_matter_and_far_slices_count_less():
    tube = Tube.noisy()

    def middle(pixel: float, step: float) -> Proposal:
        frames = Frame.of_stack("tube", tube.images, (pixel, pixel), step=step)
        concept = BrightnessSegmenter().learn(SupportSet([Shot(frames[0], tube.labels[0])]))
        return Consistency(concept, ALONG_Z, Weights()).around(Surroundings(frames)).propose(frames[4])

    near, same, far = middle(0.5, 2.0), middle(500.0, 2000.0), middle(0.5, 20.0)
    np.testing.assert_array_equal(near.probabilities, same.probabilities)
    alone = BrightnessSegmenter().learn(tube.shots(0)).propose(tube.frames[4]).probabilities
    assert np.abs(far.probabilities - alone).mean() < np.abs(near.probabilities - alone).mean()


def test_a_slice_that_cannot_be_used_harms_no_other():
    tube = Tube.noisy()

    def broken() -> np.ndarray:
        raise ImageError("'tube [5]' is damaged")

    frames = [replace(frame, image=broken) if frame.key == ("tube", 5) else frame for frame in tube.frames]
    failures = []
    made = propagate(
        BrightnessSegmenter(), tube.shots(2), frames, PropagationSettings(volume=ALONG_Z), on_failure=failures.append
    )
    assert {p.key[1] for p in made} == {0, 1, 3, 4, 6, 7, 8}
    assert [failure.key for failure in failures] == [("tube", 5)]


def test_the_range_is_kept_and_nothing_outside_of_it_is_looked_at():
    tube = Tube.noisy()
    concept, asked = _concept(tube, VolumeSettings("z", first=3, last=5), Weights(), 4)
    concept.propose(tube.frames[4])
    assert set(asked.asked) <= {("tube", 3), ("tube", 4), ("tube", 5)}
    assert set(_labels(tube, tube.shots(4), VolumeSettings("z", first=3, last=5))) == {("tube", 3), ("tube", 5)}


def test_objects_follow_the_labels_that_slices_agree_on():
    tube = Tube.noisy()
    concept = BrightnessSegmenter().learn(tube.shots(4))

    class Numbered(Counting):
        def propose(self, frame: Frame, *, progress: TileProgress | None = None) -> Proposal:
            proposal = super().propose(frame, progress=progress)
            return replace(proposal, instances=5 * proposal.labels)

    together = Consistency(Numbered(concept), ALONG_Z, Weights()).around(Surroundings(tube.frames))
    proposal = together.propose(tube.frames[2])
    assert (proposal.labels != concept.propose(tube.frames[2]).labels).any()
    np.testing.assert_array_equal(proposal.instances > 0, proposal.labels > 0)


def test_shapes_in_between_painted_slices_help_where_the_image_says_little():
    tube = Tube.noisy(noise=150.0)
    support = tube.shots(0, 4, 8)
    plain, shaped = (_labels(tube, support, replace(ALONG_Z, interpolate=on)) for on in (False, True))
    assert tube.iou(shaped) > tube.iou(plain) + 0.05


def test_a_movie_is_consistent_along_time_and_its_slices_are_left_alone():
    tube = Tube.noisy()
    movie = np.stack([tube.images, tube.images[::-1]], axis=1)  # (T, Z, H, W)
    frames = [Frame(("movie", t, z), movie[t, z]) for t in range(SLICES) for z in range(2)]
    support = SupportSet([Shot(frames[8], tube.labels[4])])
    made = propagate(BrightnessSegmenter(), support, frames, PropagationSettings(volume=VolumeSettings("t")))
    expected = propagate(
        BrightnessSegmenter(),
        SupportSet([Shot(Frame(("movie", 4, 0), movie[4, 0], stack=None), tube.labels[4])]),
        [frame for frame in frames if frame.key[2] == 0],
        PropagationSettings(volume=VolumeSettings("t")),
    )
    of_first = {p.key: p.labels for p in made if p.key[2] == 0}
    for proposal in expected:
        np.testing.assert_array_equal(of_first[proposal.key], proposal.labels)


def test_a_session_proposes_consistently_around_what_is_decided_and_keeps_its_settings(tmp_path):
    tube = Tube.noisy()
    volume = replace(ALONG_Z, min_extent=2, fill_gaps=1, interpolate=True, last=7)
    session = Session(BrightnessSegmenter(), propagation=PropagationSettings(volume=volume))
    session.add_frames(tube.frames)
    session.teach(Shot(tube.frames[4], tube.labels[4]))
    first = {p.key: p.labels for p in session.propose(("tube", 5))}
    assert next(iter(first)) == ("tube", 5)
    assert ("tube", 8) not in first
    session.accept(("tube", 3), tube.labels[3])
    second = {p.key: p.labels for p in session.propose()}
    assert (second[("tube", 2)] != first[("tube", 2)]).any()  # the slice beside it is known now
    assert ("tube", 3) not in second
    session.save(tmp_path / "kept")
    assert open_session(tmp_path / "kept", BrightnessSegmenter()).propagation.volume == volume


def test_a_cut_through_the_stack_is_taught_and_taken_back_in_one_step():
    tube = Tube.noisy(noise=20.0)
    session = Session(BrightnessSegmenter(), propagation=PropagationSettings(volume=ALONG_Z))
    session.add_frames(tube.frames)
    session.teach_many(shots_across(tube.frames, "y", 16, tube.labels[:, 16], session.support))
    assert len(session.support) == SLICES
    made = {p.key: p.labels for p in session.propose()}
    assert tube.iou(made) > 0.85
    assert all((made[("tube", z)][16] == tube.labels[z, 16]).all() for z in range(SLICES))
    session.undo()
    assert not session.support.shots
