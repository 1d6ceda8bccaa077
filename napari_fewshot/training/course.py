"""A recipe carried out: stage after stage, then the weights for use and their card."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final

import torch
from lightning_fabric import Fabric
from torch import nn

from napari_fewshot.errors import SettingsError
from napari_fewshot.io.atomic import make_folder, replacing
from napari_fewshot.models.devices import choose_device, is_out_of_memory
from napari_fewshot.training.curves import draw_curve
from napari_fewshot.training.export import averaged_net, write_card, write_weights
from napari_fewshot.training.loop import CHECKPOINT, Report, module_state, steps_done, train
from napari_fewshot.training.recipe import KINDS, PRECISIONS, Recipe, Stage
from napari_fewshot.training.sources import Sources, gather
from napari_fewshot.training.stages import Bench

_BEGUN: Final = "begun.txt"
"""What is carried out in a folder, so that nothing else is by mistake."""


def start_engine(device: str = "auto", devices: int = 1, nodes: int = 1, precision: str = "32-true") -> Fabric:
    """Start Lightning Fabric, with as many further processes as there are further devices.

    Parameters
    ----------
    device
        See `choose_device`.
    devices
        How many of its kind to use on each computer.
    nodes
        How many computers, in a cluster that Lightning Fabric knows (SLURM, MPI, torchrun ...).
    precision
        One of `PRECISIONS`.

    Raises
    ------
    SettingsError
        If there is no such device, not as many, or no such precision.
    """
    kind, _, number = choose_device(device).partition(":")
    if precision not in PRECISIONS:
        raise SettingsError(f"there is no precision '{precision}'; choose one of: {', '.join(PRECISIONS)}")
    there = {"cuda": torch.cuda.device_count(), "mps": 1}.get(kind, devices)
    if devices > there or (number and devices > 1):
        raise SettingsError(f"there are {devices} devices asked for, but {1 if number else there} of '{device}' here")
    chosen: int | list[int] = [int(number)] if number else devices
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells the precision that was asked for
    fabric = Fabric(accelerator=kind, devices=chosen, num_nodes=nodes, precision=precision)  # type: ignore[arg-type]
    fabric.launch()
    return fabric


@dataclass(frozen=True)
class Progress:
    """Where a course stands: in which of its stages, and where that stands."""

    stage: int
    stages: int
    kind: str
    report: Report


@dataclass(frozen=True)
class Course:
    """One recipe, one folder.

    Attributes
    ----------
    recipe
        What is done.
    out
        Where checkpoints, learning curves and in the end weights and card are put.
    data
        Folder of data sets; None for the one that the recipe names.
    workers
        Processes that draw batches ahead, for each device.
    """

    recipe: Recipe
    out: Path
    data: Path | None = None
    workers: int = 1

    @property
    def weights(self) -> Path:
        """The file that comes out; its card lies beside it, as JSON."""
        return self.out / f"{self.recipe.name}.safetensors"

    def run(self, fabric: Fabric, stop: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
        """Train, going on where an earlier run in the same folder stopped; then write the weights and their card.

        Parameters
        ----------
        fabric
            Devices and precision, launched.
        stop
            Asked after every step whether to leave off.

        Raises
        ------
        Stopped
            If asked to; what was learnt is saved.
        SettingsError, WeightsError, ExportError
            If data or teacher are missing, or the folder holds something else or cannot be written.
        """
        data = self._data_folder()
        if fabric.is_global_zero:
            self._claim()
        fabric.barrier()
        sources = cache(partial(self._gather, data))
        for number, stage in enumerate(self.recipe.stages):
            if steps_done(self._folder(number)) < stage.schedule.steps:
                with _memory_told(number + 1):
                    yield from self._train(number, stage, sources, data, fabric, stop)
            if fabric.is_global_zero:
                draw_curve(self._folder(number), f"{self.recipe.name}, {stage.kind}")
        if fabric.is_global_zero:
            last = len(self.recipe.stages) - 1
            write_weights(self._result(last), self.weights, self.recipe.product, self.recipe.stages[last].settings)
            write_card(self.recipe, self.weights, data)

    def _train(
        self,
        number: int,
        stage: Stage,
        sources: Callable[[], Sources],
        data: Path | None,
        fabric: Fabric,
        stop: Callable[[], bool],
    ) -> Iterator[Progress]:
        torch.manual_seed(self.recipe.seed)
        before = module_state(self._folder(number - 1)) if number else {}
        bench = Bench(
            sources,
            partial(self._result, number - 1) if number else partial(self.recipe.product.begin, stage.settings),
            fabric.device,
            before,
            self.out.parent,
            f"{self.recipe.pictures} {_listing(data)}",
            self.recipe.seed,
        )
        with fabric.rank_zero_first():  # what is kept for all is made by one
            ready = KINDS[stage.kind].prepare(stage.settings, bench)
        folder = self._folder(number)
        reports = train(
            ready.module,
            ready.net,
            ready.batches,
            stage.schedule,
            folder,
            seed=self.recipe.seed,
            fabric=fabric,
            workers=self.workers,
            stop=stop,
        )
        for report in reports:
            if report.saved and fabric.is_global_zero:
                draw_curve(folder, f"{self.recipe.name}, {stage.kind}")
            yield Progress(number + 1, len(self.recipe.stages), stage.kind, report)

    def _result(self, number: int) -> nn.Module:
        """The network that a stage has made."""
        fresh = self.recipe.product.begin(self.recipe.stages[number].settings)
        return averaged_net(self._folder(number) / CHECKPOINT, fresh)

    def _folder(self, number: int) -> Path:
        return self.out / f"{number + 1}-{self.recipe.stages[number].kind}"

    def _gather(self, data: Path | None) -> Sources:
        pictures = self.recipe.pictures
        return gather(data, pictures.real, pictures.bundled, pictures.worlds, pictures.views, self.recipe.seed)

    def _data_folder(self) -> Path | None:
        """Find the data sets; None for a recipe that uses none."""
        if not self.recipe.pictures.real:
            return None
        named = self.recipe.pictures.data
        folder = self.data or (self.recipe.folder / named if named else None)
        if folder is None:
            raise SettingsError(
                f"the recipe '{self.recipe.name}' trains on data sets; name their folder: --data FOLDER"
            )
        if not folder.is_dir():
            raise SettingsError(f"{folder} is not a folder; name the one that holds the data sets: --data FOLDER")
        return folder

    def _claim(self) -> None:
        """Write down what is carried out here; refuse a folder where it was something else."""
        make_folder(self.out)
        digest = hashlib.sha256(repr((self.recipe.stages, self.recipe.pictures)).encode()).hexdigest()
        claim = f"recipe {self.recipe.name} (SHA-256 of its settings {digest}), seed {self.recipe.seed}\n"
        file = self.out / _BEGUN
        if file.is_file() and file.read_text("utf-8") != claim:
            raise SettingsError(
                f"{self.out} holds training by another recipe or seed, or by an older version of this one; "
                "choose another folder with --out, or delete this one"
            )
        with replacing(file, overwrite=True) as stream:
            stream.write(claim.encode())


def _listing(data: Path | None) -> list[tuple[str, int, int]]:
    """Every file below a folder, with its size and when it was changed."""
    files = sorted(file for file in data.rglob("*") if file.is_file()) if data is not None else []
    return [(str(f.relative_to(data)), f.stat().st_size, f.stat().st_mtime_ns) for f in files if data is not None]


@contextmanager
def _memory_told(stage: int) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise SettingsError(f"memory ran out in stage {stage}; give it a smaller batch in the recipe") from error
