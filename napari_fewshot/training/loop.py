"""The training loop: any module that turns a batch into losses, on any device or several, resumable after a kill."""

import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from napari_fewshot.errors import SettingsError, WeightsError
from napari_fewshot.io.atomic import replacing

Batches = Callable[[np.random.Generator], Any]
"""Draws one batch: the same for the same generator."""

CHECKPOINT: Final = "checkpoint.pt"
CURVE: Final = "curve.jsonl"


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn.

    Attributes
    ----------
    steps
        Batches in all.
    rate
        Highest learning rate of AdamW; it rises for ``warmup`` steps, then falls to 1 % along a cosine.
    warmup
        Steps.
    decay
        Weight decay.
    average
        Decay of the moving average of all weights that is kept in the end.
    save_every
        Steps between checkpoints.
    report_every
        Steps between reports.
    horizon
        Steps after which the rate would have fallen; 0: ``steps``. A stage that another goes on from may leave off
        before, while its rate is still high.

    Raises
    ------
    SettingsError
        If a number makes no sense.
    """

    steps: int
    rate: float = 2e-3
    warmup: int = 200
    decay: float = 0.02
    average: float = 0.999
    save_every: int = 250
    report_every: int = 50
    horizon: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "save_every", "report_every"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; give 1 or more")
        if self.rate <= 0 or self.decay < 0 or self.warmup < 0:
            raise SettingsError(
                f"rate is {self.rate}, decay {self.decay}, warmup {self.warmup}; "
                "give a rate above 0, and 0 or more for the others"
            )
        if 0 != self.horizon < self.steps:
            raise SettingsError(f"horizon is {self.horizon}; give 0, or no fewer than the {self.steps} steps")
        if not 0 <= self.average < 1:
            raise SettingsError(f"average is {self.average}; give a number from 0 (no averaging) to below 1")

    def factor(self, step: int) -> float:
        """Share of the highest rate at a step."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        along = (step - self.warmup) / max(1, (self.horizon or self.steps) - self.warmup)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, along)))


@dataclass(frozen=True)
class Report:
    """Where training stands.

    Attributes
    ----------
    step, steps
        Done, and in all.
    losses
        By name, mean since the last report.
    seconds_left
        At the present pace.
    saved
        Whether a checkpoint was written since the last report.
    """

    step: int
    steps: int
    losses: dict[str, float]
    seconds_left: float
    saved: bool


class Stopped(Exception):
    """Training was asked to stop: ``step`` steps are done and saved, the same call goes on from there."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step


class _Draws(IterableDataset[Any]):
    """Batches ``first``, ``first + 1`` ...: each is drawn from its own seed, whoever draws it."""

    def __init__(self, batches: Batches, seed: int, first: int, last: int, rank: int) -> None:
        super().__init__()
        self._batches, self._seed, self._first, self._last, self._rank = batches, seed, first, last, rank

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        offset, stride = (0, 1) if info is None else (info.id, info.num_workers)
        for step in range(self._first + offset, self._last, stride):
            yield self._batches(np.random.default_rng((self._seed, self._rank, step)))


def _let_parent_decide(_: int) -> None:
    """Keep Ctrl+C, which a shell sends to all processes, from ending one that draws batches."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def train(
    module: nn.Module,
    kept: nn.Module,
    batches: Batches,
    schedule: Schedule,
    folder: Path,
    *,
    seed: int = 0,
    fabric: Fabric | None = None,
    workers: int = 1,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Report]:
    """Train, reporting now and then; go on where an earlier call in the same folder stopped.

    On a CPU the weights are the same, bit for bit, with and without stops in between.

    Parameters
    ----------
    module
        From a batch to named losses, which are added up.
    kept
        The part of it that training is for; at the end it holds the moving average of its weights.
    batches
        Draws a batch.
    schedule
        How long and how fast.
    folder
        Where the checkpoint and the learning curve are kept.
    seed
        Of the batches.
    fabric
        Devices, precision and strategy, launched; by default what there is.
    workers
        Processes that draw batches ahead; with 0 they are drawn in between.
    stop
        Asked after every step whether to leave off.

    Raises
    ------
    Stopped
        If asked to stop before the end.
    """
    fabric = Fabric() if fabric is None else fabric
    folder.mkdir(parents=True, exist_ok=True)
    average = AveragedModel(kept, multi_avg_fn=get_ema_multi_avg_fn(schedule.average), use_buffers=True)
    optimiser = torch.optim.AdamW(_groups(module, schedule.decay), lr=schedule.rate)
    wrapped, wrapped_optimiser = fabric.setup(module, optimiser)
    average.to(fabric.device)
    first = _resume(folder, module, average, optimiser)
    means, saved, began = _Means(), False, time.perf_counter()
    wrapped.train()
    for step, batch in enumerate(_loader(batches, seed, first, schedule.steps, fabric.global_rank, workers), first):
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate * schedule.factor(step)
        losses: dict[str, Tensor] = wrapped(fabric.to_device(batch))
        fabric.backward(torch.stack(list(losses.values())).sum())
        fabric.clip_gradients(wrapped, wrapped_optimiser, max_norm=1.0)
        wrapped_optimiser.step()
        wrapped_optimiser.zero_grad()
        average.update_parameters(kept)
        means.add(losses)
        done = step + 1
        last = done == schedule.steps
        stopping = not last and _agreed(fabric, stop())
        if last or stopping or done % schedule.save_every == 0:
            if fabric.is_global_zero:
                _save(folder, done, module, average, optimiser)
            saved = True
        if last or stopping or done % schedule.report_every == 0:
            pace = (time.perf_counter() - began) / (done - first)
            report = Report(done, schedule.steps, means.taken(), pace * (schedule.steps - done), saved)
            saved = False
            if fabric.is_global_zero:
                _note(folder, report)
            yield report
        if stopping:
            raise Stopped(done)
    fabric.barrier()  # the last checkpoint is there for every process
    kept.load_state_dict(average.module.state_dict())


def steps_done(folder: Path) -> int:
    """Count the steps that the checkpoint of a folder holds; 0 where there is none."""
    return int(_checkpoint(folder)["step"]) if (folder / CHECKPOINT).is_file() else 0


def module_state(folder: Path) -> dict[str, Tensor]:
    """Read the named tensors of the module from the checkpoint of a folder: as they are, not their average."""
    state: dict[str, Tensor] = _checkpoint(folder)["module"]
    return state


def read_curve(folder: Path) -> list[dict[str, float]]:
    """Read the learning curve of a folder: the step and the losses of every report.

    What was learnt after the last checkpoint before a kill, and then again, is there once.
    """
    file = folder / CURVE
    entries: list[dict[str, float]] = []
    for line in file.read_text("utf-8").splitlines() if file.is_file() else ():
        try:
            entry = json.loads(line)
        except ValueError:  # cut off by the kill
            continue
        while entries and entries[-1]["step"] >= entry["step"]:
            entries.pop()
        entries.append(entry)
    return entries


class _Means:
    """Means of losses since they were last taken."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._number = 0

    def add(self, losses: Mapping[str, Tensor]) -> None:
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach())
        self._number += 1

    def taken(self) -> dict[str, float]:
        means = {name: total / self._number for name, total in self._sums.items()}
        self._sums, self._number = {}, 0
        return means


def _loader(batches: Batches, seed: int, first: int, last: int, rank: int, workers: int) -> DataLoader[Any]:
    return DataLoader(
        _Draws(batches, seed, first, last, rank),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_let_parent_decide,
    )


def _agreed(fabric: Fabric, wanted: bool) -> bool:
    """Whether any process was asked to stop: they must do so after the same step."""
    if fabric.world_size == 1:
        return wanted
    votes = fabric.all_reduce(torch.tensor(float(wanted), device=fabric.device), reduce_op="sum")
    return bool(votes)


def _groups(module: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices and kernels only, not for offsets and norms."""
    learnt = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in learnt if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _save(folder: Path, step: int, module: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    state = {
        "step": step,
        "module": module.state_dict(),
        "average": average.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    with replacing(folder / CHECKPOINT, overwrite=True) as file:
        torch.save(state, file)


def _resume(folder: Path, module: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """Load the checkpoint, if there is one; return the number of steps done."""
    if not (folder / CHECKPOINT).is_file():
        return 0
    state = _checkpoint(folder)
    try:
        module.load_state_dict(state["module"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
    except (RuntimeError, ValueError) as error:  # other names, other shapes
        raise WeightsError(
            f"{folder / CHECKPOINT} is of another network; train in another folder, or delete this one"
        ) from error
    return int(state["step"])


def _checkpoint(folder: Path) -> dict[str, Any]:
    file = folder / CHECKPOINT
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{file} cannot be read ({error}); delete it to begin this stage anew") from error
    return state


def _note(folder: Path, report: Report) -> None:
    """Append to the learning curve."""
    entry = {"step": report.step, "seconds_left": round(report.seconds_left), **report.losses}
    with (folder / CURVE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
