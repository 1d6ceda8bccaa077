"""``napari-fewshot train``: weights of one's own, from a recipe."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_fewshot.cli.failures import INTERRUPTED, in_one_sentence
from napari_fewshot.errors import SettingsError

if TYPE_CHECKING:  # they bring torch
    from rich.console import Console
    from rich.progress import TaskID

    from napari_fewshot.training.course import Progress


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe of the package, or path of a .toml file.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of data sets: SET/images and SET/labels, PNG or TIFF of the same names.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints, curves and weights; training-output/NAME by default.")
    ] = None,
    device: Annotated[str, typer.Option(help="cuda, mps, cpu, or 'auto' for the fastest there is.")] = "auto",
    devices: Annotated[int, typer.Option(help="Graphics cards, or processes on the CPU.", min=1)] = 1,
    nodes: Annotated[int, typer.Option(help="Computers of a cluster.", min=1)] = 1,
    precision: Annotated[
        str | None, typer.Option(help="32-true, bf16-mixed or 16-mixed; by default the recipe's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="By default the recipe's.", min=0)] = None,
    workers: Annotated[int, typer.Option(help="Processes that draw pictures ahead, for each device.", min=0)] = 1,
    install: Annotated[
        bool, typer.Option("--install", help="Put the weights where the backbone mica:NAME, or the method, finds them.")
    ] = False,
) -> None:
    """Train the network behind the backbone 'mica', or the head of a method; write weights and how they were made.

    Ctrl+C stops after the step that is being done, and the same command goes on from there.
    """
    from dataclasses import replace

    from rich.console import Console

    with in_one_sentence():
        _check_extra()
        from napari_fewshot.training.course import Course, start_engine
        from napari_fewshot.training.export import install as put_in_place
        from napari_fewshot.training.loop import Stopped
        from napari_fewshot.training.recipe import find_recipe

        found = find_recipe(recipe)
        found = replace(found, seed=found.seed if seed is None else seed, precision=precision or found.precision)
        course = Course(found, out or Path("training-output") / found.name, data, workers)
        engine = start_engine(device, devices, nodes, found.precision)
        console = Console(highlight=False, quiet=not engine.is_global_zero)
        console.print(f"Recipe {found.name}, seed {found.seed}, into {course.out}", soft_wrap=True)
        console.print("Gathering pictures ...", style="dim")
        try:
            with _stopping(console) as stop, _display(console) as show:
                for progress in course.run(engine, stop):
                    show(progress)
        except Stopped as stopped:
            console.print(
                f"Stopped after step {stopped.step}. What was learnt is saved in {course.out}; "
                "the same command goes on from there.",
                soft_wrap=True,
            )
            raise typer.Exit(INTERRUPTED) from stopped
        console.print(f"Weights: {course.weights}", soft_wrap=True)
        console.print(f"Card: {course.weights.with_suffix('.json')}", soft_wrap=True)
        if install and engine.is_global_zero:
            where = put_in_place(course.weights)
            use = found.product.use(found.stages[-1].settings, found.name)
            console.print(f"Installed as {where}; use it as {use}", soft_wrap=True)


def _check_extra() -> None:
    """Say at once what training needs beside the package."""
    missing = [name for name in ("lightning_fabric", "matplotlib", "scipy") if find_spec(name) is None]
    if missing:
        raise SettingsError(
            f'training needs {" and ".join(missing)}, not installed here: pip install "napari-fewshot[train]"'
        )


class _Asked:
    """Whether to stop, once Ctrl+C was pressed or the system wants the process to end.

    The first time it takes effect after the step that is being done; a second time, or before any step, at once.
    """

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._training = self._wanted = False

    def __call__(self) -> bool:
        self._training = True
        return self._wanted

    def note(self, *_: object) -> None:
        """Handle a signal."""
        if self._wanted or not self._training:
            raise KeyboardInterrupt
        self._wanted = True
        self._console.print("Stopping after this step; press Ctrl+C again to stop at once.", style="dim")


@contextmanager
def _stopping(console: "Console") -> Iterator[_Asked]:
    asked = _Asked(console)
    if threading.current_thread() is not threading.main_thread():  # others get no signals
        yield asked
        return
    before = {number: signal.signal(number, asked.note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _display(console: "Console") -> "Iterator[Callable[[Progress], None]]":
    """Show a bar with the losses and the time that is left on a terminal, and a line for each report elsewhere."""
    if not console.is_terminal:
        yield lambda progress: console.print(
            f"{_title(progress)}, {_left(progress)}: {_losses(progress)}", soft_wrap=True
        )
        return
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
    )
    tasks: dict[int, TaskID] = {}
    with Live(bars, console=console, refresh_per_second=4) as live:

        def show(progress: "Progress") -> None:
            report = progress.report
            if progress.stage not in tasks:
                tasks[progress.stage] = bars.add_task(progress.kind, total=report.steps, left="")
            bars.update(tasks[progress.stage], completed=report.step, left=_left(progress))
            live.update(Group(bars, Text(_losses(progress), style="dim")))

        yield show


def _title(progress: "Progress") -> str:
    of = f"stage {progress.stage} of {progress.stages} ({progress.kind})" if progress.stages > 1 else progress.kind
    return f"{of}, step {progress.report.step} of {progress.report.steps}"


def _left(progress: "Progress") -> str:
    minutes = round(progress.report.seconds_left / 60)
    if minutes < 1:
        return "done" if progress.report.step == progress.report.steps else "less than a minute left"
    return f"{minutes // 60} h {minutes % 60} min left" if minutes >= 60 else f"{minutes} min left"


def _losses(progress: "Progress") -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in progress.report.losses.items())
