"""Episodes: drawn by seed, judged on what the segmenter may not see, and gone on with after a kill."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_fewshot.errors import ImageError, SettingsError, SupportError
from napari_fewshot.evaluation.episodes import Outcome, Protocol, Tally, draw, evaluate, journal_settings
from napari_fewshot.evaluation.pools import Pool
from napari_fewshot.frames import Frame
from napari_fewshot.io.journal import Journal
from napari_fewshot.segmenter import TileProgress
from napari_fewshot.support import SupportSet
from tests.evaluation.made_up import PhotographConcept, PhotographSegmenter, made_pool
from tests.evaluation.test_metrics import slow_scores


def plain(outcomes: list[Outcome]) -> list[Outcome]:
    """Outcomes without what a clock said."""
    return [replace(outcome, features=0.0, method=0.0) for outcome in outcomes]


def test_episodes_depend_on_seed_and_number_alone() -> None:
    pool = made_pool()
    protocol = Protocol(shots=2, episodes=30, seed=3)
    episodes = [draw(pool, protocol, number) for number in range(30)]
    assert episodes == [draw(pool, protocol, number) for number in range(30)]
    assert draw(pool, replace(protocol, episodes=1000), 7) == episodes[7]
    assert episodes != [draw(pool, replace(protocol, seed=4), number) for number in range(30)]
    assert {episode.class_ids for episode in episodes} == {(1,), (2,), (3,)}
    assert {episode.query for episode in episodes if episode.class_ids == (1,)} == set(pool.members[1])


@pytest.mark.parametrize("ways", [1, 2])
def test_shots_and_query_of_an_episode_all_differ(ways: int) -> None:
    pool = made_pool(images=6)
    shared = {c: (*names, "shared-0", "shared-1") for c, names in pool.members.items()}
    pool = replace(pool, members=shared)  # images that show all classes
    for number in range(60):
        episode = draw(pool, Protocol(shots=3, ways=ways), number)
        support = [name for names in episode.support for name in names]
        assert len({episode.query, *support}) == 1 + 3 * ways
        assert len(set(episode.class_ids)) == ways
        for class_id, names in zip(episode.class_ids, episode.support, strict=True):
            assert set(names) <= set(pool.members[class_id])
        assert any(episode.query in pool.members[class_id] for class_id in episode.class_ids)


def test_too_few_images_are_said_so_and_classes_with_fewer_left_out() -> None:
    pool = made_pool(images=3)
    with pytest.raises(SettingsError, match=r"made up, fold 0: 0 of its 3 classes .* 6 images .* \(at most 3\)"):
        draw(pool, Protocol(shots=5), 0)
    fewer = replace(pool, members={**pool.members, 2: pool.members[2][:2]})
    assert {draw(fewer, Protocol(shots=2), number).class_ids for number in range(20)} == {(1,), (3,)}
    with pytest.raises(SettingsError, match="1 or more"):
        Protocol(shots=0)
    with pytest.raises(SettingsError, match="16 or more"):
        Protocol(size=8)


@pytest.mark.parametrize(("ways", "size"), [(1, None), (2, None), (1, 32)])
def test_a_run_comes_to_what_a_loop_over_all_pixels_finds(ways: int, size: int | None) -> None:
    pool, protocol = made_pool(), Protocol(shots=2, ways=ways, episodes=8, size=size)
    segmenter = PhotographSegmenter()
    total, queries = Tally(), []
    for outcome in evaluate(segmenter, pool, protocol):
        total.add(outcome)
        support = segmenter.asked[-1]
        assert all(shot.labels.shape == ((size, size) if size else (40, 56)) for shot in support)
        # again, by hand
        episode = outcome.episode
        image, truth = pool.image(episode.query), pool.labels(episode.query, episode.class_ids)
        if size:
            rows, columns = (((np.arange(size) + 0.5) * n / size).astype(int) for n in truth.shape)
            truth = truth[rows[:, None], columns]
            image = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
        proposed = segmenter.learn(support).propose(Frame("query", image)).labels
        own = np.zeros(256, np.int32)
        own[255] = 255
        own[1 : ways + 1] = episode.class_ids
        queries.append((own[proposed], own[truth], episode.class_ids))
    class_iou, miou, fb_iou, dice = slow_scores(queries)
    scores = total.summary().scores
    assert scores.class_iou == pytest.approx(class_iou)
    assert (scores.miou, scores.fb_iou, scores.dice) == pytest.approx((miou, fb_iou, dice))
    assert 0.05 < miou < 1 and total.summary().episodes == 8


def test_of_another_class_of_the_episode_a_shot_says_nothing() -> None:
    pool, segmenter = made_pool(), PhotographSegmenter()
    (outcome,) = evaluate(segmenter, pool, Protocol(ways=2, episodes=1))
    for position, shot in enumerate(segmenter.asked[0], start=1):
        assert shot.class_ids == (position,)
        whole = pool.labels(str(shot.key), outcome.episode.class_ids)
        assert (shot.labels[(whole != position) & (whole != 0)] == 255).all()
        assert (shot.labels[whole == position] == position).all()
    assert [c.name for c in segmenter.asked[0].classes] == [f"class {c}" for c in outcome.episode.class_ids]


def test_images_are_read_when_their_episode_is_due() -> None:
    pool = made_pool()
    read: list[str] = []

    def image(name: str) -> np.ndarray:
        read.append(name)
        return pool.image(name)

    running = evaluate(PhotographSegmenter(), replace(pool, image=image), Protocol(shots=2))
    assert read == []
    first = next(running)
    assert sorted(read) == sorted([*first.episode.support[0], first.episode.query])


class Refuses(PhotographSegmenter):
    """Cannot learn anything."""

    def learn(self, support: SupportSet, *, progress: TileProgress | None = None) -> PhotographConcept:
        raise SupportError("nothing to learn from")


class RefusesImages(PhotographSegmenter):
    def learn(self, support: SupportSet, *, progress: TileProgress | None = None) -> PhotographConcept:
        raise ImageError("too dark")


@pytest.mark.parametrize("kind", [Refuses, RefusesImages])
def test_where_nothing_is_proposed_everything_is_background(kind: type[PhotographSegmenter]) -> None:
    total = Tally()
    for outcome in evaluate(kind(), made_pool(), Protocol(episodes=3)):
        assert outcome.failure in ("nothing to learn from", "too dark")
        total.add(outcome)
    summary = total.summary()
    assert (summary.episodes, summary.failures, summary.scores.miou) == (3, 3, 0.0)
    assert summary.scores.fb_iou is not None and 0.2 < summary.scores.fb_iou < 0.5


def test_a_mask_of_another_size_than_its_image_is_an_error_of_the_data() -> None:
    pool = made_pool()
    broken = replace(pool, image=lambda name: np.zeros((40, 50, 3), np.uint8))
    with pytest.raises(SettingsError, match="is 40 x 50 px but its mask 40 x 56"):
        next(evaluate(PhotographSegmenter(), broken))


# ---------------------------------------------------------------- going on


def journal(file: Path, pool: Pool, protocol: Protocol) -> Journal:
    return Journal(file, journal_settings(PhotographSegmenter(), pool, protocol))


def test_what_is_done_is_not_done_again_and_more_can_follow(tmp_path: Path) -> None:
    pool, protocol = made_pool(), Protocol(shots=2, episodes=6)
    whole = list(evaluate(PhotographSegmenter(), pool, protocol))
    file = tmp_path / "made" / "run.jsonl"
    short = replace(protocol, episodes=4)
    list(evaluate(PhotographSegmenter(), pool, short, journal(file, pool, short)))
    second = PhotographSegmenter()
    gone_on = list(evaluate(second, pool, protocol, journal(file, pool, protocol)))
    assert len(second.asked) == 2
    assert plain(gone_on) == plain(whole)
    assert len(file.read_text().splitlines()) == 1 + 6
    third = PhotographSegmenter()
    assert plain(list(evaluate(third, pool, protocol, journal(file, pool, protocol)))) == plain(whole)
    assert third.asked == []


KILLED = """
import os, sys
from pathlib import Path
from tests.evaluation.made_up import PhotographSegmenter, made_pool
from napari_fewshot.evaluation.episodes import Protocol, evaluate
from tests.evaluation.test_episodes import journal

class Killed(PhotographSegmenter):
    def learn(self, support, *, progress=None):
        if len(self.asked) == 3:
            os._exit(9)  # nothing is flushed, nothing is tidied up
        return super().learn(support)

pool, protocol = made_pool(), Protocol(shots=2, episodes=6)
list(evaluate(Killed(), pool, protocol, journal(Path(sys.argv[1]), pool, protocol)))
"""


def test_a_kill_costs_no_episode_that_was_done(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", KILLED, str(file)], cwd=root).returncode == 9
    assert len(file.read_text().splitlines()) == 1 + 3
    pool, protocol = made_pool(), Protocol(shots=2, episodes=6)
    segmenter = PhotographSegmenter()
    gone_on = list(evaluate(segmenter, pool, protocol, journal(file, pool, protocol)))
    assert len(segmenter.asked) == 3
    assert plain(gone_on) == plain(list(evaluate(PhotographSegmenter(), pool, protocol)))


@pytest.mark.parametrize("lost", [1, 7, 40])
def test_a_line_cut_short_is_done_again(tmp_path: Path, lost: int) -> None:
    pool, protocol = made_pool(), Protocol(episodes=4)
    file = tmp_path / "run.jsonl"
    whole = list(evaluate(PhotographSegmenter(), pool, protocol, journal(file, pool, protocol)))
    file.write_bytes(file.read_bytes()[:-lost])
    for expected in (0 if lost == 1 else 1, 0):  # only the line break is gone; and the second time nothing is missing
        segmenter = PhotographSegmenter()
        assert plain(list(evaluate(segmenter, pool, protocol, journal(file, pool, protocol)))) == plain(whole)
        assert len(segmenter.asked) == expected


def test_a_file_whose_first_line_was_cut_short_is_begun_anew(tmp_path: Path) -> None:
    pool, protocol = made_pool(), Protocol(episodes=1)
    file = tmp_path / "run.jsonl"
    file.write_text('{"settings": {"bench')
    assert journal(file, pool, protocol).records == {}
    assert json.loads(file.read_text())["settings"]["benchmark"] == "made up"


def test_other_settings_do_not_mix(tmp_path: Path) -> None:
    pool, protocol = made_pool(), Protocol()
    file = tmp_path / "run.jsonl"
    journal(file, pool, protocol)
    with pytest.raises(SettingsError, match=r"other settings \(shots: 1, now 5\); choose another folder"):
        journal(file, pool, replace(protocol, shots=5))
    with pytest.raises(SettingsError, match=r"\(images: \w+, now \w+\)"):
        journal(file, made_pool(images=4), protocol)
    file.write_text('{"a list of": "something else"}\n')
    with pytest.raises(SettingsError, match="no journal of this program"):
        journal(file, pool, protocol)
