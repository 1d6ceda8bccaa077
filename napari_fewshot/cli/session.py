"""``napari-fewshot session``: what is in a saved session, without opening it in napari."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_fewshot.cli.failures import in_one_sentence

session = typer.Typer(
    name="session",
    help="Look into sessions that the dock or Session.save wrote.",
    no_args_is_help=True,
)

_Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a session.")]


@session.command()
def info(
    folder: _Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")] = False,
) -> None:
    """Check a session and show what is in it; ends with 2 if it is damaged or of a newer version."""
    with in_one_sentence():
        from napari_fewshot.session_folder import describe

        found = describe(folder)
        if as_json:
            typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
        else:
            _show(found)


@session.command()
def provenance(
    folder: _Folder,
    out: Annotated[Path, typer.Argument(metavar="FILE", help="Table to write: .csv or .json.")],
    overwrite: Annotated[bool, typer.Option(help="Replace the file if it is there.")] = False,
) -> None:
    """Write who labelled how many pixels of each frame: people, the model, or people who corrected the model."""
    with in_one_sentence():
        from napari_fewshot.io.provenance_table import write_provenance
        from napari_fewshot.session import open_session

        write_provenance(out, open_session(folder).provenance(), overwrite=overwrite)
        typer.echo(f"Wrote {out}")


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    settings = found["settings"]
    states = ", ".join(f"{count} {state}" for state, count in found["states"].items())
    rows = {
        "folder": found["folder"],
        "format": f"version {found['version']}, intact",
        "classes": ", ".join(found["classes"]) or "none",
        "frames": f"{found['frames']}" + (f" ({states})" if states else ""),
        "taught": f"{found['shots']} shot(s), {found['tags']} tag(s)",
        "open proposals": str(found["proposals"]),
        "segmenter": f"{settings['method']} on {settings['backbone']} ({settings['device']})",
        **{f"weights, {part}": key for part, key in found["weights"].items()},
        **{f"image {name}": path for name, path in found["images"].items()},
        **{f"image {name}": f"missing; it was at {path}" for name, path in found["missing"].items()},
    }
    for name, value in rows.items():
        table.add_row(name, value)
    Console(highlight=False, markup=False, soft_wrap=True).print(table)
