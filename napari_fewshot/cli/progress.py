"""How far long work is: a bar with the time that is left on a terminal, plain lines elsewhere, JSON for programs."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import typer

if TYPE_CHECKING:
    from rich.console import Console


class Teller(Protocol):
    """Who is told what happens."""

    def say(self, text: str) -> None:
        """Say something that a person wants to read; programs are not told."""
        ...

    def fact(self, event: str, **facts: Any) -> None:
        """Tell a program; a person is told in other ways."""
        ...

    def step(self, text: str, done: int, total: int) -> None:
        """A piece of the work is done, of so many."""
        ...

    def working(self, text: str) -> None:
        """Say what is being done at the moment; shown on a terminal only."""
        ...

    def warn(self, text: str) -> None:
        """Say on stderr what went wrong while the rest goes on."""
        ...


@contextmanager
def telling(*, as_json: bool) -> Iterator[Teller]:
    """Choose how to tell."""
    if as_json:
        yield _Json()
        return
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        yield _Lines(console)
        return
    with _bar(console) as update:
        yield _Bar(console, update)


class _Json:
    def say(self, text: str) -> None:
        pass

    def fact(self, event: str, **facts: Any) -> None:
        typer.echo(json.dumps({"event": event, **facts}, ensure_ascii=False))

    def step(self, text: str, done: int, total: int) -> None:
        pass

    def working(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        typer.echo(f"napari-fewshot: {text}", err=True)


class _Lines(_Json):
    def __init__(self, console: "Console") -> None:
        self._console = console
        self._begun: tuple[float, int] | None = None

    def say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def fact(self, event: str, **facts: Any) -> None:
        pass

    def step(self, text: str, done: int, total: int) -> None:
        now = time.monotonic()
        if self._begun is None:
            self._begun = now, done  # the first one includes loading
        before, first = self._begun
        left = f", {_clock((now - before) / (done - first) * (total - done))} left" if first < done < total else ""
        self.say(f"{done} of {total}: {text}{left}")


class _Bar(_Lines):
    def __init__(self, console: "Console", update: Callable[..., None]) -> None:
        super().__init__(console)
        self._update = update

    def step(self, text: str, done: int, total: int) -> None:
        self._update(completed=done, total=total, description=text)

    def working(self, text: str) -> None:
        self._update(description=text)


@contextmanager
def _bar(console: "Console") -> Iterator[Callable[..., None]]:
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("Loading", total=None)

        def update(*, description: str, **facts: Any) -> None:
            progress.update(task, description=escape(description), **facts)

        yield update


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
