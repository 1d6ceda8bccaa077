"""The loop: it learns, it goes on where it was stopped, and it writes down how it went."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from napari_fewshot.errors import SettingsError, WeightsError
from napari_fewshot.training.curves import draw_curve
from napari_fewshot.training.loop import CHECKPOINT, CURVE, Report, Schedule, Stopped, read_curve, steps_done, train

SCHEDULE = Schedule(steps=20, rate=0.05, warmup=3, average=0.8, save_every=5, report_every=4)


class Task(nn.Module):
    """Two losses of a tiny network: it has a hidden layer, batch normalisation and a head that is thrown away."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
            self.head = nn.Linear(8, 1)

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        given = self.head(self.net(batch))[:, 0]
        return {"first": (given - batch[:, 0]).square().mean(), "second": 0.1 * (given - batch.sum(1)).abs().mean()}


def batches(rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.normal(size=(16, 4)).astype(np.float32))


def begin(task: Task, folder: Path, schedule: Schedule = SCHEDULE, **options: object) -> Iterator[Report]:
    fabric = Fabric(accelerator="cpu", devices=1)
    return train(task, task.net, batches, schedule, folder, seed=1, fabric=fabric, workers=0, **options)


def learnt(folder: Path, schedule: Schedule = SCHEDULE) -> dict[str, Tensor]:
    task = Task()
    list(begin(task, folder, schedule))
    return task.net.state_dict()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_learning_decreases_the_loss(tmp_path: Path) -> None:
    reports = list(begin(Task(), tmp_path, Schedule(steps=200, rate=0.05, warmup=10, report_every=20)))
    assert reports[-1].losses["first"] < 0.4 * reports[0].losses["first"]
    assert [r.step for r in reports] == list(range(20, 201, 20))
    assert all(r.steps == 200 for r in reports) and reports[-1].seconds_left == 0


def test_a_stopped_run_goes_on_to_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    in_one_go = learnt(tmp_path / "one")
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls == 7

    with pytest.raises(Stopped, match="after step 7"):
        list(begin(Task(), tmp_path / "two", stop=stop))
    assert steps_done(tmp_path / "two") == 7
    assert same(learnt(tmp_path / "two"), in_one_go)


def test_a_killed_run_goes_on_from_its_last_checkpoint_to_the_same_weights(tmp_path: Path) -> None:
    reports = begin(Task(), tmp_path / "two")
    assert [next(reports).step for _ in range(2)] == [4, 8]
    reports.close()
    assert steps_done(tmp_path / "two") == 5
    assert same(learnt(tmp_path / "two"), learnt(tmp_path / "one"))


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    first = learnt(tmp_path)
    before = (tmp_path / CHECKPOINT).stat().st_mtime_ns
    task = Task()
    assert list(begin(task, tmp_path)) == []
    assert same(task.net.state_dict(), first)
    assert (tmp_path / CHECKPOINT).stat().st_mtime_ns == before


def test_another_seed_learns_other_weights(tmp_path: Path) -> None:
    task = Task()
    fabric = Fabric(accelerator="cpu", devices=1)
    list(train(task, task.net, batches, SCHEDULE, tmp_path / "two", seed=2, fabric=fabric, workers=0))
    assert not same(task.net.state_dict(), learnt(tmp_path / "one"))


def test_what_is_kept_is_the_average_of_the_last_steps(tmp_path: Path) -> None:
    task = Task()
    list(begin(task, tmp_path))
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    for name, value in task.net.state_dict().items():
        torch.testing.assert_close(value, state["average"][f"module.{name}"])
    assert not torch.equal(state["module"]["net.0.weight"], task.net.state_dict()["0.weight"])


def test_reports_tell_of_checkpoints(tmp_path: Path) -> None:
    assert [(r.step, r.saved) for r in begin(Task(), tmp_path)] == [
        (4, False), (8, True), (12, True), (16, True), (20, True),
    ]  # fmt: skip


def test_the_curve_tells_each_step_once_even_after_a_kill(tmp_path: Path) -> None:
    reports = begin(Task(), tmp_path)
    next(reports), next(reports)  # up to step 8, of which 5 are saved
    reports.close()
    with (tmp_path / CURVE).open("a") as file:
        file.write('{"step": 9, "fir')  # cut off
        file.write("\n")
    learnt(tmp_path)
    entries = read_curve(tmp_path)
    assert [e["step"] for e in entries] == [4, 8, 12, 16, 20]
    assert all(e["first"] > 0 and e["second"] > 0 for e in entries)
    assert len((tmp_path / CURVE).read_text().splitlines()) == 7


@pytest.mark.parametrize("falls", [True, False])
def test_the_curve_is_drawn(tmp_path: Path, falls: bool) -> None:
    assert draw_curve(tmp_path, "nothing yet") is None
    lines = [{"step": s, "seconds_left": 1, "first": 1 / s if falls else 1.0, "second": 2.0} for s in range(1, 40)]
    (tmp_path / CURVE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    picture = draw_curve(tmp_path, "toy")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_rate_rises_and_falls() -> None:
    schedule = Schedule(steps=100, warmup=10)
    factors = [schedule.factor(step) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and max(factors) == factors[9] == 1
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] == pytest.approx(0.01, abs=0.005)


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"save_every": 0}, {"report_every": 0}, {"rate": 0.0}, {"warmup": -1}, {"average": 1.0}]
)
def test_a_schedule_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(
        SettingsError, match=f"{next(iter(wrong))} is .* give|{next(iter(wrong))} {next(iter(wrong.values()))}"
    ):
        Schedule(**{"steps": 5, **wrong})


def test_a_checkpoint_that_cannot_be_used_is_told_of(tmp_path: Path) -> None:
    learnt(tmp_path)

    class Wider(Task):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(8, 2)

    with pytest.raises(WeightsError, match="is of another network"):
        list(begin(Wider(), tmp_path))
    (tmp_path / CHECKPOINT).write_bytes(b"cut off")
    with pytest.raises(WeightsError, match="delete it to begin this stage anew"):
        steps_done(tmp_path)
