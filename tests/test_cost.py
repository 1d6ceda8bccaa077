"""The estimate of a run before it starts."""

import pytest

from napari_fewshot.imaging.cost import WARM, Meter, Rates, estimate

GIB = 1 << 30
GUESS = Rates(fresh=0.5, known=0.1, feature_bytes=40.0)


def limits(memory: float = 1, disk: float = 10) -> dict[str, int]:
    return {"memory_limit": int(memory * GIB), "disk_limit": int(disk * GIB)}


def test_time_and_features_grow_with_the_pixels() -> None:
    few, many = (estimate([(500, 1000)] * n, [], GUESS, **limits(100, 100)) for n in (10, 40))
    assert few.seconds == pytest.approx(2.5) and many.seconds == pytest.approx(10)
    assert few.feature_bytes == 40 * 5_000_000 == few.disk_bytes
    assert many.frames == 40 and many.size == (500, 1000) and many.pixels == 20_000_000


def test_features_take_no_more_than_their_limits_and_memory_stays_flat() -> None:
    costs = [estimate([(2048, 2048)] * n, [], GUESS, **limits()) for n in (50, 200)]
    labels = 3 * 150 * 2048 * 2048
    assert costs[1].memory_bytes - costs[0].memory_bytes == labels
    assert [cost.disk_bytes for cost in costs] == [50 * 40 * 2048 * 2048, 10 * GIB]
    assert costs[1].feature_bytes == 200 * 40 * 2048 * 2048
    assert 1 * GIB < costs[1].memory_bytes - 200 * 3 * 2048 * 2048 < 2.5 * GIB


def test_a_huge_image_is_worked_on_in_tiles() -> None:
    one = estimate([(20_000, 20_000)], [], GUESS, **limits(0, 0))
    assert one.memory_bytes < 3.5 * GIB, "layers, one tile, and no more than a part of the probabilities"
    assert one.disk_bytes == 0


def test_known_images_cost_less_time_and_the_same_room() -> None:
    fresh, known = (estimate(a, b, GUESS, **limits()) for a, b in (([(1000, 1000)], []), ([], [(1000, 1000)])))
    assert known.seconds == pytest.approx(0.1)
    assert fresh.seconds == pytest.approx(0.5)
    assert known.memory_bytes == fresh.memory_bytes


def test_channels_count_where_they_cost() -> None:
    per_channel = Rates(0.5, 0.1, 40.0, per_channel=True)
    assert estimate([(100, 100, 3)], [], per_channel, **limits()).feature_bytes == 3 * 40 * 10_000
    assert estimate([(100, 100, 3)], [], GUESS, **limits()).feature_bytes == 40 * 10_000


def test_images_of_different_sizes_have_no_common_one_and_none_cost_nothing() -> None:
    assert estimate([(100, 100), (100, 200)], [], GUESS, **limits()).size is None
    none = estimate([], [], GUESS, **limits())
    assert (none.frames, none.seconds, none.memory_bytes) == (0, 0.0, 0)


def test_a_run_replaces_the_guess_by_what_it_took() -> None:
    meter = Meter(GUESS)
    meter.begin()
    for second in (100.0, 102.0, 104.0):  # loading took the first hundred
        meter.saw((1000, 1000), False, second)
    assert meter.rates.fresh == pytest.approx(2.0) and meter.rates.known == pytest.approx(2 * WARM)
    cost = estimate([(1000, 1000)] * 10, [], meter.rates, **limits())
    assert cost.seconds == pytest.approx(20.0) and not cost.is_rough
    assert estimate([], [(1000, 1000)], meter.rates, **limits()).is_rough, "nothing kept has been gone through yet"
    meter.begin()
    for second in (0.0, 0.5):
        meter.saw((1000, 1000), True, second)
    assert (meter.rates.fresh, meter.rates.known) == (pytest.approx(2.0), pytest.approx(0.5))
    assert not estimate([], [(1000, 1000)], meter.rates, **limits()).is_rough


def test_one_image_measures_nothing() -> None:
    meter = Meter(GUESS)
    meter.begin()
    meter.saw((1000, 1000), False, 7.0)
    assert meter.rates == GUESS
