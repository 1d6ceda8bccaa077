"""``napari-fewshot weights``: what trained weights there are, get them ahead, check them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_fewshot.cli.failures import FAILED, in_one_sentence

if TYPE_CHECKING:  # they bring torch
    from rich.console import Console

    from napari_fewshot.models.downloads import Report
    from napari_fewshot.models.weights import Verdict

weights = typer.Typer(
    name="weights",
    help="List, download and check the trained weights of backbones.",
    no_args_is_help=True,
)

_COLOURS: dict["Verdict", str] = {"intact": "green", "damaged": "red", "missing": "red", "no checksum": "yellow"}


@weights.command("list")
def list_them(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Further backbones, such as timm:convnext_tiny.")
    ] = None,
) -> None:
    """Show every backbone, whether its weights are on this computer, and where."""
    from rich.console import Console
    from rich.table import Table

    with in_one_sentence():
        from napari_fewshot.models import list_backbones
        from napari_fewshot.models.loading import weights_source
        from napari_fewshot.models.registry import TIMM_PREFIX
        from napari_fewshot.models.weights import locate, shipped_folder, shipped_weights

        console = Console(highlight=False)
        table = Table(title="Weights", title_justify="left")
        for heading in ("backbone", "state", "size", "licence", "where"):
            table.add_column(heading, no_wrap=heading in ("backbone", "size"), overflow="fold")
        for name in dict.fromkeys([*(card.name for card in list_backbones()), *(names or ())]):
            source = weights_source(name)
            if source is None:
                table.add_row(name, "needs none", "-", "-", "-")
                continue
            here = locate(source)
            size = here.stat().st_size if here is not None else source.size
            table.add_row(
                name,
                "[green]here[/green]" if here is not None else "[yellow]missing[/yellow]",
                _megabytes(size),
                source.licence,
                str(here or source.address),
            )
        for card in shipped_weights():
            path = shipped_folder() / card["file"]
            size = path.stat().st_size if path.is_file() else 0
            table.add_row(card["name"], "[green]shipped[/green]", _megabytes(size), card["licence"], str(path))
        console.print(table)
        console.print(
            f"Any other network of the timm library is a backbone as well: {TIMM_PREFIX}NAME. "
            "Get weights with: napari-fewshot weights fetch NAME",
            soft_wrap=True,
        )


@weights.command()
def fetch(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Backbones, see 'napari-fewshot weights list'.")
    ],
    to: Annotated[
        Path | None, typer.Option(help="Folder to copy the files into, to carry them to a computer without internet.")
    ] = None,
) -> None:
    """Download weights ahead, telling their licence first."""
    from rich.console import Console

    with in_one_sentence():
        from napari_fewshot.models import weights as stock
        from napari_fewshot.models.loading import weights_source

        console = Console(highlight=False)
        sources = {name: weights_source(name) for name in names}  # before anything is downloaded: names may be wrong
        for name, source in sources.items():
            if source is None:
                console.print(f"{name} needs no weights.")
                continue
            here = stock.locate(source)
            console.print(source.notice, soft_wrap=True)
            if here is None:
                with _progress(console, source.backbone, source.size) as report:
                    here = stock.fetch(source, report)
                console.print(f"{source.backbone} is now in {here}", soft_wrap=True)
            else:
                console.print(f"{source.backbone} was here already: {here}", soft_wrap=True)
            if to is not None:
                console.print(f"Copied to {stock.copy_into(source, to)}", soft_wrap=True)
        if to is not None:
            console.print(
                f"There, name that folder with the environment variable {stock.FOLDER_VARIABLE}, or copy its files "
                "to the folder of your own that 'napari-fewshot weights where' tells.",
                soft_wrap=True,
            )


@weights.command()
def verify() -> None:
    """Check the weights on this computer against their checksums; ends with 2 if any is damaged or missing."""
    from rich.console import Console
    from rich.table import Table

    with in_one_sentence():
        from napari_fewshot.models import weights as stock

        found = [*stock.verify_shipped(), *((path, stock.verify(path)) for path in stock.files_here())]
        console = Console(highlight=False)
        if not found:
            console.print("There are no weights on this computer.")
            return
        table = Table(title="Checksums", title_justify="left")
        table.add_column("file", overflow="fold")
        table.add_column("verdict", no_wrap=True)
        for path, verdict in found:
            table.add_row(str(path), f"[{_COLOURS[verdict]}]{verdict}[/]")
        console.print(table)
        if any(verdict in ("damaged", "missing") for _, verdict in found):
            typer.echo("napari-fewshot: delete what is damaged and fetch it again", err=True)
            raise typer.Exit(FAILED)


@weights.command()
def where() -> None:
    """Print the folders in which weights are looked for, in this order."""
    from rich.console import Console
    from rich.table import Table

    with in_one_sentence():
        from napari_fewshot.models import weights as stock

        table = Table.grid(padding=(0, 2))
        table.add_column(overflow="fold")
        table.add_column(no_wrap=True)
        for what, folder in stock.folders():
            state = f"{len(stock.weights_in(folder))} file(s)" if folder.is_dir() else "not there yet"
            table.add_row(f"{what}: {folder}", state)
        Console(highlight=False, soft_wrap=True).print(table)


@contextmanager
def _progress(console: "Console", name: str, size: int) -> "Iterator[Report]":
    """Show a bar on a terminal, and a line at the start elsewhere."""
    if not console.is_terminal:
        console.print(f"Downloading {name} ({_megabytes(size)}) ...", soft_wrap=True)
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(f"Downloading {name}", total=size or None)
        yield lambda done, total: progress.update(task, completed=done, total=total or size or None)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size else "unknown size"
